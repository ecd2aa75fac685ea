"""The further measures beside SciPy, scikit-learn, NumPy and an explicit Hessian."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg
from jax.flatten_util import ravel_pytree
from scipy import stats
from sklearn.linear_model import RidgeClassifier
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from experiments.parts.part import Pair, Part
from fishjax.config import Config
from fishjax.evidence.auc import delong
from fishjax.feed import Feed
from fishjax.further import further
from fishjax.landscape import MICRO, slope
from fishjax.measure import activations
from fishjax.measure.features import effective_rank, linear_probe
from fishjax.measure.flow import cosine
from fishjax.measure.scores import binary_auc
from fishjax.network import Network
from fishjax.nn.models import build
from fishjax.settings import override
from fishjax.setup import lower

IMAGES, CLASSES = 32, 3
SMALL = {
    "model.depth": 2,
    "model.widths": (3, 4),
    "model.norm": "batch",
    "optim.batch_size": IMAGES,
    "data.train_size": IMAGES,
    "data.image_size": 8,
}
EXACT, ITERATED = 1e-5, 1e-4


def _normal(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def _network(measure: str) -> Network:
    """A small network at its start, on random images."""
    setup, hyper = lower(override(Config(), {**SMALL, "watch.also": (measure,)}), CLASSES)
    rng = np.random.default_rng(1)
    index = jnp.arange(IMAGES, dtype=jnp.int32)
    pool = jnp.asarray(rng.integers(0, 256, (IMAGES, 8, 8, 3), dtype=np.uint8))
    labels = jnp.asarray(rng.integers(0, CLASSES, IMAGES).astype(np.int32))
    feed = Feed(pool, labels, index, index, index, jnp.full(3, 0.5), jnp.full(3, 0.3))
    hyper, model = jax.tree.map(jnp.float32, hyper), build(setup)
    variables = jax.jit(model.init)(jax.random.key(0), hyper)
    return Network(setup, model, hyper, feed, variables, jnp.int32(1), jnp.int32(0))


def _loss(network: Network, params: Any, index: jax.Array, train: bool = True) -> jax.Array:
    """Cross-entropy as `optax`'s documentation writes it."""
    pixels = (network.feed.pool[index].astype(jnp.float32) / 255.0 - 0.5) / 0.3
    variables = network.variables._replace(params=params)
    logits = network.model.apply(variables, pixels, network.hyper, train=train).logits
    picked = jax.nn.log_softmax(logits) * jax.nn.one_hot(network.feed.labels[index], CLASSES)
    return -jnp.mean(jnp.sum(picked, axis=1))


def _moments() -> Pair:
    h = 2.0 + _normal(64, 4, 4, 8)
    ours = activations.moments(jnp.asarray(h))
    return jnp.stack(ours), [h.mean(dtype=np.float64), h.var(dtype=np.float64)]


def _histogram() -> Pair:
    h = _normal(64, 4, 4, 8) * np.power(10.0, np.arange(-4.0, 4.0), dtype=np.float32)
    edges = [*np.asarray(activations.MAGNITUDES, np.float32), np.inf]
    up, down = (np.histogram(side, edges)[0] for side in (h, -h))
    small = (np.abs(h) < edges[0]).sum()
    return activations.histogram(jnp.asarray(h)), np.r_[down[::-1], small, up] / h.size


def _dormant() -> Pair:
    h = np.maximum(_normal(16, 2, 2, 40), 0.0) * np.logspace(-5, 0, 40, dtype=np.float32)
    size = np.abs(h).mean((0, 1, 2))
    taus = (0.0, activations.DORMANT_TAU)
    ours = [activations.dormant_units(jnp.asarray(h), tau) for tau in taus]
    return jnp.stack(ours), [(size / (size.mean() + 1e-9) <= tau).mean() for tau in taus]


def _rank() -> Pair:
    a = _normal(64, 20) * np.float32(0.7) ** np.arange(20, dtype=np.float32)
    values = scipy.linalg.svdvals(a.astype(np.float64))
    return effective_rank(jnp.asarray(a)), np.exp(stats.entropy(values))


def _cosine() -> Pair:
    a, b = _normal(2, 50) + 0.5
    ours = cosine({"a": jnp.asarray(a)}, {"a": jnp.asarray(b)})
    return ours, a @ b / np.linalg.norm(a) / np.linalg.norm(b)


def _noise() -> Pair:
    network = _network("noise")
    gradient = jax.jit(jax.grad(functools.partial(_loss, network)))
    each = [
        np.asarray(ravel_pytree(gradient(network.variables.params, batch))[0], np.float64)
        for batch in network.feed.train.reshape(-1, MICRO)
    ]
    small, big = np.mean([g @ g for g in each]), np.sum(np.mean(each, 0) ** 2)
    square = (IMAGES * big - MICRO * small) / (IMAGES - MICRO)
    noise = (small - big) / (1 / MICRO - 1 / IMAGES)
    seen = further(network)
    return jnp.stack([seen["gradient_square"], seen["gradient_noise"]]), [square, noise]


def _batch_stats() -> Pair:
    network = _network("batch_stats")
    now, running = (
        _loss(network, network.variables.params, network.feed.train, train)
        for train in (True, False)
    )
    return further(network)["batch_stats_loss_gap"], float(now) - float(running)


def _curvature(name: str, position: int) -> Pair:
    network = _network("curvature")
    at, unravel = ravel_pytree(network.variables.params)
    gradient = jax.grad(lambda x: _loss(network, unravel(x), network.feed.train))
    hessian = np.asarray(jax.jit(jax.jacrev(gradient))(at), np.float64)
    return further(network)[name], scipy.linalg.eigvalsh(hessian)[position]


