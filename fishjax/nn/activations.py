"""The activations that a network can have, each a function of the pre-activation and its slope."""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp

Activation = Callable[[jax.Array, jax.Array | float], jax.Array]


def leaky_relu(x: jax.Array, slope: jax.Array | float) -> jax.Array:
    """`x` where positive, `slope * x` elsewhere; slope 0 is ReLU, with gradient 0 at 0."""
    return jnp.where(x > 0, x, slope * x)


def _smooth(function: Callable[[jax.Array], jax.Array]) -> Activation:
    return lambda x, slope: function(x)


ACTIVATIONS: Mapping[str, Activation] = {
    "relu": leaky_relu,
    "leaky_relu": leaky_relu,
    "elu": _smooth(jax.nn.elu),
    "gelu": _smooth(lambda x: jax.nn.gelu(x, approximate=False)),
    "silu": _smooth(jax.nn.silu),
    "tanh": _smooth(jnp.tanh),
    "sigmoid": _smooth(jax.nn.sigmoid),
}
"""By `model.activation`. The rectifiers are one function, told apart by the traced slope.

elu: alpha 1 (Clevert et al. 2016). gelu: exact, by the error function (Hendrycks & Gimpel 2016).
silu: x sigmoid(x) (Elfwing et al. 2018).
"""
