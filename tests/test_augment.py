"""Augmentation beside NumPy: each change, its distribution, its draws, and nothing where off."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from scipy import stats

from fishjax import augment, train
from fishjax.feed import class_counts
from fishjax.fields import UsageError
from fishjax.nn.models import build
from fishjax.setup import AugmentShape
from tests.runs import as_arrays, make_feed, tiny

COUNT, SIDES, CLASSES = 600, (8, 10), 4
ALL = AugmentShape._fields
NONE = AugmentShape(*(0.0 for _ in ALL))
EVERY = AugmentShape(flip=0.5, shift=0.25, cutout=0.5, colour=0.3, mixup=0.4)
RNG = np.random.default_rng(0)
PIXELS = RNG.normal(size=(COUNT, *SIDES, 3)).astype(np.float32)
TARGETS = np.eye(CLASSES, dtype=np.float32)[RNG.integers(0, CLASSES, COUNT)]
KEY = jax.random.key(11)


@functools.partial(jax.jit, static_argnums=0)
def apply(names, shape, key):
    return augment.augmented(names, shape, key, jnp.asarray(PIXELS), jnp.asarray(TARGETS))


def pixels_after(seed=11, **strengths):
    shape = jax.tree.map(jnp.float32, NONE._replace(**strengths))
    return np.asarray(apply(tuple(strengths), shape, jax.random.key(seed))[0])


def fits(frequencies, chances=None):
    """No sign that the counts stem from other chances."""
    return stats.chisquare(frequencies, chances).pvalue > 1e-3


def flips(after):
    turned = (after == PIXELS[:, :, ::-1]).all((1, 2, 3))
    assert (turned | (after == PIXELS).all((1, 2, 3))).all()
    return turned


def test_flip_mirrors_that_share_of_the_images():
    for chance in (0.2, 0.5):
        turned = flips(pixels_after(flip=chance)).sum()
        assert stats.binomtest(int(turned), COUNT, chance).pvalue > 1e-3
    assert flips(pixels_after(flip=1.0)).all()


def offsets(after, largest):
    """By how much each image was moved, found among all moves of its reflected surround."""
    most = [round(largest * side) for side in SIDES]
    surround = np.pad(PIXELS, ((0, 0), *((m, m) for m in most), (0, 0)), mode="reflect")
    found = np.full((COUNT, 2), 99)
    for down in range(-most[0], most[0] + 1):
        for right in range(-most[1], most[1] + 1):
            top, left = most[0] - down, most[1] - right
            moved = surround[:, top : top + SIDES[0], left : left + SIDES[1]]
            found[(after == moved).all((1, 2, 3))] = down, right
    assert (found != 99).all()
    return found


def test_shift_moves_by_uniform_whole_pixels_and_reflects():
    for largest in (0.25, 0.5):
        found = offsets(pixels_after(shift=largest), largest)
        for moved, side in zip(found.T, SIDES, strict=True):
            most = round(largest * side)
            reach = largest * side
            edges = np.clip(np.arange(-most, most + 2) - 0.5, -reach, reach)
            seen = [(moved == offset).sum() for offset in range(-most, most + 1)]
            assert fits(seen, COUNT * np.diff(edges) / (2 * reach))
        assert abs(np.corrcoef(found.T)[0, 1]) < 0.15


@pytest.mark.parametrize("size", [0.25, 0.5, 0.9])
def test_cutout_blanks_one_square_around_a_uniform_pixel(size):
    after = pixels_after(cutout=size)
    found = np.full(COUNT, -1)
    for y in range(SIDES[0]):
        for x in range(SIDES[1]):
            mask = np.ones(SIDES, bool)
            tall, wide = (round(size * side) for side in SIDES)
            top, left = y - tall // 2, x - wide // 2
            mask[max(top, 0) : top + tall, max(left, 0) : left + wide] = False
            found[(after == PIXELS * mask[..., None]).all((1, 2, 3))] = y * SIDES[1] + x
    assert (found >= 0).all()
    assert fits(np.bincount(found, minlength=np.prod(SIDES)))


def test_colour_is_brightness_then_contrast_then_gains():
    after, deviation = pixels_after(colour=0.3), 0.3
    key = jax.random.fold_in(KEY, ALL.index("colour"))
    draws = deviation * np.float64(jax.random.normal(key, (COUNT, 1, 1, 5)))
    for image, changed, draw in zip(np.float64(PIXELS), after, draws, strict=True):
        bright = image + draw[..., 0]
        contrasted = bright.mean() + np.exp(draw[..., 1]) * (bright - bright.mean())
        expected = contrasted * np.exp(draw[..., 2:])
        np.testing.assert_allclose(changed, expected, rtol=1e-5, atol=1e-5)


def test_colours_factors_have_the_deviation_asked_for():
    deviation = 0.3
    after = pixels_after(colour=deviation)
    flat, changed = (np.float64(x).reshape(COUNT, -1, 3) for x in (PIXELS, after))
    centred = flat - flat.mean(1, keepdims=True)
    slopes = np.log((centred * changed).sum(1) / (centred**2).sum(1))
    between = slopes - slopes.mean(1, keepdims=True)
    gain_variance = (between**2).sum() / (2 * COUNT)
    contrast_variance = slopes.mean(1).var(ddof=1) - gain_variance / 3
    assert gain_variance == pytest.approx(deviation**2, rel=0.15)
    assert contrast_variance == pytest.approx(deviation**2, rel=0.25)
    assert abs(slopes.mean()) < 4 * deviation / np.sqrt(COUNT)


@pytest.mark.parametrize("alpha", [0.1, 0.4, 1.0, 4.0, 16.0])
def test_mixups_share_is_beta_distributed(alpha):
    keys = jax.random.split(KEY, 20_000)
    share = np.asarray(jax.vmap(augment.mixup_share, (0, None))(keys, jnp.float32(alpha)))
    beta = stats.beta(alpha, alpha)
    at = np.linspace(0.001, 0.999, 999)
    below = np.searchsorted(np.sort(share), at) / len(share)
    assert np.abs(below - beta.cdf(at)).max() < stats.kstwobign.isf(1e-3) / np.sqrt(len(share))
    assert share.mean() == pytest.approx(0.5, abs=4 * beta.std() / np.sqrt(len(share)))
    assert share.var() == pytest.approx(beta.var(), rel=0.04)


@pytest.mark.parametrize("alpha", [1e-6, 1e-3, 0.0])
def test_mixups_share_is_finite_for_the_smallest_alpha(alpha):
    keys = jax.random.split(KEY, 1000)
    share = np.asarray(jax.vmap(augment.mixup_share, (0, None))(keys, jnp.float32(alpha)))
    assert np.isfinite(share).all()
    assert ((share == 1) | (alpha > 0)).all()
    assert ((share >= 0) & (share <= 1)).all()


def test_mixup_mixes_pixels_and_targets_with_the_same_share():
    shape = jax.tree.map(jnp.float32, NONE._replace(mixup=1.0))
    pixels, targets = apply(("mixup",), shape, KEY)
    alone = TARGETS.argmax(1) != TARGETS[::-1].argmax(1)
    share = np.asarray(targets)[alone, TARGETS.argmax(1)[alone]]
    assert 0 < share[0] < 1
    np.testing.assert_allclose(share, share[0], rtol=1e-6)
    share = np.float64(share[0])
    expected = share * TARGETS + (1 - share) * TARGETS[::-1]
    np.testing.assert_allclose(targets, expected, rtol=1e-6, atol=1e-7)
    expected = share * PIXELS + (1 - share) * PIXELS[::-1]
    np.testing.assert_allclose(pixels, expected, rtol=1e-5, atol=1e-6)


def test_strength_0_beside_an_augmented_run_changes_no_bit():
    pack = jax.tree.map(lambda *leaves: jnp.float32(leaves), EVERY, NONE)
    seen = []
    for mapping in (lax.map, lambda f, xs: jax.vmap(f)(xs)):
        run = jax.jit(lambda shapes, m=mapping: m(lambda shape: apply(ALL, shape, KEY), shapes))
        pixels, targets = jax.device_get(run(pack))
        np.testing.assert_array_equal(pixels[1], PIXELS)
        np.testing.assert_array_equal(targets[1], TARGETS)
        assert (pixels[0] != PIXELS).any((1, 2, 3)).all()
        seen.append((pixels[0], targets[0]))
    for mapped, vmapped in zip(*seen, strict=True):
        np.testing.assert_allclose(mapped, vmapped, rtol=1e-5, atol=1e-6)


def test_a_larger_strength_scales_the_same_draws():
    few, more = (flips(pixels_after(flip=chance)) for chance in (0.3, 0.6))
    assert (more | ~few).all()
    assert more.sum() > few.sum() > 0
    half, whole = (offsets(pixels_after(shift=s), s) for s in (0.25, 0.5))
    assert (np.abs(half - whole / 2) <= 0.75).all()


def test_the_other_augmentations_do_not_change_ones_draws():
    both = pixels_after(flip=0.5, cutout=0.25, colour=0.0)
    blank = both == 0
    both, mirrored = np.where(blank, PIXELS, both), np.where(blank, PIXELS, PIXELS[:, :, ::-1])
    np.testing.assert_array_equal((both == mirrored).all((1, 2, 3)), flips(pixels_after(flip=0.5)))
    np.testing.assert_array_equal(blank, pixels_after(cutout=0.25) == 0)


def test_cutout_comes_after_colour():
    after = pixels_after(flip=0.0, cutout=0.5, colour=0.3)
    assert ((after == 0).sum((1, 2, 3)) > 0).all()


def keys_of_two_steps(monkeypatch, hyper, seed):
    """The keys that the steps 0 and 1 hand on; the compiler drops the rest of the step."""
    setup, _ = tiny(augment__flip=0.5)
    model, feed, handed = build(setup), make_feed(setup), []

    def spy(names, shape, key, pixels, targets):
        handed.append(jax.random.key_data(key))
        return pixels, targets

    @jax.jit
    def key_at(hyper, key, state):
        counts = class_counts(feed, setup.classes)
        train.step(setup, model, hyper, key, feed, counts, state, feed.train[:8], state.step)
        return handed.pop()

    monkeypatch.setattr(train, "augmented", spy)
    key, hyper = jax.random.key(seed), as_arrays(hyper)
    state = train.begin(setup, hyper, key)
    steps = (state._replace(step=jnp.int32(step)) for step in (0, 1))
    return [tuple(key_at(hyper, key, state).tolist()) for state in steps]


def test_arms_of_a_seed_share_their_draws_and_steps_do_not(monkeypatch):
    _, hyper = tiny()
    one = keys_of_two_steps(monkeypatch, hyper, 3)
    arm = hyper._replace(lr=0.3, order=2.0, augment=EVERY)
    assert keys_of_two_steps(monkeypatch, arm, 3) == one
    assert one[0] != one[1]
    assert not set(one) & set(keys_of_two_steps(monkeypatch, hyper, 4))


def advance_as_text(**changes):
    setup, hyper = tiny(**changes)
    key, feed, hyper = jax.random.key(0), make_feed(setup), as_arrays(hyper)
    state = jax.eval_shape(functools.partial(train.begin, setup), hyper, key)
    return str(jax.make_jaxpr(functools.partial(train.advance, setup))(hyper, key, feed, state))


def test_what_is_off_leaves_nothing_in_the_program(monkeypatch):
    def never(*_):
        raise AssertionError("augmented() was traced")

    monkeypatch.setattr(train, "augmented", never)
    advance_as_text()
    with pytest.raises(AssertionError, match="was traced"):
        advance_as_text(augment__flip=0.5)
    trace = jax.make_jaxpr(apply, static_argnums=0)
    programs = {name: str(trace((name,), EVERY, KEY)) for name in ALL}
    assert "gather" in programs.pop("shift")
    assert not any("gather" in text for text in programs.values())


def test_no_gradient_goes_back_through_a_gather():
    strengths = {f"augment__{name}": value for name, value in EVERY._asdict().items()}
    text = advance_as_text(**strengths)
    assert "gather" in text
    assert "scatter" not in text


@pytest.mark.parametrize("size", [8, 16, 24])
@pytest.mark.parametrize(
    ("field", "change"), [("shift", augment.shifted), ("cutout", augment.cut_out)]
)
def test_half_a_pixel_does_nothing_and_is_refused_and_more_acts(field, change, size):
    pixels = jax.random.normal(KEY, (1000, size, size, 3))

    def acts(strength):
        return bool(jnp.any(change(KEY, pixels, jnp.float32(strength)) != pixels))

    assert not acts(0.5 / size)
    assert acts(0.52 / size)
    with pytest.raises(UsageError, match=f"augment.{field}.*at most half a pixel"):
        tiny(data__image_size=size, **{f"augment__{field}": 0.5 / size})
    tiny(data__image_size=size, **{f"augment__{field}": 0.52 / size})
