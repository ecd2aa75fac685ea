"""The network of a configuration as PyTorch computes it, from the same parameters."""

from collections.abc import Mapping
from typing import Any

import torch
from torch.nn import functional

from fishjax.sections import Model

ACTIVATIONS = {
    "relu": functional.relu,
    "leaky_relu": lambda x: functional.leaky_relu(x, 0.1),
    "elu": functional.elu,
    "gelu": functional.gelu,
    "silu": functional.silu,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
}
Params = Mapping[str, Mapping[str, torch.Tensor]]


def logits(model: Model, params: Params, images: torch.Tensor, size: int) -> torch.Tensor:
    """Logits of float64 `[batch, 3, height, width]`; batch norm by the minibatch's statistics."""
    halved, strided = model.halved_after(size), model.downsample == "stride"
    x = entrance = images
    for i in range(model.depth):
        entrance = x if i % 2 else entrance
        y = _conv(x, params[f"conv{i}"], 2 if strided and i in halved else 1)
        y = _norm(model, params, i, y, "before")
        if model.block == "residual" and i and i % 2 == 0:
            y = y + _skip(model, params, i, entrance, y, strided, halved)
        x = ACTIVATIONS[model.activation](y)
        x = _norm(model, params, i, x, "after")
        if i in halved and not strided:
            x = functional.max_pool2d(x, 2)
    x = x.mean((2, 3)) if model.head == "global" else x.permute(0, 2, 3, 1).flatten(1)
    for i in range(len(model.dense)):
        layer = model.depth + i
        y = _norm(model, params, layer, _dense(x, params[f"dense{i}"]), "before")
        x = _norm(model, params, layer, ACTIVATIONS[model.activation](y), "after")
    last = model.layer_count - 1
    return _norm(model, params, last, _dense(x, params["head"]), model.norm_place)


def _skip(
    model: Model,
    params: Params,
    i: int,
    entrance: torch.Tensor,
    y: torch.Tensor,
    strided: bool,
    halved: tuple[int, ...],
) -> torch.Tensor:
    if entrance.shape == y.shape:
        return entrance
    stride = 2 ** len({i - 1, i} & set(halved)) if strided else 2 ** ((i - 1) in halved)
    cropped = entrance[:, :, : y.shape[2] * stride, : y.shape[3] * stride]
    skip = _conv(cropped, params[f"skip{i}"], stride)
    name = f"skip{i}_norm"
    return _normed(model, params[name], skip) if name in params else skip


def _conv(x: torch.Tensor, leaves: Mapping[str, torch.Tensor], stride: int) -> torch.Tensor:
    """SAME padding as XLA lays it: the odd pixel goes below and to the right."""
    kernel = leaves["kernel"].permute(3, 2, 0, 1)
    pads = []
    for side in (x.shape[3], x.shape[2]):
        whole = max((-(-side // stride) - 1) * stride + kernel.shape[-1] - side, 0)
        pads += [whole // 2, whole - whole // 2]
    return functional.conv2d(functional.pad(x, pads), kernel, leaves.get("bias"), stride)


def _dense(x: torch.Tensor, leaves: Mapping[str, torch.Tensor]) -> torch.Tensor:
    return functional.linear(x, leaves["kernel"].T, leaves.get("bias"))


def _norm(model: Model, params: Params, layer: int, x: torch.Tensor, place: str) -> torch.Tensor:
    if layer not in model.normed or model.norm_place != place:
        return x
    return _normed(model, params[f"norm{layer}"], x)


def _normed(model: Model, leaves: Mapping[str, Any], x: torch.Tensor) -> torch.Tensor:
    scale, bias = leaves["scale"], leaves["bias"]
    if model.norm == "batch":
        return functional.batch_norm(x, None, None, scale, bias, training=True)
    if model.norm == "instance":
        return functional.instance_norm(x, weight=scale, bias=bias)
    if model.norm == "affine":
        along = (1, -1, 1, 1)[: x.ndim]
        return x * scale.reshape(along) + bias.reshape(along)
    groups = 1 if model.norm == "layer" else model.groups
    return functional.group_norm(x, groups, scale, bias)
