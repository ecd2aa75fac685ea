"""The further measures of a run: against explicit references, at their epochs, off by default."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
from jax import lax
from sklearn.linear_model import RidgeClassifier
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from fishjax import train
from fishjax.engine.program import Program
from fishjax.engine.record import Record
from fishjax.further import MEASURES, features, further
from fishjax.measure.activations import BINS
from fishjax.network import Network
from fishjax.nn import layers
from fishjax.nn.models import build
from tests.hlo import as_shipped, faults
from tests.runs import as_arrays, make_feed, make_slots, tiny

COSTLY = tuple(MEASURES)


def network(also, step=0, **changes):
    setup, hyper = tiny(watch__also=also, data__train_size=32, model__norm="batch", **changes)
    hyper, model = as_arrays(hyper), build(setup)
    variables = jax.jit(model.init)(jax.random.key(3), hyper)
    when = jnp.int32(max(step - 1, 0))
    return Network(setup, model, hyper, make_feed(setup), variables, jnp.int32(step), when)


def pixels_of(net, index):
    return (net.feed.pool[index].astype(jnp.float32) / 255.0 - 0.4) / 0.3


def loss_of(net, params, index):
    """The training loss of the tests' own: weighted cross-entropy with smoothing, in train mode."""
    variables = net.variables._replace(params=params)
    out = net.model.apply(variables, pixels_of(net, index), net.hyper, train=True)
    log_p = jax.nn.log_softmax(out.logits)
    soft = 0.9 * jax.nn.one_hot(net.feed.labels[index], 3) + 0.1 / 3
    return -jnp.mean(jnp.sum(soft * log_p, axis=1))


def test_sharpness_and_least_eigenvalue_are_those_of_the_explicit_hessian(monkeypatch):
    """Forward over reverse through XLA's own convolution, and SciPy, in the place of Lanczos."""
    changes = {"hyper__label_smoothing": 0.1, "hyper__lr": 0.05, "hyper__momentum": 0.8}
    net = network(("curvature",), step=3, model__widths=(3, 4), model__dense=(5,), **changes)
    got = jax.jit(lambda v: further(net._replace(variables=v)))(net.variables)

    def plain(x, w, stride=1, padding="SAME"):
        strides, form = (stride, stride), ("NHWC", "HWIO", "NHWC")
        return lax.conv_general_dilated(x, w, strides, padding, dimension_numbers=form)

    monkeypatch.setattr(layers, "conv2d", plain)
    flat, unravel = jax.flatten_util.ravel_pytree(net.variables.params)
    loss = jax.jit(jax.hessian(lambda x: loss_of(net, unravel(x), net.feed.train)))
    least, *_, top = scipy.linalg.eigvalsh(np.asarray(loss(flat), np.float64))
    assert float(got["least_eigenvalue"]) == pytest.approx(least, rel=1e-4)
    assert float(got["least_eigenvalue_error"]) < 1e-2 * top
    assert float(got["sharpness"]) == pytest.approx(top, rel=1e-4)
    assert float(got["sharpness_error"]) < 1e-2 * top
    assert float(got["sharpness_ratio"]) == pytest.approx(0.05 * top / (2 + 2 * 0.8), rel=1e-4)


def test_the_products_with_the_hessian_use_fast_kernels_only():
    net = network(("curvature",), model__depth=1, model__dense=())
    runs = jax.tree.map(lambda x: jnp.stack([x, x]), net.variables)

    def all_runs(runs):
        return lax.map(lambda variables: further(net._replace(variables=variables)), runs)

    assert faults(as_shipped(jax.jit(all_runs).lower(runs))) == []


def test_the_noise_scale_equals_a_loop_over_micro_batches():
    net = network(("noise",), hyper__label_smoothing=0.1)
    got = further(net)
    gradient = jax.jit(jax.grad(functools.partial(loss_of, net)))
    each = []
    for batch in net.feed.train.reshape(4, 8):
        leaves = jax.tree.leaves(gradient(net.variables.params, batch))
        each.append(np.concatenate([np.asarray(leaf, np.float64).ravel() for leaf in leaves]))
    small, big = np.mean([g @ g for g in each]), np.sum(np.mean(each, 0) ** 2)
    square, noise = (32 * big - 8 * small) / 24, (small - big) / (1 / 8 - 1 / 32)
    assert float(got["gradient_square"]) == pytest.approx(square, rel=1e-4)
    assert float(got["gradient_noise"]) == pytest.approx(noise, rel=1e-4)
    assert float(got["noise_scale"]) == pytest.approx(noise / square, rel=1e-4)


