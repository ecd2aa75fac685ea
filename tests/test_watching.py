"""`fishjax.watch` in loops of the user's own: right numbers, any tree, an untouched trajectory."""

import dataclasses
import subprocess
import sys

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from flax.core import freeze
from jax import lax

import fishjax
from fishjax.fields import UsageError

KEYS = jax.random.split(jax.random.key(0), 8)
X = jax.random.normal(KEYS[0], (6, 5))


class Net(nn.Module):
    @nn.compact
    def __call__(self, x):
        for width in (4, 3):
            x = nn.tanh(nn.Dense(width)(x))
            self.sow("intermediates", "act", x)
        return nn.Dense(2)(x)


def loss(params, x):
    y, seen = Net().apply({"params": params}, x, mutable=["intermediates"])
    return jnp.sum(jnp.square(y)), seen["intermediates"]


def numpy_norm(x):
    return np.sqrt(np.sum(np.asarray(x, np.float64) ** 2))


def test_the_numbers_are_those_of_numpy_in_double_precision():
    params = Net().init(KEYS[1], X)["params"]
    grads, taps = jax.grad(loss, has_aux=True)(params, X)
    updates = jax.tree.map(lambda g: -0.1 * g, grads)
    seen = jax.jit(fishjax.watch, static_argnames="activation")(
        params, grads, updates, taps, activation="tanh"
    )
    assert seen.layers == ("Dense_0", "Dense_1", "Dense_2")
    weights = [numpy_norm(params[layer]["kernel"]) for layer in seen.layers]
    gradients = [numpy_norm(grads[layer]["kernel"]) for layer in seen.layers]
    flows = np.divide(gradients, weights)
    expected = {
        "weight_norm": weights,
        "gradient_norm": gradients,
        "flow": flows,
        "update_ratio": 0.1 * flows,
    }
    assert seen.flow.keys() == expected.keys()
    seen = jax.device_get(seen)
    gaps = {name: np.max(np.abs(seen.flow[name] / expected[name] - 1)) for name in expected}
    slope = np.polyfit([0, 1, 2], np.log10(flows), 1)[0]
    gaps["flow_slope"] = abs(seen.depth["flow_slope"] - slope)
    gaps["flow_ratio"] = abs(seen.depth["flow_ratio"] / (flows[0] / flows[-1]) - 1)
    print(gaps)
    assert max(gaps.values()) < 1e-6
    assert seen.taps == ("act/0", "act/1")
    flat = [np.mean(np.abs(np.asarray(h)) > 0.95) for h in taps["act"]]
    np.testing.assert_allclose(seen.units["saturated_share"], flat, rtol=1e-6)


def test_silent_units_are_those_that_are_0_on_the_whole_batch():
    h = jnp.asarray([[0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 2.0]])
    params = {"a": {"kernel": jnp.ones((2, 2))}}
    seen = fishjax.watch(params, params, activations={"a": h})
    np.testing.assert_array_equal(seen.units["silent_share"], [0.5])
    np.testing.assert_array_equal(seen.units["saturated_share"], [0.75])
    assert "update_ratio" not in seen.flow


def test_the_trajectory_is_the_same_to_the_last_bit():
    optimiser = optax.sgd(0.05, momentum=0.9)
    params = Net().init(KEYS[1], X)["params"]

    def run(watched, lower=False):
        def step(state, x):
            params, opt = state
            grads, taps = jax.grad(loss, has_aux=True)(params, x)
            updates, opt = optimiser.update(grads, opt, params)
            seen = fishjax.watch(params, grads, updates, taps) if watched else None
            return (optax.apply_updates(params, updates), opt), seen

        batches = jax.random.normal(KEYS[2], (20, 6, 5))
        whole = jax.jit(lambda: lax.scan(step, (params, optimiser.init(params)), batches))
        return whole.lower().as_text() if lower else whole()

    assert "optimization_barrier" in run(True, lower=True)
    (state, seen), (alone, _) = run(True), run(False)
    jax.tree.map(np.testing.assert_array_equal, state, alone)
    assert seen.flow["flow"].shape == (20, 3)
    last = f"{float(seen.flow['flow'][-1, 0]):.3g}"
    assert last in str(seen).splitlines()[1].split()


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class Affine:
    weight: jax.Array
    b: jax.Array


class Graph(nnx.Module):
    def __init__(self, rngs):
        self.blocks = nnx.List([nnx.Linear(3, 3, rngs=rngs) for _ in range(11)])


TREES = {
    "frozen": (freeze({"Conv_10": {"kernel": X}, "Conv_2": {"kernel": X}}), ("Conv_2", "Conv_10")),
    "list": ([{"w": X, "b": X[0]}, {"w": X}], ("0", "1")),
    "dataclass": ({"in": Affine(X, X[0]), "out": Affine(X, X[0])}, ("in", "out")),
    "bare": ({"w1": X, "w2": X, "b1": X[0]}, ("w1", "w2")),
    "several": ({"mix": {"query": X, "value": X, "bias": X}}, ("mix/query", "mix/value")),
    "nnx": (nnx.state(Graph(nnx.Rngs(0)), nnx.Param), tuple(f"blocks/{i}" for i in range(11))),
}


@pytest.mark.parametrize("name", TREES)
def test_any_tree_is_named_by_its_paths(name):
    params, layers = TREES[name]
    grads = jax.tree.map(lambda x: 2.0 * x, params)
    seen = fishjax.watch(params, grads, grads)
    assert seen.layers == layers
    np.testing.assert_allclose(seen.flow["flow"], 2.0, rtol=1e-6)


def test_an_activation_that_flax_captured_has_the_name_of_its_module():
    variables = Net().init(KEYS[1], X)
    _, new = Net().apply(variables, X, capture_intermediates=True, mutable=["intermediates"])
    seen = fishjax.watch(variables["params"], variables["params"], None, new["intermediates"])
    assert seen.taps == ("Dense_0", "Dense_1", "Dense_2", "__call__", "act/0", "act/1")


def test_the_layers_asked_for_are_watched_in_their_order():
    params = TREES["bare"][0]
    grads = {**params, "w1": 10.0 * params["w1"]}
    seen = fishjax.watch(params, grads, layers=("w2", "w1"))
    assert seen.layers == ("w2", "w1")
    np.testing.assert_allclose(seen.depth["flow_slope"], 1.0, rtol=1e-5)


def test_what_cannot_be_watched_is_refused_by_name():
    params = TREES["bare"][0]
    with pytest.raises(UsageError, match="unknown layer 'w3'; did you mean 'w"):
        fishjax.watch(params, params, layers=("w3",))
    with pytest.raises(UsageError, match="unknown activation 'tan'; did you mean 'tanh'"):
        fishjax.watch(params, params, activation="tan")
    with pytest.raises(UsageError, match="grads is another tree than params"):
        fishjax.watch(params, {"w1": X})
    with pytest.raises(UsageError, match="no kernel"):
        fishjax.watch({"b": X[0]}, {"b": X[0]})


def test_the_package_opens_without_jax():
    code = "import sys, fishjax; assert 'jax' not in sys.modules; print(fishjax.watch.__name__)"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert said.stdout == "watch\n"