def _gradient(network: Network, params: Any) -> Any:
    """The gradient of the whole training subset, each leaf in float64."""
    gradient = jax.grad(functools.partial(_loss, network))(params, network.feed.train)
    return jax.tree.map(lambda x: np.asarray(x, np.float64), gradient)


def _full_gradient() -> Pair:
    network = _network("curvature")
    gradient = _gradient(network, network.variables.params)
    squares = [np.sum(leaf**2) for leaf in jax.tree.leaves(gradient)]
    return further(network)["full_gradient_norm"], np.sqrt(np.sum(squares))


def _probe_flow() -> Pair:
    network = _network("flow")
    params = network.variables.params
    gradient = _gradient(network, params)
    share = [
        np.linalg.norm(gradient[layer]["kernel"]) / np.linalg.norm(params[layer]["kernel"])
        for layer in ("conv0", "conv1", "head")
    ]
    seen, _ = slope(network, ())
    ours = [*seen["probe_flow"], seen["probe_flow_ratio"], seen["probe_flow_slope"]]
    return jnp.stack(ours), [*share, share[0] / share[1], np.log10(share[1] / share[0])]


def _overshoot() -> Pair:
    network = _network("overshoot")
    params, index = network.variables.params, network.feed.train
    rate = float(network.hyper.lr)
    moved = jax.tree.map(
        lambda p, g: jnp.asarray(p - rate * g, jnp.float32), params, _gradient(network, params)
    )
    ours = slope(network, ())[0]["overshoot"]
    return ours, float(_loss(network, moved, index)) - float(_loss(network, params, index))


def _gradient_cosine() -> Pair:
    network = _network("gradient_cosine")
    params = network.variables.params
    other = jax.tree.map(lambda p: 1.1 * p + 0.05, params)
    before = jax.tree.map(jnp.float32, _gradient(network, other))
    ours = slope(network, before)[0]["gradient_cosine"]
    a, b = (np.asarray(ravel_pytree(_gradient(network, p))[0], float) for p in (params, other))
    return ours, a @ b / np.linalg.norm(a) / np.linalg.norm(b)


def _recomputed() -> Pair:
    """The running statistics of one pass over all images in PyTorch's sense, momentum 1."""
    network = _network("recomputed")
    seen = further(network)
    now = _loss(network, network.variables.params, network.feed.train, True)
    return seen["recomputed_test_loss"], now


def _probe() -> Pair:
    x, others = _normal(2, 60, 12)
    labels = np.random.default_rng(2).choice(4, 60, p=[0.5, 0.25, 0.15, 0.1]).astype(np.int32)
    ridge = RidgeClassifier(alpha=1.0, class_weight="balanced")
    twin = make_pipeline(StandardScaler(), ridge).fit(x, labels)
    ours = linear_probe(jnp.asarray(x), jnp.asarray(labels), 4, jnp.asarray(others))
    return ours, twin.decision_function(others.astype(np.float64))


def _auc() -> Pair:
    score, positive = np.round(_normal(300)), np.arange(300) < 40
    ours = binary_auc(jnp.asarray(score), jnp.asarray(positive))
    return ours, roc_auc_score(positive, score)


def _delong() -> Pair:
    score, positive = _normal(80) + 0.7 * (np.arange(80) < 25), np.arange(80) < 25
    x, y = score[positive].astype(np.float64), score[~positive].astype(np.float64)
    test = stats.brunnermunzel(y, x)
    seen = delong(score, positive, 1.0 - test.pvalue)
    half = np.log(seen.auc / (1 - seen.auc)) - np.log(seen.low / (1 - seen.low))
    return half * seen.auc * (1 - seen.auc), roc_auc_score(positive, score) - 0.5


def _part(name: str, reference: str, check: Any, limit: float = EXACT) -> Part:
    return Part("measure", name, reference, check, limit, settings=None)


MEASURES = (
    _part("activation mean, variance", "NumPy", _moments),
    _part("activation histogram", "np.histogram", _histogram, 1e-7),
    _part("tau-dormant units", "Dopamine's ReDo score in NumPy", _dormant, 1e-7),
    _part("effective rank", "SciPy svdvals, entropy", _rank),
    Part(
        "measure",
        "update cosine",
        "NumPy",
        _cosine,
        EXACT,
        settings={"watch.also": ("cosine",)},
    ),
    _part("gradient noise scale", "a loop over micro-batches in float64", _noise, ITERATED),
    _part("batch statistics", "both losses by JAX", _batch_stats),
    _part(
        "top Hessian eigenvalue",
        "SciPy eigvalsh of the whole Hessian",
        functools.partial(_curvature, "sharpness", -1),
        ITERATED,
    ),
    _part(
        "least Hessian eigenvalue",
        "SciPy eigvalsh of the whole Hessian",
        functools.partial(_curvature, "least_eigenvalue", 0),
        ITERATED,
    ),
    _part("full gradient norm", "the norm in float64", _full_gradient),
    _part("flow of the probes", "NumPy, layer by layer", _probe_flow),
    _part("overshoot of the probes", "both losses by JAX", _overshoot),
    _part("gradient cosine", "NumPy", _gradient_cosine),
    _part("recomputed statistics", "the loss with those of all images at once", _recomputed),
    _part("linear probe", "scikit-learn RidgeClassifier", _probe, ITERATED),
    _part("AUC with ties", "scikit-learn roc_auc_score", _auc, 1e-6),
    _part("DeLong interval", "SciPy brunnermunzel", _delong, 1e-9),
)
