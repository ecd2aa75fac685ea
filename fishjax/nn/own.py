"""A network of the user's own as a `Model`: a Flax module, or a pair of functions.

`model.own` names `package.module:factory`; `factory(classes)` returns one of

- a `flax.linen.Module`, called as `module(images)`;
- a `flax.nnx.Module`; its factory is called as `factory(classes, rngs=rngs)`, so that every seed
  draws its own start;
- a pair `init(key, images) -> params`, `apply(params, images, watch) -> logits`, where
  `watch(layer, output)` returns the output to go on with and is to be called with what each
  hidden layer's activation function gets; `train` and `key` are passed where they are named.

A module whose call takes `train`, `training`, `is_training`, `deterministic` or
`use_running_average` is told. Images are float32 `[batch, size, size, 3]`, normalised.

Layers are named by the tree of parameters, its path joined with "/"; the last one called, or one
that never is, is the head, and the others that give `[batch, ..., unit]` are hidden. What a layer
gives, after the norm that it feeds if there is one, is taken for a pre-activation, and the
activity of a unit is its part above zero: right for the ReLU family. For another function, sow the
activation in "intermediates" (linen) or as `nnx.Intermediate` one step below its layer's name:
`self.sow("intermediates", "Conv_0/gelu", x)`.

`hyper.init_gain`, `bias_shift`, `leaky_slope`, `dropout` and `norm_momentum` and the section
`model` do not act on such a network. The flow along the depth is read over all layers but the head.
A study's folder pins the code by `source_digest`, and is not resumed with other code.
"""

import functools
import hashlib
import importlib
import inspect
import sys
from collections.abc import Callable, Collection, Mapping
from types import ModuleType
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import nnx

from fishjax.fields import UsageError, choose, nearest
from fishjax.nn.calls import Hook, Hooked, Touch, Trail
from fishjax.nn.layout import Layout, layout, path_of
from fishjax.nn.model import Model, Output, Probe, Variables
from fishjax.nn.modules import linen_network, nnx_network, switch
from fishjax.setup import Hyper, Setup


def adapt(setup: Setup) -> Model:
    """The network that `setup.model.own` names; it is tried on two images without compiling.

    Raises UsageError where it cannot be imported, is no network, fails on the images, or has no
    logits `[batch, class]` or no hidden layer.
    """
    return _adapted(setup.model.own, setup.classes, setup.data.image_size)


def source_digest(own: str) -> str:
    """sha256 of the source of the module that `own` names, and of the one its factory is from.

    What these import is left out. Raises UsageError for what cannot be imported.
    """
    factory = _factory(own)
    names = {own.partition(":")[0], getattr(factory, "__module__", None) or ""}
    modules = (sys.modules.get(name) for name in sorted(names))
    sources = [_source(module) for module in modules if module]
    return hashlib.sha256(repr(sources).encode()).hexdigest()


def _source(module: ModuleType) -> str:
    """The text of a module now; empty where it has none."""
    try:
        return inspect.getsource(module)
    except (OSError, TypeError):
        return ""


@functools.lru_cache(maxsize=64)
def _adapted(own: str, classes: int, size: int) -> Model:
    network = _network(own, classes)
    tried = _tried(own, network, classes, size)
    plan, sites, hidden = tried.plan, tried.sites, tried.hidden
    touched = {sites[layer]: layer for layer in hidden}

    def init(key: jax.Array, hyper: Hyper) -> Variables:
        del hyper
        params, rest = network.init(key, jnp.zeros((1, size, size, 3)))
        return Variables(plan.by_layer(params), _flat(rest))

    def apply(
        variables: Variables,
        images: jax.Array,
        hyper: Hyper,
        *,
        train: bool,
        key: jax.Array | None = None,
        probe: Probe = Probe(),
    ) -> Output:
        del hyper
        params = plan.restored(variables.params)
        rest = tried.rest.unflatten([variables.stats[name] for name in tried.stats])
        touch = Touch(probe, touched)
        logits, tapped, sown, rest = network.apply(params, rest, images, train, key, touch)
        taps = {layer: jnp.maximum(tapped[sites[layer]], 0.0) for layer in hidden}
        taps |= {_layer_of(name, hidden): x for name, x in sown.items()}
        return Output(logits, taps, _flat(rest))

    deep = max(len(tried.layers) - 1, 1)
    return Model(init, apply, tried.layers, hidden, tried.units, deep)


class _Tried(NamedTuple):
    """What a pass over two images has shown. rest: the structure of the state; stats: its names."""

    plan: Layout
    rest: Any
    stats: tuple[str, ...]
    sites: Mapping[str, str]
    layers: tuple[str, ...]
    hidden: tuple[str, ...]
    units: tuple[int, ...]


