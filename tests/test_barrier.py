"""The line between two networks against a loop in PyTorch, with and without fresh statistics."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fishjax.barrier import barrier
from fishjax.config import Config
from fishjax.fields import UsageError
from fishjax.settings import override
from fishjax.setup import lower
from fishjax.trained import Trained
from tests.runs import CLASSES, TINY, as_arrays, build

SPECIES = ("a", "b", "c")


def network(seed, norm="batch", **changes):
    """Random weights, and running statistics that fit neither network."""
    config = override(Config(), {**TINY, "model.norm": norm, **changes})
    setup, hyper = lower(config, CLASSES)
    variables = build(setup).init(jax.random.key(seed), as_arrays(hyper))
    stats = jax.tree.map(lambda x: x + 0.5 * seed, variables.stats)
    mean, deviation = jnp.full(3, 0.4 + 0.05 * seed), jnp.full(3, 0.3)
    return Trained(config, SPECIES, variables._replace(stats=stats), mean, deviation)


@pytest.fixture(scope="module")
def images():
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (20, 8, 8, 3), dtype=np.uint8), rng.integers(0, 3, 20)


@pytest.mark.parametrize("norm", ["none", "batch"])
def test_the_barrier_equals_a_loop_in_pytorch(images, norm):
    torch = pytest.importorskip("torch")
    f = torch.nn.functional
    a, b = network(0, norm), network(1, norm)
    pixels, labels = images
    losses = []
    for share in np.linspace(0, 1, 5):

        def at(x, y, share=share):
            mixed = (1 - share) * np.asarray(x, np.float64) + share * np.asarray(y, np.float64)
            return torch.tensor(mixed)

        p = jax.tree.map(at, a.variables.params, b.variables.params)
        mean, deviation = at(a.mean, b.mean), at(a.deviation, b.deviation)
        x = ((torch.tensor(pixels / 255.0) - mean) / deviation).permute(0, 3, 1, 2)
        for i in range(2):
            conv = p[f"conv{i}"]
            x = f.conv2d(x, conv["kernel"].permute(3, 2, 0, 1), conv.get("bias"), padding=1)
            if norm == "batch":
                scale = p[f"norm{i}"]
                x = f.batch_norm(x, None, None, scale["scale"], scale["bias"], training=True)
            x = f.max_pool2d(f.relu(x), 2)
        x = f.relu(x.mean((2, 3)) @ p["dense0"]["kernel"] + p["dense0"]["bias"])
        logits = x @ p["head"]["kernel"] + p["head"]["bias"]
        losses.append(f.cross_entropy(logits, torch.tensor(labels)).item())
    got = barrier(a, b, pixels, labels, points=5)
    np.testing.assert_allclose(got.loss, losses, rtol=2e-5)
    assert got.height == pytest.approx(max(losses) - (losses[0] + losses[-1]) / 2, abs=1e-4)
    assert got.share.tolist() == [0.0, 0.25, 0.5, 0.75, 1.0]


def test_stale_statistics_would_inflate_it(images, monkeypatch):
    """Two scalings of one function: a flat line, whose ends' statistics fit no point between."""
    a = network(0)
    params = {name: dict(leaves) for name, leaves in a.variables.params.items()}
    for layer in ("conv0", "conv1"):
        params[layer]["kernel"] = 30.0 * params[layer]["kernel"]
    b = dataclasses.replace(a, variables=a.variables._replace(params=params))
    assert abs(barrier(a, b, *images, points=5).height) < 1e-3
    monkeypatch.setattr("fishjax.barrier.refreshed", lambda train, variables, *_: variables)
    assert barrier(a, b, *images, points=5).height > 0.1


def test_chunks_make_the_statistics_of_all_images(images, monkeypatch):
    """Of the first norm exactly in the mean: it sees the same inputs whatever the chunks."""
    pixels, labels = (np.concatenate([part] * 2) for part in images)
    whole = barrier(network(0), network(1), pixels, labels, points=3)
    monkeypatch.setattr("fishjax.barrier.CHUNK", 20)
    parts = barrier(network(0), network(1), pixels, labels, points=3)
    np.testing.assert_allclose(parts.loss, whole.loss, rtol=1e-4)


@pytest.mark.parametrize("change", [{"model.widths": (4, 8)}, {"model.activation": "tanh"}])
def test_networks_of_two_shapes_have_no_line(images, change):
    with pytest.raises(UsageError, match="one section model"):
        barrier(network(0), network(1, **change), *images)


def test_images_of_another_size_are_refused(images):
    with pytest.raises(ValueError, match="8, 8, 3"):
        barrier(network(0), network(1), images[0][:, :4], images[1])