def test_batch_statistics_differ_from_running_ones_until_these_are_theirs():
    net = network(("batch_stats",), optim__batch_size=32)
    fresh = net.hyper._replace(norm_momentum=jnp.float32(0))
    of_batch = net.model.apply(net.variables, pixels_of(net, net.feed.train), fresh, train=True)
    settled = net._replace(variables=net.variables._replace(stats=of_batch.stats))
    assert abs(float(further(settled)["batch_stats_loss_gap"])) < 1e-6
    assert float(further(settled)["batch_stats_accuracy_gap"]) == 0.0
    running = net.model.apply(net.variables, pixels_of(net, net.feed.train), fresh, train=False)
    gaps = []
    for logits in (of_batch.logits, running.logits):
        log_p = np.asarray(jax.nn.log_softmax(logits), np.float64)
        gaps.append(-log_p[np.arange(32), np.asarray(net.feed.labels[net.feed.train])].mean())
    assert abs(gaps[0] - gaps[1]) > 1e-2
    assert float(further(net)["batch_stats_loss_gap"]) == pytest.approx(gaps[0] - gaps[1], rel=1e-4)


def test_recomputed_statistics_are_those_of_the_training_subset_at_once():
    net = network(("recomputed",))
    net = net._replace(feed=net.feed._replace(val=net.feed.train))
    stale = net.variables._replace(stats=jax.tree.map(lambda x: x + 9.0, net.variables.stats))
    out = net.model.apply(net.variables, pixels_of(net, net.feed.train), net.hyper, train=True)
    log_p = np.asarray(jax.nn.log_softmax(out.logits), np.float64)
    labels = np.asarray(net.feed.labels[net.feed.train])
    for variables in (net.variables, stale):
        got = further(net._replace(variables=variables))
        loss = -log_p[np.arange(32), labels].mean()
        assert float(got["recomputed_val_loss"]) == pytest.approx(loss, rel=1e-4)
        assert got["recomputed_val_accuracy"] == pytest.approx((log_p.argmax(1) == labels).mean())


def test_without_batch_norm_there_is_nothing_to_recompute():
    net = network(("recomputed",), model__dense=())
    setup, _ = tiny(watch__also=("recomputed",), data__train_size=32, model__dense=())
    plain = build(setup)
    variables = plain.init(jax.random.key(3), net.hyper)
    got = further(net._replace(setup=setup, model=plain, variables=variables))
    out = plain.apply(variables, pixels_of(net, net.feed.test), net.hyper, train=False)
    labels = np.asarray(net.feed.labels[net.feed.test])
    expected = (np.argmax(out.logits, 1) == labels).mean()
    assert float(got["recomputed_test_accuracy"]) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("name", "split"), [("probe_auc_of", "train"), ("held_out_probe_auc_of", "val")]
)
def test_the_probe_of_each_species_is_scikit_learns_one_against_the_rest(name, split):
    net = network((name.removesuffix("_auc_of"),), model__dense=())
    got, fitted = further(net), getattr(net.feed, split)
    x, others = (
        np.asarray(
            features(net.model, net.model.apply(net.variables, p, net.hyper, train=False)), float
        )
        for p in (pixels_of(net, fitted), pixels_of(net, net.feed.test))
    )
    labels, truth = (np.asarray(net.feed.labels[i]) for i in (fitted, net.feed.test))
    ridge = RidgeClassifier(alpha=1.0, class_weight="balanced")
    scores = make_pipeline(StandardScaler(), ridge).fit(x, labels).decision_function(others)
    expected = [roc_auc_score(truth == k, scores[:, k]) for k in range(3)]
    np.testing.assert_allclose(got[name], expected, atol=1e-6)


def test_features_are_the_last_hidden_layers():
    net = network(("features",), model__dense=())
    out = net.model.apply(net.variables, pixels_of(net, net.feed.train), net.hyper, train=False)
    values = scipy.linalg.svdvals(np.asarray(out.taps["conv1"], np.float64).mean((1, 2)))
    p = values / values.sum()
    expected = np.exp(-(p * np.log(p)).sum())
    assert features(net.model, out).shape == (32, 6)
    assert float(further(net)["effective_rank"]) == pytest.approx(expected, rel=1e-4)


def test_mapped_and_vectorised_runs_read_the_same():
    net = network(COSTLY, model__depth=1, model__dense=())
    both = jax.tree.map(lambda x: jnp.stack([x, 1.5 * x]), net.variables)

    def one(variables):
        return further(net._replace(variables=variables))

    mapped = jax.jit(lambda runs: lax.map(one, runs))(both)
    vectorised = jax.jit(jax.vmap(one))(both)
    assert len(mapped) == 26
    for name, values in mapped.items():
        np.testing.assert_allclose(values, vectorised[name], rtol=2e-3, atol=1e-4, err_msg=name)


