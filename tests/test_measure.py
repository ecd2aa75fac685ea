"""Units killed on purpose are found, and no others; flow is linear; AUC equals scikit-learn."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax
from sklearn.metrics import confusion_matrix, log_loss, roc_auc_score

from fishjax import evaluate
from fishjax.evaluate import KILLED_SHARES, examine
from fishjax.measure import units
from fishjax.measure.flow import along_depth, decades, flow, norm, relative
from fishjax.measure.scores import binary_auc, fit_of_flipped, scores
from fishjax.nn.losses import cross_entropy
from fishjax.nn.model import Probe
from tests.runs import as_arrays, build, make_feed, tiny


@pytest.fixture(scope="module")
def run():
    setup, hyper = tiny(model__widths=(6, 8), hyper__bias_shift=2.0)
    model, hyper = build(setup), as_arrays(hyper)
    variables = model.init(jax.random.key(3), hyper)
    return model, hyper, make_feed(setup), variables


@pytest.fixture(scope="module")
def read(run):
    """`evaluate.read` of the run's network, compiled."""
    return jax.jit(functools.partial(evaluate.read, run[0]))


def kill(variables, layer, channels):
    """A bias so low that no image can activate the unit."""
    params = {name: dict(leaves) for name, leaves in variables.params.items()}
    bias = np.array(params[layer]["bias"])
    bias[channels] = -1e6
    params[layer]["bias"] = jnp.asarray(bias)
    return variables._replace(params=params)


@pytest.mark.parametrize(
    ("layer", "channels"), [("conv0", [1, 4]), ("conv1", [0]), ("dense0", [7])]
)
def test_units_killed_on_purpose_are_found_and_no_others(run, read, layer, channels):
    model, hyper, feed, variables = run
    position = model.hidden.index(layer)
    start = sum(model.units[:position])
    end = start + model.units[position]
    before = read(hyper, feed, variables)[1]
    after = read(hyper, feed, kill(variables, layer, channels))[1]
    history = units.follow(units.follow(units.unseen(sum(model.units)), before), after)
    expected = np.isin(np.arange(model.units[position]), channels)
    alive = np.asarray(before > 0)
    assert alive[start:end][expected].all()
    np.testing.assert_array_equal(np.asarray(after == 0)[start:end], expected | ~alive[start:end])
    np.testing.assert_array_equal(np.asarray(history.died)[start:end], expected)
    np.testing.assert_array_equal(np.asarray(after == 0)[:start], ~alive[:start])
    shares = units.unit_shares(history, after, model.units)
    assert shares["died_share"][position] == pytest.approx(expected.mean())
    assert not np.any(shares["revived_share"])


def test_a_unit_that_comes_back_is_revived_and_a_born_dead_one_never_died():
    history = units.unseen(3)
    for activity in ([0.5, 0.2, 0.0], [0.0, 0.2, 0.0], [0.1, 0.3, 0.0]):
        history = units.follow(history, jnp.float32(activity))
    assert history.born.tolist() == [True, True, False]
    assert history.died.tolist() == [True, False, False]
    assert history.revived.tolist() == [True, False, False]
    shares = units.unit_shares(history, jnp.float32([0.1, 0.3, 0.0]), (2, 1))
    assert shares["revived_share"].tolist() == [0.5, 0.0]
    assert float(units.revival(history)) == 1.0
    assert np.isnan(units.revival(units.unseen(3))), "of none there is no share"
    assert shares["dead_share"].tolist() == [0.0, 1.0]
    assert shares["born_dead_share"].tolist() == [0.0, 1.0]


def test_dead_means_active_on_less_than_one_percent_of_the_samples():
    h = np.zeros((200, 3, 3, 3), np.float32)
    h[0, 1, 2, 0] = h[:2, 0, 0, 1] = 1.0
    active = units.activity(jnp.asarray(h), jnp.ones(200)) / 200
    history = units.follow(units.unseen(3), active)
    assert np.asarray(active).tolist() == pytest.approx([0.005, 0.01, 0.0])
    assert float(units.unit_shares(history, active, (3,))["dead_share"][0]) == pytest.approx(2 / 3)


def test_a_leaky_unit_is_never_dead(run, read):
    _, hyper, feed, variables = run
    leaky = hyper._replace(slope=jnp.float32(0.1))
    active = read(leaky, feed, kill(variables, "conv1", [0, 1]))[1]
    assert np.all(np.asarray(active) > 0)


