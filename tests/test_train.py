"""One run and many: an independent step, packs, divergence, observers, repetition."""

import functools

import jax
import numpy as np
import pytest

from fishjax import train
from fishjax.feed import class_counts
from fishjax.nn.models import build
from fishjax.train import begin, step
from tests.packs import assert_close, assert_equal, of_run, run_pack, tiny
from tests.runs import as_arrays, make_feed

pytestmark = pytest.mark.usefixtures("shipped_code")
MAPPINGS = ["map", pytest.param("vmap", marks=pytest.mark.slow)]


def by_hand(setup, hyper, key, feed):
    """The state before the first step, and what a step of one minibatch makes of a state."""
    model, counts = build(setup), class_counts(feed, setup.classes)
    one = jax.jit(functools.partial(step, setup, model))

    def take(state, batch):
        return one(hyper, key, feed, counts, state, batch, state.step)

    return jax.jit(functools.partial(begin, setup))(hyper, key), take


@pytest.mark.parametrize("mapping", MAPPINGS)
def test_a_packed_run_equals_the_same_run_alone_over_60_steps(mapping):
    setup, hyper = tiny()
    others = [hyper._replace(lr=lr, bias_shift=0.1) for lr in (0.01, 0.02, 0.1)]
    packed, _ = run_pack(setup, [others[0], hyper, *others[1:]], [5, 3, 6, 7], mapping)
    feed = make_feed(setup)
    whole = jax.jit(functools.partial(train.train, setup))
    alone = jax.device_get(whole(as_arrays(hyper), jax.random.key(3), feed)[0])
    assert packed.step[1] == 60
    assert_close(of_run(packed, 1).variables, alone.variables, rtol=1e-3, atol=1e-5)


def test_a_runs_slot_and_neighbours_do_not_matter():
    setup, hyper = tiny()
    other = hyper._replace(lr=0.3, dropout=0.2)
    first = run_pack(setup, [hyper, other], [3, 4])
    last = run_pack(setup, [other._replace(lr=0.01), hyper], [9, 3])
    assert_equal(of_run(first, 0), of_run(last, 1))


@pytest.mark.parametrize("mapping", MAPPINGS)
def test_a_diverged_run_is_frozen_and_its_neighbours_are_bit_equal(mapping):
    setup, hyper = tiny()
    wild = hyper._replace(lr=1e30)
    state, seen = run_pack(setup, [hyper, wild, hyper._replace(lr=0.01)], [3, 4, 5], mapping)
    calm, calm_seen = run_pack(setup, [hyper, hyper, hyper._replace(lr=0.01)], [3, 4, 5], mapping)
    assert state.bad_step.tolist()[0] == state.bad_step.tolist()[2] == -1
    assert 0 <= state.bad_step[1] < 8
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state.variables))
    for slot in (0, 2):
        assert_equal(of_run(state, slot), of_run(calm, slot))
        assert_equal(of_run(seen, slot), of_run(calm_seen, slot))


def test_a_frozen_run_keeps_the_network_from_before_its_bad_step():
    setup, hyper = tiny()
    feed, hyper = make_feed(setup), as_arrays(hyper._replace(lr=1e30))
    state, take = by_hand(setup, hyper, jax.random.key(0), feed)
    for _ in range(3):
        before = state
        state, _ = take(state, feed.train[:8])
        if state.bad_step >= 0:
            break
    assert state.bad_step == before.step
    assert_equal(state.variables, before.variables)
    assert_equal(state.opt, before.opt)


def test_an_idle_slot_computes_nothing_and_changes_nothing():
    setup, hyper = tiny()
    full = run_pack(setup, [hyper, hyper], [3, 4])
    half = run_pack(setup, [hyper, hyper], [3, 4], active=[True, False])
    assert_equal(of_run(full, 0), of_run(half, 0))
    assert half[0].step[1] == 0


@pytest.mark.parametrize(
    ("norm", "watch"), [("none", "epoch"), ("none", "step"), ("batch", "epoch")], ids=str
)
def test_probes_leave_the_trajectory_bit_for_bit(norm, watch):
    states = []
    for probes in ("off", watch):
        setup, hyper = tiny(model__norm=norm, watch__flow=probes, watch__units=probes)
        states.append(run_pack(setup, [hyper, hyper._replace(lr=0.1)], [3, 4])[0])
    assert_equal(*states)


def test_per_epoch_probes_are_the_means_of_the_per_step_ones():
    fine, hyper = tiny(watch__flow="step", watch__units="step")
    coarse, _ = tiny()
    by_step = run_pack(fine, [hyper], [3])[1][1].watched
    by_epoch = run_pack(coarse, [hyper], [3])[1][1].watched
    assert by_step.flow["flow"].shape == (1, 20, 4)
    assert by_epoch.flow["flow"].shape == (1, 10, 4)
    means = jax.tree.map(lambda x: x.reshape(1, 10, 2, *x.shape[2:]).mean(2), by_step)
    assert_close(means, by_epoch, rtol=1e-5, atol=1e-6)


