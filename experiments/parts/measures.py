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
from fishjax.further import MICRO, Network, further
from fishjax.measure import activations
from fishjax.measure.features import effective_rank, linear_probe
from fishjax.measure.flow import cosine
from fishjax.measure.scores import binary_auc
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
    return Network(setup, model, hyper, feed, variables, jnp.int32(1))


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


def _curvature() -> Pair:
    network = _network("curvature")
    at, unravel = ravel_pytree(network.variables.params)
    gradient = jax.grad(lambda x: _loss(network, unravel(x), network.feed.train))
    hessian = np.asarray(jax.jit(jax.jacrev(gradient))(at), np.float64)
    return further(network)["sharpness"], scipy.linalg.eigvalsh(hessian)[-1]


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
    _part("top Hessian eigenvalue", "SciPy eigvalsh of the whole Hessian", _curvature, ITERATED),
    _part("linear probe", "scikit-learn RidgeClassifier", _probe, ITERATED),
    _part("AUC with ties", "scikit-learn roc_auc_score", _auc, 1e-6),
    _part("DeLong interval", "SciPy brunnermunzel", _delong, 1e-9),
)