def _tried(own: str, network: Hooked, classes: int, size: int) -> _Tried:
    trail = Trail()

    def once(key: jax.Array) -> tuple:
        images = jnp.zeros((2, size, size, 3))
        params, rest = network.init(key, images)
        watching = network.apply(params, rest, images, False, None, trail)
        training = network.apply(params, rest, images, True, key, lambda *call: (None, call[-1]))
        return params, rest, watching, training[0]

    try:
        params, rest, (logits, tapped, sown, _), trained = jax.eval_shape(once, jax.random.key(0))
    except UsageError:
        raise
    except Exception as error:
        raise UsageError(
            f"model.own={own} fails on images float32[2, {size}, {size}, 3]: {_said(error)}"
        ) from error
    for answer in (logits, trained):
        _check_logits(own, answer, classes)
    plan = layout(params)
    sites = trail.sites(plan.layers)
    layers = (*sites, *(layer for layer in plan.layers if layer not in sites))
    hidden = tuple(layer for layer in layers[:-1] if sites.get(layer) in tapped)
    if not hidden:
        known = ", ".join(layers) or "none"
        raise UsageError(f"model.own={own} has no hidden layer to watch; its layers: {known}")
    _check_sown(own, sown, {layer: tapped[sites[layer]].shape for layer in hidden})
    units = tuple(tapped[sites[layer]].shape[-1] for layer in hidden)
    stats = tuple(_flat(rest))
    return _Tried(plan, jax.tree.structure(rest), stats, sites, layers, hidden, units)


def _network(own: str, classes: int) -> Hooked:
    factory = _factory(own)
    made_by = factory.__init__ if isinstance(factory, type) else factory
    try:
        if "rngs" in inspect.signature(made_by).parameters:
            return nnx_network(lambda rngs: factory(classes, rngs=rngs))
        made: Any = factory(classes)
    except (Exception, SystemExit) as error:
        about = f"{type(error).__name__}: {error}"
        raise UsageError(
            f"model.own={own} cannot be made for {classes} classes: {about}"
        ) from error
    if isinstance(made, nn.Module):
        return linen_network(made)
    if isinstance(made, tuple) and len(made) == 2 and all(map(callable, made)):
        return _pair_network(*made)
    if isinstance(made, nnx.Module):
        raise UsageError(f"model.own={own} takes no rngs, so every seed would start the same")
    raise UsageError(
        f"model.own={own} returns {type(made).__name__}, not a Flax module or a pair (init, apply)"
    )


def _factory(own: str) -> Callable:
    name, _, attribute = own.partition(":")
    if not (name and attribute):
        raise UsageError(f"model.own takes package.module:factory, not {own!r}")
    try:
        module = importlib.import_module(name)
    except (Exception, SystemExit) as error:
        raise UsageError(f"model.own={own}: {name} cannot be imported: {_said(error)}") from error
    factory = getattr(module, attribute, None)
    if not callable(factory):
        made = [key for key, value in vars(module).items() if callable(value) and key[0] != "_"]
        raise UsageError(
            f"model.own: {name} has no factory {attribute!r}{nearest(attribute, made)}"
        )
    return factory


def _pair_network(init: Callable, apply: Callable) -> Hooked:
    named = inspect.signature(apply).parameters

    def begin(key: jax.Array, images: jax.Array) -> tuple[Any, Any]:
        return init(key, images), {}

    def call(
        params: Any, rest: Any, images: jax.Array, train: bool, key: jax.Array | None, hook: Hook
    ) -> tuple[jax.Array, dict, dict, Any]:
        known = layout(params).layers
        tapped: dict[str, jax.Array] = {}

        def watch(layer: str, output: jax.Array) -> jax.Array:
            choose(layer, known, "layer")
            tap, output = hook(layer, False, None, output)
            if tap is not None:
                tapped[layer] = tap
            return output

        options = {**switch(apply, train), **({"key": key} if "key" in named else {})}
        return apply(params, images, watch, **options), tapped, {}, rest

    return Hooked(begin, call)


def _check_logits(own: str, logits: Any, classes: int) -> None:
    shape = getattr(logits, "shape", None)
    if shape != (2, classes) or logits.dtype != jnp.float32:
        found = f"{logits.dtype}{list(shape)}" if shape is not None else type(logits).__name__
        raise UsageError(f"model.own={own} returns {found}, not logits float32[2, {classes}]")


def _check_sown(own: str, sown: Mapping[str, Any], hidden: Mapping[str, tuple]) -> None:
    for name, activation in sown.items():
        layer = _layer_of(name, hidden)
        if layer not in hidden:
            near = nearest(name, [f"{each}/out" for each in hidden])
            raise UsageError(f"model.own={own} sows {name!r}, below no hidden layer{near}")
        if activation.shape != hidden[layer]:
            raise UsageError(
                f"model.own={own} sows {name} {list(activation.shape)}, but {layer} gives "
                f"{list(hidden[layer])}; sow before pooling"
            )


def _layer_of(sown: str, hidden: Collection[str]) -> str:
    """The layer whose activation was sown under this path: one step above, or the path itself."""
    return sown if sown in hidden else sown.rpartition("/")[0]


def _flat(rest: Any) -> dict[str, jax.Array]:
    leaves = jax.tree_util.tree_flatten_with_path(rest)[0]
    return {"/".join(path_of(path)): leaf for path, leaf in leaves}


def _said(error: BaseException) -> str:
    """The kind of an error and the first line of what it says."""
    return f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error) else ''}"