def test_the_same_seed_twice_gives_the_same_bytes_and_another_seed_does_not():
    setup, hyper = tiny()
    once, twice = (run_pack(setup, [hyper], [3]) for _ in range(2))
    other = run_pack(setup, [hyper], [4])
    assert_equal(once, twice)
    heads = [run[0].variables.params["head"]["kernel"] for run in (once, other)]
    assert np.any(heads[0] != heads[1])


def test_another_order_changes_the_minibatches_and_not_the_start():
    setup, hyper = tiny()
    (_, a), (_, b) = (run_pack(setup, [hyper._replace(order=o)], [3]) for o in (0.0, 1.0))
    assert_equal(a[0], b[0])
    assert np.any(a[1].loss != b[1].loss)


@pytest.mark.parametrize("norm", ["none", "batch"])
@pytest.mark.parametrize("activation", ["relu", "leaky_relu"])
def test_three_training_steps_equal_pytorch(norm, activation):
    torch = pytest.importorskip("torch")
    setup, hyper = tiny(
        model__pool_every=1,
        model__norm=norm,
        model__activation=activation,
        hyper__leaky_slope=0.2,
        hyper__weight_decay=0.01,
        hyper__clip=0.7,
        hyper__label_smoothing=0.1,
    )
    feed, hyper = make_feed(setup), as_arrays(hyper)
    state, take = by_hand(setup, hyper, jax.random.key(1), feed)
    twin = TorchTwin(torch, setup, state.variables, float(hyper.slope))
    for i in range(3):
        batch = feed.train[4 * i : 4 * i + 8]
        state, (loss, _) = take(state, batch)
        assert float(loss) == pytest.approx(twin.step(feed, batch, hyper), rel=1e-4)
    for name, leaves in twin.leaves().items():
        for leaf, value in leaves.items():
            ours = state.variables.params[name][leaf]
            np.testing.assert_allclose(ours, value, rtol=2e-3, atol=2e-5, err_msg=f"{name} {leaf}")


class TorchTwin:
    """The same network, loss and optimiser written with PyTorch's own parts."""

    def __init__(self, torch, setup, variables, slope):
        self.torch, self.depth, self.slope = torch, setup.model.depth, slope
        self.normed = setup.model.normed
        self.p = {
            name: {k: torch.tensor(np.asarray(v), requires_grad=True) for k, v in leaves.items()}
            for name, leaves in variables.params.items()
        }
        kernels = [leaves["kernel"] for leaves in self.p.values() if "kernel" in leaves]
        others = [v for leaves in self.p.values() for k, v in leaves.items() if k != "kernel"]
        self.groups = (kernels, others)
        self.sgd = None

    def step(self, feed, batch, hyper):
        torch, f = self.torch, self.torch.nn.functional
        if self.sgd is None:
            kernels = {"params": self.groups[0], "weight_decay": float(hyper.weight_decay)}
            self.sgd = torch.optim.SGD(
                [kernels, {"params": self.groups[1]}],
                lr=float(hyper.lr),
                momentum=float(hyper.momentum),
            )
        pixels = np.asarray(feed.pool)[np.asarray(batch)] / 255.0
        x = torch.tensor((pixels - 0.4) / 0.3, dtype=torch.float32).permute(0, 3, 1, 2)
        y = torch.tensor(np.asarray(feed.labels)[np.asarray(batch)].astype(np.int64))
        for i in range(self.depth):
            layer = self.p[f"conv{i}"]
            x = f.conv2d(x, layer["kernel"].permute(3, 2, 0, 1), layer.get("bias"), padding=1)
            if i in self.normed:
                norm = self.p[f"norm{i}"]
                x = f.batch_norm(x, None, None, norm["scale"], norm["bias"], training=True)
            x = f.max_pool2d(f.leaky_relu(x, self.slope), 2)
        x = x.mean((2, 3))
        x = f.leaky_relu(x @ self.p["dense0"]["kernel"] + self.p["dense0"]["bias"], self.slope)
        logits = x @ self.p["head"]["kernel"] + self.p["head"]["bias"]
        loss = f.cross_entropy(logits, y, label_smoothing=float(hyper.loss.smoothing))
        self.sgd.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.groups[0] + self.groups[1], float(hyper.clip))
        self.sgd.step()
        return loss.item()

    def leaves(self):
        return {n: {k: v.detach().numpy() for k, v in ls.items()} for n, ls in self.p.items()}
