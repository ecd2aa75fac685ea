"""Initial weights: unit normals made into a distribution whose kind and gain are traced."""

import math
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
from jax import lax

from fishjax.sections import Model
from fishjax.setup import Hyper, choices

SMALL = 0.01


def rescale(params: Mapping[str, Mapping[str, jax.Array]], hyper: Hyper, biased: set[str]) -> dict:
    """Makes unit-normal kernels `hyper.init`, and adds the layers `biased` their bias shift."""
    drawn = {layer: leaves["kernel"] for layer, leaves in params.items() if "kernel" in leaves}
    made = kernels(drawn, hyper)
    scaled = {}
    for layer, leaves in params.items():
        scaled[layer] = dict(leaves)
        if layer in made:
            scaled[layer]["kernel"] = made[layer]
        if layer in biased:
            scaled[layer]["bias"] = leaves["bias"] + hyper.bias_shift
    return scaled


def kernels(normals: Mapping[str, jax.Array], hyper: Hyper) -> dict[str, jax.Array]:
    """Kernels `[..., in, out]` of the kind `hyper.init`, from independent unit normals.

    The deviation is `hyper.init_gain` times: he, sqrt(2 / fan_in) (He et al. 2015, eq. 10);
    glorot, sqrt(2 / (fan_in + fan_out)) (Glorot & Bengio 2010, eq. 12); lecun, sqrt(1 / fan_in)
    (LeCun et al. 1998); normal, 0.01 (Krizhevsky et al. 2012). A name that ends in uniform is the
    uniform distribution of that deviation, the others are normal and not truncated.
    orthogonal: orthonormal columns of `[fan_in, out]`, or rows where it is wide, uniform over all
    such (Saxe et al. 2014). constant: 0.01 everywhere.
    """
    made = {}
    for shape in {normal.shape: None for normal in normals.values()}:
        alike = {layer: normal for layer, normal in normals.items() if normal.shape == shape}
        made |= _of_one_shape(alike, shape, hyper)
    return made


def _of_one_shape(normals: dict[str, jax.Array], shape: tuple[int, ...], hyper: Hyper) -> dict:
    """One loop over the kernels, so that a deep network compiles no slower.

    The normal ones are scaled outside the switch, where XLA folds the factor into the draw: their
    last digits do not depend on what other kinds there are.
    """
    kind = jnp.asarray(hyper.init, jnp.int32)
    rules = _deviations(shape)
    factor = hyper.init_gain * jnp.asarray([rules[rule] for _, rule in _KINDS], jnp.float32)[kind]
    form = jnp.asarray([_FORMS.index(form) for form, _ in _KINDS])[kind]
    stacked = jnp.stack(list(normals.values()))
    formed = lax.map(lambda draw: lax.switch(form, _FORMS, draw), stacked)
    return {
        layer: jnp.where(form == 0, normal * factor, formed[i] * factor)
        for i, (layer, normal) in enumerate(normals.items())
    }


def _normal(draw: jax.Array) -> jax.Array:
    return draw


def _uniform(draw: jax.Array) -> jax.Array:
    """Uniform with unit deviation, by the distribution function of the normal."""
    return math.sqrt(3.0) * lax.erf(draw / math.sqrt(2.0))


def _orthogonal(draw: jax.Array) -> jax.Array:
    """Q of the QR decomposition whose R has a positive diagonal, by Gram-Schmidt, each done twice.

    Not `jnp.linalg.qr`: mapped over runs on several CPU devices, its LAPACK calls wait for threads
    that they themselves hold (jaxlib 0.10).
    """
    matrix = draw.reshape(-1, draw.shape[-1])
    wide = matrix.shape[0] < matrix.shape[1]
    columns = matrix.T if wide else matrix

    def add(k: jax.Array, q: jax.Array) -> jax.Array:
        v = lax.dynamic_slice_in_dim(columns, k, 1, 1)
        for _ in range(2):
            v = v - q @ (q.T @ v)
        here = jnp.arange(q.shape[1]).reshape(1, -1) == k
        return jnp.where(here, v / jnp.linalg.norm(v), q)

    q = lax.fori_loop(0, columns.shape[1], add, jnp.zeros_like(columns))
    return (q.T if wide else q).reshape(draw.shape)


def _constant(draw: jax.Array) -> jax.Array:
    return jnp.ones_like(draw)


_FORMS: tuple[Callable[[jax.Array], jax.Array], ...] = (_normal, _uniform, _orthogonal, _constant)
_DISTRIBUTIONS: Mapping[str, tuple[Callable[[jax.Array], jax.Array], str]] = {
    "he": (_normal, "he"),
    "normal": (_normal, "small"),
    "he_uniform": (_uniform, "he"),
    "glorot": (_normal, "glorot"),
    "glorot_uniform": (_uniform, "glorot"),
    "lecun": (_normal, "lecun"),
    "lecun_uniform": (_uniform, "lecun"),
    "orthogonal": (_orthogonal, "one"),
    "constant": (_constant, "small"),
}
_KINDS = [_DISTRIBUTIONS[kind] for kind in choices(Model, "init")]


def _deviations(shape: tuple[int, ...]) -> dict[str, float]:
    fan_in = math.prod(shape[:-1])
    fan_out = math.prod(shape[:-2]) * shape[-1]
    return {
        "he": math.sqrt(2.0 / fan_in),
        "glorot": math.sqrt(2.0 / (fan_in + fan_out)),
        "lecun": math.sqrt(1.0 / fan_in),
        "small": SMALL,
        "one": 1.0,
    }
