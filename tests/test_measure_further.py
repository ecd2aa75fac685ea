"""The further measures against scikit-learn, SciPy, PyTorch and explicit Hessians."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.linalg
from sklearn.linear_model import RidgeClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from fishjax.measure import activations, curvature, features, noise
from fishjax.measure.flow import cosine


def test_the_histogram_equals_numpys_and_sums_to_one():
    rng = np.random.default_rng(0)
    h = (rng.normal(size=(8, 3, 3, 5)) * 10.0 ** rng.integers(-5, 5, (8, 3, 3, 5))).astype("f4")
    h[0, 0] = 0.0
    h[1, 0, 0] = [1.0, -1.0, 10.0, 0.001, -0.001]
    sides = np.float32(activations.MAGNITUDES)
    up = np.histogram(h, [*sides, np.inf])[0]
    down = np.histogram(-h, [*sides, np.inf])[0]
    expected = np.concatenate([down[::-1], [(np.abs(h) < sides[0]).sum()], up])
    got = activations.histogram(jnp.asarray(h))
    assert len(activations.BINS) == len(got) == 27
    assert list(activations.BINS) == sorted(activations.BINS)
    np.testing.assert_array_equal(np.round(np.asarray(got) * h.size), expected)
    assert float(got.sum()) == pytest.approx(1.0, abs=1e-6)


def test_moments_are_numpys():
    h = np.random.default_rng(1).normal(3.0, 2.0, (64, 4, 4, 8)).astype(np.float32)
    mean, variance = activations.moments(jnp.asarray(h))
    assert float(mean) == pytest.approx(h.mean(dtype=np.float64), rel=1e-6)
    assert float(variance) == pytest.approx(h.var(dtype=np.float64), rel=1e-5)


@pytest.mark.parametrize(
    ("activation", "share"),
    [("relu", 0.2), ("tanh", 0.4), ("sigmoid", 0.7), ("elu", 0.1), ("gelu", np.nan)],
)
def test_saturation_is_by_the_activations_own_asymptotes(activation, share):
    h = jnp.float32([0, 0, 0.97, 0.96, -0.94, 0.5, 0.5, 0.3, 0.99, -0.96]).reshape(5, 2)
    got = float(activations.saturated_share(h, activation))
    assert got == pytest.approx(share, nan_ok=True)


def test_a_dormant_unit_is_small_beside_its_layer_and_not_absolutely():
    h = np.full((6, 2, 2, 4), 1e-6, np.float32)
    h[..., 1] *= 0.005
    h[..., 2] *= -0.05
    h[..., 3] = 0.0
    shares = [float(activations.dormant_units(jnp.asarray(h), tau)) for tau in (0.0, 0.025, 0.2)]
    assert shares == [0.25, 0.5, 0.75]
    assert float(activations.dormant_units(jnp.zeros((3, 4)), 0.025)) == 1.0


@pytest.mark.parametrize("shape", [(40, 12), (10, 30)])
def test_effective_rank_equals_the_entropy_of_scipys_singular_values(shape):
    a = np.random.default_rng(2).normal(size=shape) * 0.5 ** np.arange(shape[1])
    values = scipy.linalg.svdvals(a)
    p = values / values.sum()
    expected = np.exp(-(p * np.log(p)).sum())
    assert float(features.effective_rank(jnp.float32(a))) == pytest.approx(expected, rel=1e-5)


def test_effective_rank_of_the_extremes():
    assert float(features.effective_rank(jnp.eye(5))) == pytest.approx(5.0, rel=1e-6)
    assert float(features.effective_rank(jnp.ones((7, 4)))) == pytest.approx(1.0, rel=1e-5)
    assert np.isnan(float(features.effective_rank(jnp.zeros((7, 4)))))


@pytest.mark.parametrize("width", [6, 90], ids=["narrow", "wider than the images"])
def test_the_linear_probe_equals_scikit_learn(width):
    rng = np.random.default_rng(3)
    labels = rng.choice(4, 60, p=[0.6, 0.2, 0.15, 0.05]).astype(np.int32)
    x, others = (rng.normal(size=(60, width)) + rng.normal(size=width) for _ in range(2))
    x[:, 0] += labels
    x[:, 1] = others[:, 1] = 0.1
    x, others = (each * 10.0 ** np.linspace(-2, 2, width) for each in (x, others))
    ridge = RidgeClassifier(alpha=features.PENALTY, class_weight="balanced")
    ours = features.linear_probe(jnp.float32(x), jnp.asarray(labels), 4, jnp.float32(others))
    twin = make_pipeline(StandardScaler(), ridge).fit(x, labels)
    np.testing.assert_allclose(ours, twin.decision_function(others), atol=2e-4)


def test_a_species_without_training_images_is_never_the_probes_guess():
    rng = np.random.default_rng(4)
    labels, x = np.int32([0, 1] * 10), rng.normal(size=(20, 3)).astype(np.float32)
    scores = features.linear_probe(jnp.asarray(x), jnp.asarray(labels), 3, jnp.asarray(x))
    assert np.isfinite(scores).all()
    assert (np.argmax(scores, 1) != 2).all()


def test_the_noise_scale_of_gradients_of_known_mean_and_covariance():
    """Noisy copies of one gradient: |G|^2 and the trace of the covariance are given."""
    rng = np.random.default_rng(5)
    true, deviation = rng.normal(size=40) * 0.3, 2.0
    small, count = 8, 16
    each = true + rng.normal(0, deviation / np.sqrt(small), (4000, count, 40))
    squares = jnp.float32((each**2).sum(2).mean(1)), jnp.float32((each.mean(1) ** 2).sum(1))
    read = noise.noise_scale(*squares, small, small * count)
    assert float(read["gradient_square"].mean()) == pytest.approx((true**2).sum(), rel=0.02)
    assert float(read["gradient_noise"].mean()) == pytest.approx(40 * deviation**2, rel=0.01)


def test_the_noise_scale_is_the_ratio_or_not_a_number():
    got = noise.noise_scale(jnp.float32(3.0), jnp.float32(1.0), 8, 128)
    square, scatter = (128 - 24) / 120, 2.0 / (1 / 8 - 1 / 128)
    assert float(got["noise_scale"]) == pytest.approx(scatter / square, rel=1e-6)
    lost = noise.noise_scale(jnp.float32(20.0), jnp.float32(1.0), 8, 128)
    assert float(lost["gradient_square"]) < 0
    assert np.isnan(lost["noise_scale"])


@pytest.mark.parametrize("spectrum", ["spread", "negative", "low rank"])
def test_lanczos_finds_scipys_extreme_eigenvalues(spectrum):
    rng = np.random.default_rng(6)
    values = {
        "spread": np.concatenate([[40.0, 31.0], rng.normal(size=58)]),
        "negative": -np.linspace(0.5, 50.0, 60),
        "low rank": np.concatenate([[7.0, -90.0], np.zeros(58)]),
    }[spectrum]
    q = np.linalg.qr(rng.normal(size=(60, 60)))[0]
    matrix = (q * values) @ q.T
    least, *_, top = scipy.linalg.eigvalsh(matrix)
    a, start = jnp.float32(matrix), jnp.float32(rng.normal(size=60))
    found = jax.jit(lambda v: curvature.extreme_eigenvalues(lambda x: a @ x, v))(start)
    for (got, error), expected in zip(found, (top, least), strict=True):
        assert abs(float(got) - expected) <= float(error) + 1e-4
    assert float(found[0][0]) == pytest.approx(top, abs=2e-4 * np.abs(values).max())
    assert float(found[1][0]) >= least - 2e-4 * np.abs(values).max()


def test_a_hessian_of_zeros_is_flat():
    for got, error in curvature.extreme_eigenvalues(lambda v: 0.0 * v, jnp.ones(9)):
        assert float(got) == float(error) == 0.0


@pytest.mark.parametrize(("kind", "momentum"), [("sgd", 0.0), ("sgd", 0.9), ("nesterov", 0.7)])
def test_the_stability_limit_is_where_a_quadratic_stops_converging(kind, momentum):
    """optax's own steps on `curvature / 2 * x^2`, a little below the limit and above it."""
    limit = curvature.stability_limit(kind, jnp.float32(0.1), jnp.float32(momentum))
    sgd = optax.sgd(0.1, momentum, nesterov=kind == "nesterov")
    ends = []
    for slack in (0.99, 1.01):

        def step(_, carry, slack=slack):
            x, state = carry
            update, state = sgd.update(slack * limit * x, state)
            return x + update, state

        ends.append(jax.lax.fori_loop(0, 3000, step, (jnp.float32(1), sgd.init(jnp.float32(1))))[0])
    assert abs(ends[0]) < 1e-3
    assert not abs(ends[1]) < 1e3


def test_there_is_no_limit_for_optimisers_that_precondition():
    assert np.isnan(curvature.stability_limit("adam", jnp.float32(0.1), jnp.float32(0.9)))


def test_the_cosine_of_trees_is_numpys_and_undefined_for_zero():
    rng = np.random.default_rng(7)
    a, b = ({"w": rng.normal(size=(3, 4)), "b": rng.normal(size=2)} for _ in range(2))
    flat = [np.concatenate([x["w"].ravel(), x["b"]]) for x in (a, b)]
    expected = flat[0] @ flat[1] / np.linalg.norm(flat[0]) / np.linalg.norm(flat[1])
    as_jax = [jax.tree.map(jnp.float32, x) for x in (a, b)]
    assert float(cosine(*as_jax)) == pytest.approx(expected, abs=1e-6)
    assert np.isnan(cosine(as_jax[0], jax.tree.map(jnp.zeros_like, as_jax[0])))