@pytest.fixture(scope="module")
def record():
    """A pack of two runs that are measured after every second epoch."""
    also = ("activations", "features", "cosine", "probe", "flow", "gradient_cosine", "overshoot")
    setup, hyper = tiny(watch__also=also, watch__every=1, watch__also_every=2, model__dense=())
    shared, slots = make_slots([hyper, hyper._replace(lr=0.1)], [3, 4], make_feed(setup))
    program = Program(setup, "map")
    kept = Record(setup, build(setup), ("a", "b", "c"))
    state = program.begin(shared, slots)
    for chunk in range(5):
        if chunk:
            state, trace = program.advance(shared, slots, state)
            kept.traces.append(jax.device_get(trace))
        state, evaluation = program.assess(shared, slots, state)
        kept.evaluations.append(jax.device_get(evaluation))
    kept.examination = jax.device_get(program.finish(shared, slots, state))
    return kept


def test_the_measures_stand_at_their_epochs_in_the_table(record):
    table = record.metrics(0).to_pandas()
    for name, dim, parts in (
        ("effective_rank", "", 1),
        ("activation_mean", "layer", 2),
        ("activation_histogram_conv1", "bin", 27),
        ("probe_auc_of", "species", 3),
    ):
        rows = table[table["metric"] == name]
        assert rows["epoch"].drop_duplicates().tolist() == [0, 2, 4], name
        assert set(rows["dim"]) == {dim}
        assert len(rows) == 3 * parts
        assert rows["value"].notna().all()
    cosines = table[table["metric"] == "update_cosine"]
    assert cosines["epoch"].tolist() == [1, 2, 3, 4]
    assert cosines["value"].between(-1, 1).all()
    between = record.evaluations[1].further
    assert all(np.isnan(values).all() for values in between.values())


def test_the_slope_stands_at_every_evaluation_in_the_table(record):
    table = record.metrics(0).to_pandas()
    for name, parts in (
        ("probe_flow", ["conv0", "conv1", "head"]),
        *((name, [""]) for name in ("probe_flow_slope", "probe_flow_ratio", "overshoot")),
        *((name, [""]) for name in ("probe_gradient_norm", "gradient_cosine")),
    ):
        rows = table[table["metric"] == name]
        assert rows["epoch"].drop_duplicates().tolist() == [0, 1, 2, 3, 4], name
        assert rows["part"].drop_duplicates().tolist() == parts
        missing = rows[rows["value"].isna()]["epoch"].tolist()
        assert missing == ([0] if name == "gradient_cosine" else [])


def test_a_histogram_of_a_layer_sums_to_one(record):
    table = record.metrics(1).to_pandas()
    rows = table[table["metric"] == "activation_histogram_conv0"]
    assert rows.groupby("epoch")["value"].sum().tolist() == pytest.approx([1, 1, 1], abs=1e-6)
    assert sorted(float(edge) for edge in rows["part"].unique()) == list(BINS)


def test_the_cosine_is_that_of_successive_moves_and_leaves_the_trajectory():
    changes = {"optim__batch_size": 16, "watch__every": 1, "hyper__lr": 0.2, "model__dense": ()}
    states, advances = [], []
    feed, key = make_feed(tiny()[0]), jax.random.key(3)
    for also in ((), ("cosine",)):
        setup, hyper = tiny(watch__also=also, **changes)
        states.append(train.begin(setup, as_arrays(hyper), key))
        advances.append(jax.jit(functools.partial(train.advance, setup, as_arrays(hyper), key)))
    assert states[0].last == ()
    moves, cosines = [], []
    for _ in range(4):
        before = states[1].variables.params
        states[0], _ = advances[0](feed, states[0])
        states[1], trace = advances[1](feed, states[1])
        moved = jax.tree.map(lambda new, old: new - old, states[1].variables.params, before)
        moves.append(np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(moved)]))
        cosines.append(float(trace.watched.steps["update_cosine"][0]))
    assert np.isnan(cosines[0])
    for now, last, cosine in zip(moves[1:], moves, cosines[1:], strict=False):
        expected = now @ last / np.linalg.norm(now) / np.linalg.norm(last)
        assert cosine == pytest.approx(expected, abs=1e-4)
    jax.tree.map(np.testing.assert_array_equal, states[0].variables, states[1].variables)


@pytest.mark.parametrize("name", COSTLY)
def test_a_measure_that_is_off_is_not_read(name):
    setup, _ = tiny(watch__also=(name,))
    none, hyper = tiny()
    feed, key, hyper = make_feed(none), jax.random.key(0), as_arrays(hyper)
    state = jax.eval_shape(lambda: train.begin(none, hyper, key))

    def finished(setup):
        return jax.eval_shape(lambda s: train.finish(setup, hyper, key, feed, s), state).further

    def assessed(setup):
        return jax.eval_shape(lambda s: train.assess(setup, hyper, feed, s)[1], state).further

    assert finished(none) == assessed(none) == assessed(setup) == {}
    assert finished(setup)
