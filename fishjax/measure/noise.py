"""Gradient noise: how much of a minibatch's gradient is the luck of the draw."""

import jax
import jax.numpy as jnp


def noise_scale(
    small_square: jax.Array, big_square: jax.Array, small: int, big: int
) -> dict[str, jax.Array]:
    """The simple noise scale, from squared gradient norms at two batch sizes.

    small_square: mean squared norm of gradients of `small` images; big_square: squared norm of
    their mean over `big` images. gradient_square: unbiased |G|^2, which may come out negative;
    gradient_noise: the trace of the covariance of one image's gradient; noise_scale: their
    ratio, in images, NaN where |G|^2 is not positive (McCandlish et al. 2018, appendix A.1). Over
    several readings take the ratio of the means, not the mean of the ratios.
    """
    square = (big * big_square - small * small_square) / (big - small)
    noise = (small_square - big_square) / (1.0 / small - 1.0 / big)
    scale = jnp.where(square > 0, noise / jnp.where(square > 0, square, 1.0), jnp.nan)
    return {"gradient_square": square, "gradient_noise": noise, "noise_scale": scale}
