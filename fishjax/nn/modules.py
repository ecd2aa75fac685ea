"""Networks written with Flax, linen or nnx, as a `Hooked`: every call of a module is hooked."""

import contextlib
import functools
import inspect
import threading
from collections.abc import Callable, Iterator
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

from fishjax.nn.calls import Hook, Hooked
from fishjax.nn.conv import conv2d
from fishjax.nn.layout import path_of

_LINEN_NORMS = (nn.BatchNorm, nn.LayerNorm, nn.GroupNorm, nn.InstanceNorm, nn.RMSNorm)
_NNX_NORMS = (nnx.BatchNorm, nnx.LayerNorm, nnx.GroupNorm, nnx.InstanceNorm, nnx.RMSNorm)
_TAPS = "fishjax_taps"


def linen_network(module: nn.Module) -> Hooked:
    """A linen module. Its collections other than params are state; "intermediates" is sown."""
    call = type(module).__call__

    def init(key: jax.Array, images: jax.Array) -> tuple[Any, Any]:
        rest = dict(module.init(key, images, **switch(call, False)))
        rest.pop("intermediates", None)
        return rest.pop("params", {}), rest

    def apply(
        params: Any, rest: Any, images: jax.Array, train: bool, key: jax.Array | None, hook: Hook
    ) -> tuple[jax.Array, dict, dict, Any]:
        with nn.intercept_methods(functools.partial(_linen_call, hook, key)):
            logits, new = module.apply(
                {"params": params, **rest},
                images,
                **switch(call, train),
                rngs=None if key is None else {"params": key, "dropout": key},
                mutable=[*(rest if train else ()), "intermediates", _TAPS],
            )
        new = dict(new)
        tapped = {place.rpartition("/")[0]: x for place, x in _sown(new.pop(_TAPS, {})).items()}
        return logits, tapped, _sown(new.pop("intermediates", {})), {**rest, **new}

    return Hooked(init, apply)


def nnx_network(factory: Callable[[nnx.Rngs], nnx.Module]) -> Hooked:
    """An nnx module, made anew for every key. `nnx.Param` is trained; other variables are state."""

    def split(module: nnx.Module) -> tuple:
        return nnx.split(module, nnx.Param, nnx.RngState, ...)

    graphs = []

    def streams_of() -> Any:
        graph, _, streams, _ = split(factory(nnx.Rngs(0)))
        graphs.append(graph)
        return streams

    streams = jax.eval_shape(streams_of)

    def init(key: jax.Array, images: jax.Array) -> tuple[Any, Any]:
        _, params, _, rest = split(factory(nnx.Rngs(key)))
        return params, rest

    def apply(
        params: Any, rest: Any, images: jax.Array, train: bool, key: jax.Array | None, hook: Hook
    ) -> tuple[jax.Array, dict, dict, Any]:
        module = nnx.merge(graphs[0], params, _seeded(streams, key), rest)
        flags = {"deterministic": not train, "use_running_average": not train}
        module.set_attributes(**flags, raise_if_not_found=False)
        if key is None:
            module.set_attributes(nnx.Dropout, rate=0.0, raise_if_not_found=False)
        module.set_attributes(_plain_conv, conv_general_dilated=convolve, raise_if_not_found=False)
        forward = nnx.capture(module, nnx.Intermediate)
        with _hooked(module, hook) as tapped:
            logits, sown = forward(images, **switch(type(module).__call__, train))
        return logits, tapped, _sown(sown), split(module)[3] if train else rest

    return Hooked(init, apply)


def switch(call: Callable, train: bool) -> dict[str, Any]:
    """The keyword by which a function is told whether it is trained, if it takes one."""
    spelled = {"train": train, "training": train, "is_training": train}
    spelled |= {"deterministic": not train, "use_running_average": not train}
    taken = inspect.signature(call).parameters
    return {name: value for name, value in spelled.items() if name in taken}


