"""Whole networks against the same ones written with PyTorch's parts, and their probes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fishjax.nn.model import Probe, Variables
from tests.runs import CLASSES, as_arrays, build, tiny

NETS = {
    "residual, batch norm, pooled": {
        "model__block": "residual",
        "model__norm": "batch",
        "model__activation": "gelu",
        "model__depth": 5,
        "model__pool_every": 2,
        "data__image_size": 10,
    },
    "residual, pooled inside": {
        "model__block": "residual",
        "model__norm": "group",
        "model__norm_place": "after",
        "model__groups": 2,
        "model__activation": "silu",
        "model__depth": 3,
        "model__widths": (6,),
        "model__dense": (),
        "data__image_size": 11,
    },
    "residual, strided": {
        "model__block": "residual",
        "model__downsample": "stride",
        "model__activation": "leaky_relu",
        "model__head": "flatten",
        "model__depth": 5,
        "model__pool_every": 1,
        "data__image_size": 33,
    },
    "layer norm from the second convolution to the logits": {
        "model__norm": "layer",
        "model__norm_at": (1, 2, 3),
        "model__activation": "tanh",
        "model__head": "flatten",
    },
    "instance norm": {
        "model__norm": "instance",
        "model__activation": "elu",
        "model__downsample": "stride",
        "data__image_size": 9,
    },
    "batch norm after the activation, to the logits": {
        "model__norm": "batch",
        "model__norm_at": (0, 2, 3),
        "model__norm_place": "after",
        "model__activation": "sigmoid",
        "model__pool_every": 2,
    },
}


@pytest.mark.parametrize("name", NETS)
def test_logits_gradients_and_running_statistics_equal_pytorch(name):
    torch = pytest.importorskip("torch")
    setup, hyper = tiny(**NETS[name], hyper__leaky_slope=0.2, hyper__norm_momentum=0.6)
    model, hyper, rng = build(setup), as_arrays(hyper), np.random.default_rng(0)
    size = setup.data.image_size
    images = rng.normal(size=(6, size, size, 3)).astype(np.float32)
    weights = rng.normal(size=(6, CLASSES)).astype(np.float32)
    drawn = model.init(jax.random.key(0), hyper)
    start = jax.tree.map(
        lambda x: x + 0.3 * rng.normal(size=x.shape).astype(np.float32), drawn.params
    )

    @jax.jit
    def both(params):
        def loss(params):
            out = model.apply(Variables(params, drawn.stats), images, hyper, train=True)
            return jnp.sum(out.logits * weights), out

        (_, out), gradients = jax.value_and_grad(loss, has_aux=True)(params)
        still = Variables(params, out.stats)
        return out, gradients, model.apply(still, images, hyper, train=False).logits

    out, gradients, still = both(start)
    twin = Twin(torch, setup, start, float(hyper.slope))
    logits = twin.logits(images, train=True)
    close(out.logits, logits.detach())
    torch.sum(logits * torch.tensor(weights)).backward()
    for layer, leaves in start.items():
        for leaf in leaves:
            close(gradients[layer][leaf], twin.p[layer][leaf].grad, f"{layer} {leaf}")
    for layer, (mean, variance) in twin.stats.items():
        close(out.stats[layer]["mean"], mean, layer)
        close(out.stats[layer]["var"], variance, layer)
    close(still, twin.logits(images, train=False).detach())
    assert len(twin.met) == len(start)


def close(ours, theirs, message=""):
    theirs = np.asarray(theirs)
    size = max(np.abs(theirs).max(), 1.0)
    np.testing.assert_allclose(ours, theirs, rtol=2e-4, atol=2e-5 * size, err_msg=message)


class Twin:
    """The network of a setup in float64, with parts of `torch.nn.functional`."""

    def __init__(self, torch, setup, params, slope):
        self.torch, self.f, self.setup = torch, torch.nn.functional, setup
        self.p = {
            layer: {
                k: torch.tensor(np.asarray(v), dtype=torch.float64, requires_grad=True)
                for k, v in leaves.items()
            }
            for layer, leaves in params.items()
        }
        f = self.f
        self.act = {
            "relu": lambda x: f.leaky_relu(x, slope),
            "elu": f.elu,
            "gelu": f.gelu,
            "silu": f.silu,
            "tanh": torch.tanh,
            "sigmoid": torch.sigmoid,
        }[setup.model.activation]
        self.stats, self.met = {}, set()

    def logits(self, images, train):
        model, f = self.setup.model, self.f
        halved = model.halved_after(self.setup.data.image_size)
        x = self.torch.tensor(images, dtype=self.torch.float64).permute(0, 3, 1, 2)
        pool = model.downsample == "pool"
        for i in range(model.depth):
            if i % 2:
                entrance, shrink = x, []
            halving = i in halved
            y = self.conv(f"conv{i}", x, 2 if halving and not pool else 1)
            y = self.norm(i, y, train, "before")
            if i and not i % 2 and model.block == "residual":
                shrink += ["stride"] if halving and not pool else []
                y = y + self.skip(i, entrance, shrink, y.shape[1], train)
            x = self.norm(i, self.act(y), train, "after")
            if halving and pool:
                x = f.max_pool2d(x, 2)
            shrink = (["pool" if pool else "stride"] if halving else []) if i % 2 else []
        x = x.mean((2, 3)) if model.head == "global" else x.permute(0, 2, 3, 1).flatten(1)
        for i in range(len(model.dense)):
            y = self.norm(model.depth + i, self.dense(f"dense{i}", x), train, "before")
            x = self.norm(model.depth + i, self.act(y), train, "after")
        last = model.depth + len(model.dense)
        y = self.norm(last, self.dense("head", x), train, "before")
        return self.norm(last, y, train, "after")

    def skip(self, i, x, shrink, channels, train):
        """Every halving keeps one pixel of two: of an even part where a pool crops, else of all."""
        if not shrink and x.shape[1] == channels:
            return x
        for how in shrink:
            side = x.shape[2] // 2 * 2 if how == "pool" else x.shape[2]
            x = x[:, :, :side:2, :side:2]
        x = self.conv(f"skip{i}", x, 1)
        return self.norm(i, x, train, "before", f"skip{i}_norm")

    def conv(self, name, x, stride):
        self.met.add(name)
        kernel = self.p[name]["kernel"].permute(3, 2, 0, 1)
        size, side = x.shape[2], kernel.shape[2]
        around = max(stride * (-(-size // stride) - 1) + side - size, 0)
        x = self.f.pad(x, 2 * (around // 2, around - around // 2))
        return self.f.conv2d(x, kernel, self.p[name].get("bias"), stride=stride)

    def dense(self, name, x):
        self.met.add(name)
        y = x @ self.p[name]["kernel"]
        return y + self.p[name]["bias"] if "bias" in self.p[name] else y

    def norm(self, layer, x, train, place, name=None):
        model, f, name = self.setup.model, self.f, name or f"norm{layer}"
        if layer not in model.normed or place != model.norm_place:
            return x
        self.met.add(name)
        scale, bias = self.p[name]["scale"], self.p[name]["bias"]
        if model.norm == "batch":
            if train:
                over = [0, 2, 3][: x.ndim - 1]
                mean, variance = x.detach().mean(over), x.detach().var(over, unbiased=False)
                self.stats[name] = (0.4 * mean, 0.6 + 0.4 * variance)
            return f.batch_norm(x, *self.stats[name], scale, bias, training=train, momentum=0.0)
        if model.norm == "instance":
            return f.instance_norm(x, weight=scale, bias=bias)
        groups = model.groups if model.norm == "group" else 1
        return f.group_norm(x, groups, scale, bias)


@pytest.mark.parametrize("name", ["residual, batch norm, pooled", "residual, pooled inside"])
def test_every_convolution_of_a_block_can_be_nudged_and_masked(name):
    setup, hyper = tiny(**NETS[name])
    model, hyper = build(setup), as_arrays(hyper)
    size = setup.data.image_size
    images = jax.random.normal(jax.random.key(1), (2, size, size, 3))
    variables = model.init(jax.random.key(0), hyper)

    @jax.jit
    def run(nudge, mask):
        return model.apply(variables, images, hyper, train=False, probe=Probe(nudge, mask))

    plain = run({}, {})
    assert tuple(plain.taps) == model.hidden
    assert [tap.shape[-1] for tap in plain.taps.values()] == list(model.units)
    nudge = {layer: jnp.zeros(tap.shape) for layer, tap in plain.taps.items()}
    mask = {layer: jnp.ones(units) for layer, units in zip(model.hidden, model.units, strict=True)}
    base = run(nudge, mask)
    np.testing.assert_allclose(base.logits, plain.logits, rtol=1e-5, atol=1e-6)
    for layer in model.hidden:
        raised = run({**nudge, layer: nudge[layer] + 1.0}, mask)
        killed = run(nudge, {**mask, layer: 0.0 * mask[layer]})
        assert np.abs(raised.logits - base.logits).max() > 1e-4
        assert np.abs(raised.taps[layer] - base.taps[layer]).max() > 0.1
        assert np.abs(killed.logits - base.logits).max() > 1e-4
        np.testing.assert_allclose(killed.taps[layer], base.taps[layer], rtol=1e-5, atol=1e-6)


def primitives(**changes):
    setup, hyper = tiny(**changes)
    model, hyper = build(setup), as_arrays(hyper)
    size = setup.data.image_size
    variables = jax.eval_shape(lambda: model.init(jax.random.key(0), hyper))
    images = jax.ShapeDtypeStruct((2, size, size, 3), jnp.float32)

    def apply(variables, images):
        return model.apply(variables, images, hyper, train=True).logits

    return str(jax.make_jaxpr(apply)(variables, images))


def test_parts_that_are_off_leave_nothing_in_the_program():
    parts = ("rsqrt", "erf", "exp", "logistic", "tanh", "random_bits")
    assert not [part for part in parts if part in primitives()]
    assert "rsqrt" in primitives(model__norm="layer")
    assert primitives().count("conv_general_dilated[") == 2
    assert primitives(model__block="residual", model__depth=3).count("conv_general_dilated[") == 4


def test_a_share_of_one_keeps_the_running_statistics():
    setup, hyper = tiny(model__norm="batch", hyper__norm_momentum=1.0)
    model, hyper = build(setup), as_arrays(hyper)
    variables = model.init(jax.random.key(0), hyper)
    images = jax.random.normal(jax.random.key(1), (2, 8, 8, 3))
    out = model.apply(variables, images, hyper, train=True)
    jax.tree.map(np.testing.assert_array_equal, out.stats, variables.stats)
    still = model.apply(variables, images, hyper, train=False)
    assert np.abs(out.logits - still.logits).max() > 1e-3