def test_a_dead_unit_gets_no_gradient_and_lets_none_through(run):
    """Claim 3.2's identity: inside the unit every gradient is exactly 0."""
    model, hyper, _, variables = run
    dead = kill(variables, "dense0", list(range(8)))
    pixels = jnp.ones((4, 8, 8, 3))

    def loss(params):
        out = model.apply(variables._replace(params=params), pixels, hyper, train=True)
        return cross_entropy(out.logits, jnp.int32([0, 1, 2, 0]), 0.0)

    grads = jax.jit(jax.grad(loss))(dead.params)
    for layer in model.hidden:
        assert not np.any(grads[layer]["kernel"])
        assert not np.any(grads[layer]["bias"])
    assert np.any(grads["head"]["bias"])


def test_the_response_to_killed_units_falls_with_the_share(run):
    model, hyper, feed, variables = run
    seen = jax.jit(functools.partial(examine, model))(hyper, jax.random.key(0), feed, variables)
    assert len(seen.blocked_gradient) == len(KILLED_SHARES)
    assert abs(float(seen.blocked_gradient[0])) < 1e-5
    assert float(seen.blocking_slope) < 0


def test_gradient_dormancy_counts_units_without_gradient():
    g = jnp.ones((5, 2, 2, 4)).at[..., 1].set(0.0).at[..., 2].set(1e-3)
    assert float(units.dormant_share(g)) == pytest.approx(0.5)
    assert float(units.dormant_share(jnp.zeros((3, 4)))) == 1.0


def test_masks_and_nudges_reach_the_named_layer_only(run):
    model, hyper, _, variables = run
    pixels = jnp.ones((2, 8, 8, 3))
    plain = model.apply(variables, pixels, hyper, train=False)
    nudge = {"conv1": jnp.full((2, 4, 4, 8), 1.0)}
    moved = model.apply(variables, pixels, hyper, train=False, probe=Probe(nudge=nudge))
    np.testing.assert_array_equal(plain.taps["conv0"], moved.taps["conv0"])
    assert np.any(plain.taps["conv1"] != moved.taps["conv1"])
    closed = Probe(mask={"dense0": jnp.zeros(8)})
    shut = model.apply(variables, pixels, hyper, train=False, probe=closed)
    np.testing.assert_array_equal(shut.logits, np.tile(variables.params["head"]["bias"], (2, 1)))


def test_the_gradient_probe_is_linear_in_the_loss_scale(run):
    model, hyper, _, variables = run
    pixels, labels = jnp.ones((3, 8, 8, 3)), jnp.int32([0, 1, 2])

    def loss(params, scale):
        out = model.apply(variables._replace(params=params), pixels, hyper, train=True)
        return scale * cross_entropy(out.logits, labels, 0.0)

    @jax.jit
    def gradient_norm(scale):
        grads = jax.grad(loss)(variables.params, scale)
        return flow(variables.params, grads, grads, model.layers).gradient_norm

    norms = [gradient_norm(scale) for scale in (1.0, 8.0)]
    np.testing.assert_allclose(norms[1], 8.0 * norms[0], rtol=1e-5)


def test_flow_is_norm_over_norm_and_its_slope_is_per_layer():
    params = {"a": {"kernel": jnp.full((2, 2), 2.0)}, "b": {"kernel": jnp.full(4, 1.0)}}
    grads = {"a": {"kernel": jnp.full((2, 2), 0.2)}, "b": {"kernel": jnp.full(4, 1.0)}}
    seen = relative(flow(params, grads, grads, ("a", "b")))
    np.testing.assert_allclose(seen["flow"], [0.1, 1.0], rtol=1e-6)
    along = along_depth(seen["flow"])
    assert float(along["flow_ratio"]) == pytest.approx(0.1)
    assert float(along["flow_slope"]) == pytest.approx(1.0, rel=1e-5)
    assert np.isnan([decades(seen["flow"][1:]), decades(seen["flow"][2:])]).all()


@pytest.mark.parametrize("size", [1e-35, 1e-25, 1e-19, 3e-11, 1e-10, 1e-3, 1e15])
def test_a_norm_is_that_of_float64_however_small_the_gradient(size):
    kernel = (size * np.random.default_rng(0).standard_normal((3, 3, 8, 8))).astype(np.float32)
    found = jax.jit(norm)(kernel)
    np.testing.assert_allclose(found, np.linalg.norm(kernel.astype(np.float64)), rtol=1e-5)


def test_norms_of_half_precision_are_float32():
    params = {"a": {"kernel": jnp.full((64, 64), 5.0, jnp.float16)}}
    grads = {"a": {"kernel": jnp.full((64, 64), 1e-4, jnp.float16)}}
    seen = flow(params, grads, grads, ("a",))
    assert seen.weight_norm.dtype == jnp.float32
    np.testing.assert_allclose(seen.weight_norm, 320.0)
    np.testing.assert_allclose(seen.gradient_norm, 0.0064, rtol=1e-3)


@pytest.mark.parametrize("width", [3, 10, 100])
def test_no_silent_unit_is_a_share_of_exactly_0(width):
    assert float(jax.jit(units.silent_share)(jnp.ones((4, width)))) == 0.0


