"""Initial weights against `jax.nn.initializers`, SciPy's distributions and NumPy's QR."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from fishjax.nn.init import kernels
from fishjax.sections import Model
from fishjax.setup import choices
from tests.runs import as_arrays, build, tiny

KINDS = choices(Model, "init")
SHAPE = (3, 3, 24, 40)
REFERENCES = {
    "he": jax.nn.initializers.he_normal(),
    "he_uniform": jax.nn.initializers.he_uniform(),
    "glorot": jax.nn.initializers.glorot_normal(),
    "glorot_uniform": jax.nn.initializers.glorot_uniform(),
    "lecun": jax.nn.initializers.lecun_normal(),
    "lecun_uniform": jax.nn.initializers.lecun_uniform(),
    "normal": jax.nn.initializers.normal(0.01),
}


def draw(kind, shape=SHAPE, gain=1.0):
    normal = jax.random.normal(jax.random.key(0), shape)
    _, hyper = tiny(model__init=kind, hyper__init_gain=gain)
    return np.asarray(jax.jit(kernels)({"it": normal}, as_arrays(hyper))["it"])


@pytest.mark.parametrize("kind", REFERENCES)
@pytest.mark.parametrize("shape", [SHAPE, (24 * 9, 40)], ids=["convolution", "dense"])
def test_deviations_equal_those_of_jax(kind, shape):
    ours, theirs = draw(kind, shape), REFERENCES[kind](jax.random.key(1), shape)
    error = np.sqrt(1 / ours.size)
    assert ours.std() == pytest.approx(np.asarray(theirs).std(), rel=4 * error)
    assert abs(ours.mean()) < 4 * ours.std() * error


@pytest.mark.parametrize("kind", REFERENCES)
def test_the_whole_distribution_is_normal_or_uniform(kind):
    ours = draw(kind).ravel()
    fan_in, fan_out = 9 * 24, 9 * 40
    variance = {"he": 2 / fan_in, "glorot": 2 / (fan_in + fan_out), "lecun": 1 / fan_in}
    deviation = np.sqrt(variance.get(kind.removesuffix("_uniform"), 1e-4))
    shape = stats.norm(scale=deviation)
    if kind.endswith("uniform"):
        bound = np.sqrt(3) * deviation
        shape = stats.uniform(-bound, 2 * bound)
        assert np.abs(ours).max() <= bound * 1.000001
    assert stats.kstest(ours, shape.cdf).pvalue > 0.01


@pytest.mark.parametrize("shape", [(3, 3, 4, 24), (3, 3, 2, 24), (6, 16)], ids=str)
def test_orthogonal_is_numpys_qr_with_a_positive_diagonal(shape):
    normal = np.asarray(jax.random.normal(jax.random.key(0), shape), np.float64)
    ours = draw("orthogonal", shape).reshape(-1, shape[-1])
    matrix = normal.reshape(ours.shape)
    wide = matrix.shape[0] < matrix.shape[1]
    q, r = np.linalg.qr(matrix.T if wide else matrix)
    q = q * np.sign(np.diag(r))
    np.testing.assert_allclose(ours.T if wide else ours, q, atol=2e-6)
    small = ours @ ours.T if wide else ours.T @ ours
    np.testing.assert_allclose(small, np.eye(len(small)), atol=1e-6)


def test_orthogonal_equals_jax_where_the_kernel_is_tall():
    theirs = jax.nn.initializers.orthogonal()(jax.random.key(0), (3, 3, 4, 24))
    np.testing.assert_allclose(draw("orthogonal", (3, 3, 4, 24)), theirs, atol=2e-6)


def test_constant_is_one_number():
    np.testing.assert_array_equal(draw("constant", gain=3.0), np.float32(0.01) * 3)


@pytest.mark.parametrize("kind", KINDS)
def test_the_gain_multiplies(kind):
    np.testing.assert_allclose(draw(kind, (6, 4), 2.5), 2.5 * draw(kind, (6, 4)), rtol=1e-6)


def test_runs_of_every_kind_are_mapped_at_once():
    normal = jax.random.normal(jax.random.key(0), (3, 3, 2, 5))
    _, hyper = tiny()
    codes = jnp.arange(len(KINDS), dtype=jnp.float32)
    both = {"a": -normal, "b": normal}
    made = jax.jit(jax.vmap(lambda code: kernels(both, as_arrays(hyper)._replace(init=code))))
    for kind, ours in zip(KINDS, made(codes)["b"], strict=True):
        np.testing.assert_allclose(ours, draw(kind, (3, 3, 2, 5)), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("place", ["before", "after"])
def test_the_shift_goes_to_the_bias_that_feeds_the_activation(place):
    setup, hyper = tiny(
        model__norm="batch",
        model__norm_at=(1, 3),
        model__norm_place=place,
        hyper__bias_shift=-2.0,
    )
    params = build(setup).init(jax.random.key(0), as_arrays(hyper)).params
    biases = {name: float(leaf["bias"][0]) for name, leaf in params.items() if "bias" in leaf}
    shifted = {"before": {"conv0", "norm1", "dense0"}, "after": {"conv0", "conv1", "dense0"}}[place]
    assert {name for name, bias in biases.items() if bias == -2.0} == shifted
    assert set(biases.values()) == {0.0, -2.0}
    assert "head" not in biases