def convolve(x: jax.Array, w: jax.Array, strides: Any, padding: Any, **options: Any) -> jax.Array:
    """`lax.conv_general_dilated` for Flax; by `conv2d` where that can do it.

    That is in two dimensions and float32, with square strides, no dilation, groups or stated
    precision.
    """
    options = {name: value for name, value in options.items() if value is not None}
    dilations = (*options.get("lhs_dilation", (1,)), *options.get("rhs_dilation", (1,)))
    special = {"precision", "preferred_element_type", "out_sharding"} & set(options)
    square = x.ndim == 4 and len(set(strides)) == 1 and set(dilations) == {1}
    single = x.dtype == w.dtype == jnp.float32
    if not (square and single) or special or options.get("feature_group_count", 1) != 1:
        return lax.conv_general_dilated(x, w, strides, padding, **options)
    if padding not in ("SAME", "VALID"):
        if isinstance(padding, str):
            padding = lax.padtype_to_pads(x.shape[1:3], w.shape[:2], strides, padding)
        around = ((0, 0, 0), *((low, high, 0) for low, high in padding), (0, 0, 0))
        return conv2d(lax.pad(x, jnp.zeros((), x.dtype), around), w, strides[0], "VALID")
    return conv2d(x, w, strides[0], padding)


def _linen_call(
    hook: Hook, key: jax.Array | None, call: Callable, args: tuple, kwargs: dict, context: Any
) -> Any:
    module = context.module
    if context.method_name != "__call__":
        return call(*args, **kwargs)
    if isinstance(module, nn.Conv) and module.conv_general_dilated is None:
        object.__setattr__(module, "conv_general_dilated", convolve)
    if isinstance(module, nn.Dropout) and key is None:
        object.__setattr__(module, "rate", 0.0)
    norm = isinstance(module, _LINEN_NORMS)
    tap, out = hook("/".join(module.path), norm, args[:1] and args[0], call(*args, **kwargs))
    if tap is not None:
        module.sow(_TAPS, "tap", tap)
    return out


_hooking = threading.RLock()


@contextlib.contextmanager
def _hooked(module: nnx.Module, hook: Hook) -> Iterator[dict[str, jax.Array]]:
    """Hooks every call below `module` while the block runs; yields what is tapped, by place.

    Classes are hooked, which all threads share: programs are traced in several at once, and here
    one after the other.
    """
    with _hooking:
        places = {id(part): "/".join(map(str, path)) for path, part in nnx.iter_modules(module)}
        classes = {cls for _, part in nnx.iter_modules(module) for cls in _caller(type(part))}
        originals = {cls: vars(cls)["__call__"] for cls in classes}
        tapped: dict[str, jax.Array] = {}

        def patched(original: Callable) -> Callable:
            @functools.wraps(original)
            def call(self: nnx.Module, *args: Any, **kwargs: Any) -> Any:
                out = original(self, *args, **kwargs)
                place = places.get(id(self))
                if place is None:
                    return out
                norm = isinstance(self, _NNX_NORMS)
                tap, out = hook(place, norm, args[:1] and args[0], out)
                if tap is not None:
                    tapped[place] = tap
                return out

            return call

        try:
            for cls, original in originals.items():
                cls.__call__ = patched(original)
            yield tapped
        finally:
            for cls, original in originals.items():
                cls.__call__ = original


def _caller(cls: type) -> list[type]:
    """The class that defines how instances of `cls` are called, if they can be."""
    return [each for each in cls.__mro__ if "__call__" in vars(each)][:1]


def _plain_conv(path: tuple, module: Any) -> bool:
    return isinstance(module, nnx.Conv) and module.conv_general_dilated is lax.conv_general_dilated


def _seeded(streams: Any, key: jax.Array | None) -> Any:
    """The random streams of an nnx module, each at its beginning, drawn from `key`."""
    seed = jax.random.key(0) if key is None else key
    leaves, tree = jax.tree.flatten(streams)
    fresh = [
        jax.random.fold_in(seed, i)
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        else jnp.zeros(leaf.shape, leaf.dtype)
        for i, leaf in enumerate(leaves)
    ]
    return jax.tree.unflatten(tree, fresh)


def _sown(collection: Any) -> dict[str, jax.Array]:
    """What was sown, by the path and name it was sown under; the last of several."""
    leaves = jax.tree_util.tree_flatten_with_path(collection, is_leaf=_is_many)[0]
    return {"/".join(path_of(path)): many[-1] for path, many in leaves}


def _is_many(x: Any) -> bool:
    return isinstance(x, tuple)