compiled_auc = jax.jit(binary_auc)


@settings(deadline=None, max_examples=60)
@given(
    st.sampled_from([2, 3, 7, 40]).flatmap(
        lambda n: st.lists(st.tuples(st.integers(-3, 3), st.booleans()), min_size=n, max_size=n)
    )
)
def test_auc_equals_scikit_learn_with_ties(pairs):
    score = np.asarray([s for s, _ in pairs], np.float32)
    positive = np.asarray([p for _, p in pairs])
    got = float(compiled_auc(score, positive))
    if positive.all() or not positive.any():
        assert np.isnan(got)
    else:
        assert got == pytest.approx(roc_auc_score(positive, score), abs=1e-6)


@pytest.mark.parametrize(("share", "n"), [(0.25, 100_000), (0.5, 500_000), (0.01, 60_000)])
def test_auc_is_exact_where_an_int32_cannot_count_its_pairs(share, n):
    rng = np.random.default_rng(0)
    positive = rng.random(n) < share
    score = np.round(rng.normal(positive, 1.0), 3).astype(np.float32)
    got = float(compiled_auc(score, positive))
    assert got == pytest.approx(roc_auc_score(positive, score), abs=3e-7)


def test_scores_equal_scikit_learn_and_an_absent_species_is_nan():
    rng = np.random.default_rng(0)
    logits = rng.integers(-4, 4, (300, 5)).astype(np.float32)
    labels = rng.integers(0, 4, 300).astype(np.int32)
    got = jax.jit(scores)(jnp.asarray(logits), jnp.asarray(labels))
    guess = logits.argmax(1)
    p = softmax(logits.astype(np.float64), axis=1)
    assert float(got.loss) == pytest.approx(log_loss(labels, p, labels=range(5)), rel=1e-5)
    assert float(got.accuracy) == pytest.approx((guess == labels).mean())
    recalls = [(guess[labels == k] == k).mean() for k in range(4)]
    assert float(got.balanced_accuracy) == pytest.approx(np.mean(recalls), rel=1e-6)
    np.testing.assert_array_equal(got.confusion, confusion_matrix(labels, guess, labels=range(5)))
    expected = [roc_auc_score(labels == k, logits[:, k]) for k in range(4)]
    np.testing.assert_allclose(got.auc_of[:4], expected, atol=1e-6)
    assert np.isnan(got.auc_of[4])
    assert float(got.auc) == pytest.approx(np.mean(expected), abs=1e-6)


def test_the_fit_of_flipped_labels_is_a_count_and_nothing_where_none_is_flipped():
    rng = np.random.default_rng(2)
    logits = rng.normal(size=(400, 4)).astype(np.float32)
    given, clean = rng.integers(0, 4, (2, 400)).astype(np.int32)
    got = jax.jit(fit_of_flipped)(jnp.asarray(logits), jnp.asarray(given), jnp.asarray(clean))
    guess, flipped = logits.argmax(1), given != clean
    as_given, as_clean = ((guess == label)[flipped].mean() for label in (given, clean))
    assert as_given != as_clean
    assert float(got["flipped_as_given_share"]) == pytest.approx(as_given)
    assert float(got["flipped_as_clean_share"]) == pytest.approx(as_clean)
    others = (guess == given)[~flipped].mean()
    assert float(got["unflipped_as_given_share"]) == pytest.approx(others)
    none = fit_of_flipped(jnp.asarray(logits), jnp.asarray(clean), jnp.asarray(clean))
    assert float(none.pop("unflipped_as_given_share")) == pytest.approx((guess == clean).mean())
    assert all(np.isnan(share) for share in none.values())


def test_flipped_labels_are_read_only_where_the_feed_knows_of_them(run, read):
    _, hyper, feed, variables = run
    assert read(hyper, feed, variables)[2] == {}
    clean = feed.labels.at[feed.train[:3]].set((feed.labels[feed.train[:3]] + 1) % 3)
    flipped = read(hyper, feed._replace(clean=clean), variables)[2]
    shares = {f"flipped_as_{told}_share" for told in ("given", "clean")}
    assert set(flipped) == {*shares, "unflipped_as_given_share"}
    assert {round(3 * float(share), 4) for share in map(flipped.get, shares)} <= {
        0.0,
        1.0,
        2.0,
        3.0,
    }


def test_auc_is_not_binned():
    """Saturated, rare positives: 200 thresholds on probabilities would say 0.5."""
    rng = np.random.default_rng(1)
    positive = np.arange(4000) < 200
    score = (5 * rng.normal(positive * 0.8, 1.0) - 20).astype(np.float32)
    got = float(binary_auc(jnp.asarray(score), jnp.asarray(positive)))
    assert got == pytest.approx(roc_auc_score(positive, score), abs=1e-6)
