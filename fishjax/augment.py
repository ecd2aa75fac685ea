"""Augmentation inside the step: what a training minibatch is turned into, with traced strengths.

Every draw comes from the step's key, and strengths only scale it: runs of one seed that differ in
a strength share their random numbers, and a strength of 0 returns its input bit for bit.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from fishjax.setup import AugmentShape

Pixels = Callable[[jax.Array, jax.Array, jax.Array], jax.Array]


def augmented(
    names: tuple[str, ...],
    shape: AugmentShape,
    key: jax.Array,
    pixels: jax.Array,
    targets: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """The minibatch after the augmentations `names`, fields of `AugmentShape`; the rest is left
    out of the program.

    pixels: normalised floats `[image, height, width, channel]`; targets `[image, class]`: the
    probability of each class. Order: colour, flip, shift, cutout, mixup.
    """
    keys = {name: jax.random.fold_in(key, i) for i, name in enumerate(AugmentShape._fields)}
    for name, change in _PIXELS.items():
        if name in names:
            pixels = change(keys[name], pixels, jnp.asarray(getattr(shape, name)))
    if "mixup" in names:
        share = mixup_share(keys["mixup"], jnp.asarray(shape.mixup))
        pixels, targets = _mixed(pixels, share), _mixed(targets, share)
    return pixels, targets


def flipped(key: jax.Array, pixels: jax.Array, chance: jax.Array) -> jax.Array:
    """Each image mirrored left to right with that chance."""
    turned = jax.random.uniform(key, (len(pixels), 1, 1, 1)) < chance
    return jnp.where(turned, pixels[:, :, ::-1], pixels)


def shifted(key: jax.Array, pixels: jax.Array, largest: jax.Array) -> jax.Array:
    """Each image moved down and right by whole pixels, uniform in +-`largest` (a share of the
    side, at most 0.5) and rounded; what comes in is reflected at the edge, which is not repeated.
    """
    count, *sides = pixels.shape[:3]
    draws = jax.random.uniform(key, (2, count), minval=-1.0, maxval=1.0)
    rows, columns = (
        _reflected(jnp.round(draw * largest * side), side)
        for draw, side in zip(draws, sides, strict=True)
    )

    def moved(image: jax.Array, rows: jax.Array, columns: jax.Array) -> jax.Array:
        """Whole rows twice: a gather of single pixels is four times as slow on a CPU."""
        return jnp.swapaxes(jnp.swapaxes(image[rows], 0, 1)[columns], 0, 1)

    return jax.vmap(moved)(pixels, rows, columns)


def cut_out(key: jax.Array, pixels: jax.Array, size: jax.Array) -> jax.Array:
    """A square of 0 in each image (DeVries & Taylor 2017), the mean training pixel: its side is
    `size` of the image's, in whole pixels; its centre is any pixel, so that edges crop it.
    """
    count, *sides = pixels.shape[:3]
    draws = jax.random.uniform(key, (2, count))
    rows, columns = (
        _covered(draw, jnp.round(size * side), side)
        for draw, side in zip(draws, sides, strict=True)
    )
    return jnp.where((rows[:, :, None] & columns[:, None, :])[..., None], 0.0, pixels)


def coloured(key: jax.Array, pixels: jax.Array, deviation: jax.Array) -> jax.Array:
    """Brightness, contrast and the channels' gains of each image, jittered in this order.

    Standard normals times `deviation` are added to all values, in deviations of the training
    pixels; are the log of the factor on the distance from the image's mean; and are, for each
    channel, the log of the factor on its distance from the mean training pixel.
    """
    brightness, contrast, gains = jnp.split(
        deviation * jax.random.normal(key, (len(pixels), 1, 1, 2 + pixels.shape[-1])), (1, 2), -1
    )
    bright = pixels + brightness
    centre = jnp.mean(bright, axis=(1, 2, 3), keepdims=True)
    return (bright + jnp.expm1(contrast) * (bright - centre)) * jnp.exp(gains)


def mixup_share(key: jax.Array, alpha: jax.Array) -> jax.Array:
    """Mixup's lambda ~ Beta(alpha, alpha) (Zhang et al. 2018); 1 where alpha is 0.

    Of two uniforms in closed form (Devroye 1996, "Random variate generation in one line of code",
    the symmetric beta): 1/2 + s / (2 sqrt(1 + 1 / ((U^(-1/alpha) - 1) cos^2(2 pi V)))), s the sign
    of the cosine.
    """
    u, v = jax.random.uniform(key, (2,), minval=jnp.finfo(jnp.float32).tiny)
    cosine = jnp.cos(2.0 * jnp.pi * v)
    log_w = jnp.log(u) / jnp.where(alpha > 0, alpha, 1.0)
    across = -jnp.expm1(log_w) * cosine**2
    half = 0.5 * jnp.sign(cosine) * jnp.sqrt(across / (jnp.exp(log_w) + across))
    return jnp.where(alpha > 0, 0.5 + half, 1.0)


def _mixed(x: jax.Array, share: jax.Array) -> jax.Array:
    """`share` of each row and the rest of its partner in the reversed batch."""
    return share * x + (1.0 - share) * x[::-1]


def _reflected(offset: jax.Array, side: int) -> jax.Array:
    """Where each pixel `[image, side]` of a side moved by `offset` `[image]` comes from."""
    source = jnp.arange(side)[None, :] - offset.astype(jnp.int32)[:, None]
    return (side - 1) - jnp.abs((side - 1) - jnp.abs(source))


def _covered(draw: jax.Array, length: jax.Array, side: int) -> jax.Array:
    """Which pixels `[image, side]` lie in the `length` around the centre drawn of [0, 1)."""
    first = jnp.floor(draw * side) - jnp.floor(length / 2)
    from_first = jnp.arange(side, dtype=jnp.float32)[None, :] - first[:, None]
    return (from_first >= 0) & (from_first < length)


_PIXELS: dict[str, Pixels] = {
    "colour": coloured,
    "flip": flipped,
    "shift": shifted,
    "cutout": cut_out,
}
