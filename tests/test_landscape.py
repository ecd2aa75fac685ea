"""The slope of the training loss at every evaluation, its whole gradient: plain JAX and NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from fishjax import train
from fishjax.further import further
from fishjax.landscape import slope
from fishjax.nn import layers
from fishjax.sections import PROMPT
from tests.runs import as_arrays, make_feed, tiny
from tests.test_further import loss_of, network

SLOPE = ("flow", "gradient_cosine", "overshoot")
CHANGES = {
    "hyper__label_smoothing": 0.1,
    "hyper__lr": 0.3,
    "schedule__kind": "cosine",
    "optim__epochs": 4,
}


@pytest.fixture
def plain(monkeypatch):
    """Of a network, the gradient of the loss through XLA's own convolution."""

    def conv(x, w, stride=1, padding="SAME"):
        strides, form = (stride, stride), ("NHWC", "HWIO", "NHWC")
        return lax.conv_general_dilated(x, w, strides, padding, dimension_numbers=form)

    def of(net):
        slope = jax.jit(jax.grad(lambda params, index: loss_of(net, params, index)))

        def gradient(params, index):
            with monkeypatch.context() as patch:
                patch.setattr(layers, "conv2d", conv)
                tree = slope(params, index)
            return jax.tree.map(lambda x: np.asarray(x, np.float64), tree)

        return gradient

    return of


def vector(tree):
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])


def test_the_slope_is_that_of_the_training_loss_on_the_probes(plain):
    net = network(SLOPE, step=9, model__depth=3, **CHANGES)
    params, index = net.variables.params, net.feed.train
    gradient = plain(net)(params, index)
    other = jax.tree.map(lambda g: jnp.float32(g + 0.1), gradient)
    got, kept = jax.jit(lambda v: slope(net._replace(variables=v), other))(net.variables)
    np.testing.assert_allclose(vector(kept), vector(gradient), rtol=1e-3, atol=1e-5)
    share = [
        np.linalg.norm(gradient[layer]["kernel"]) / np.linalg.norm(params[layer]["kernel"])
        for layer in net.model.layers
    ]
    np.testing.assert_allclose(got["probe_flow"], share, rtol=1e-4)
    convs = share[:3]
    assert float(got["probe_flow_ratio"]) == pytest.approx(convs[0] / convs[2], rel=1e-4)
    line = np.polyfit(range(3), np.log10(convs), 1)[0]
    assert float(got["probe_flow_slope"]) == pytest.approx(line, rel=1e-3, abs=1e-4)
    inner = np.log10(convs[2] / convs[1])
    assert float(got["probe_inner_flow_slope"]) == pytest.approx(inner, rel=1e-3, abs=1e-4)
    a, b = vector(gradient), vector(other).astype(float)
    assert float(got["probe_gradient_norm"]) == pytest.approx(np.linalg.norm(a), rel=1e-4)
    cosine = a @ b / np.linalg.norm(a) / np.linalg.norm(b)
    assert float(got["gradient_cosine"]) == pytest.approx(cosine, abs=1e-4)
    rate = 0.3 * 0.5 * (1 + np.cos(np.pi * 8 / 16))
    moved = jax.tree.map(lambda p, g: jnp.float32(p - rate * g), params, gradient)
    loss = jax.jit(lambda params: loss_of(net, params, index))
    rise = float(loss(moved)) - float(loss(params))
    assert abs(rise) > 1e-3
    assert float(got["overshoot"]) == pytest.approx(rise, rel=1e-3, abs=1e-5)


@pytest.mark.parametrize("width", [32, 12], ids=["at once", "and a rest"])
def test_the_full_gradient_is_that_of_all_training_images(plain, width):
    net = network(("curvature",), optim__batch_size=width, model__dense=(), **CHANGES)
    got = jax.jit(lambda: further(net)["full_gradient_norm"])()
    params, train_index = net.variables.params, net.feed.train
    batches = [train_index[i : i + width] for i in range(0, 32, width)]
    gradient = plain(net)
    total = sum(len(batch) * vector(gradient(params, batch)) for batch in batches)
    assert float(got) == pytest.approx(np.linalg.norm(total) / 32, rel=1e-4)


def test_the_cosine_is_of_successive_evaluations_and_undefined_at_the_first():
    setup, hyper = tiny(watch__also=("gradient_cosine",), watch__every=1, model__dense=())
    hyper, feed, key = as_arrays(hyper), make_feed(setup), jax.random.key(3)
    assess = jax.jit(lambda state: train.assess(setup, hyper, feed, state))
    state, first = assess(jax.jit(lambda: train.begin(setup, hyper, key))())
    again, same = assess(state)
    assert np.isnan(first.slope["gradient_cosine"])
    assert float(same.slope["gradient_cosine"]) == pytest.approx(1.0, abs=1e-5)
    opposite = state._replace(gradient=jax.tree.map(jnp.negative, again.gradient))
    assert float(assess(opposite)[1].slope["gradient_cosine"]) == pytest.approx(-1.0, abs=1e-5)


@pytest.mark.parametrize("name", SLOPE)
def test_a_slope_that_is_not_watched_is_not_read(name):
    assert name in PROMPT
    with_it, hyper = tiny(watch__also=(name,))
    none, _ = tiny()
    hyper, feed = as_arrays(hyper), make_feed(none)

    def seen(setup):
        def once():
            state = train.begin(setup, hyper, jax.random.key(0))
            return train.assess(setup, hyper, feed, state)

        return jax.eval_shape(once)

    state, evaluation = seen(none)
    assert evaluation.slope == {}
    assert state.gradient == ()
    assert seen(with_it)[1].slope
    assert (seen(with_it)[0].gradient == ()) == (name != "gradient_cosine")
