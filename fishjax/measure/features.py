"""Features `[example, feature]`: how many directions they use, what a linear map reads off them."""

import jax
import jax.numpy as jnp

PENALTY = 1.0
_ROUNDING = 1e-6


def effective_rank(features: jax.Array) -> jax.Array:
    """exp of the entropy of the singular values as shares of their sum (Roy & Vetterli 2007).

    Between 1 and min(example, feature); not centred. NaN where every feature is 0.
    """
    values = jnp.linalg.svd(features, compute_uv=False)
    shares = values / jnp.sum(values)
    return jnp.exp(jnp.sum(jax.scipy.special.entr(shares)))


def linear_probe(
    features: jax.Array, labels: jax.Array, classes: int, others: jax.Array
) -> jax.Array:
    """Scores `[other, class]` of `others` by ridge regression on `features` and their labels.

    Features are standardised by the mean and deviation of `features` (a constant one becomes 0).
    Targets are 1 for the label and -1 elsewhere, each species has the same weight in sum, the
    intercept is free and PENALTY is on the squared coefficients: scikit-learn's
    `RidgeClassifier(alpha=1, class_weight="balanced")` after its `StandardScaler`.
    """
    hot = jax.nn.one_hot(labels, classes)
    weight = _balanced(hot)[:, None]
    total = jnp.sum(weight)
    x, y = _standardised(features, features), 2.0 * hot - 1.0
    x_mean = jnp.sum(weight * x, axis=0, keepdims=True) / total
    y_mean = jnp.sum(weight * y, axis=0, keepdims=True) / total
    root = jnp.sqrt(weight)
    slopes = _ridge(root * (x - x_mean), root * (y - y_mean))
    return (_standardised(others, features) - x_mean) @ slopes + y_mean


def _ridge(x: jax.Array, y: jax.Array) -> jax.Array:
    """Coefficients `[feature, class]`, by whichever of the two normal equations is smaller."""
    count, features = x.shape
    if features <= count:
        return jnp.linalg.solve(x.T @ x + PENALTY * jnp.eye(features), x.T @ y)
    return x.T @ jnp.linalg.solve(x @ x.T + PENALTY * jnp.eye(count), y)


def _balanced(hot: jax.Array) -> jax.Array:
    """A weight `[example]` for each row of `hot`, its species' share made equal."""
    support = jnp.sum(hot, axis=0)
    present = jnp.sum((support > 0).astype(jnp.float32))
    return hot @ (hot.shape[0] / (present * jnp.maximum(support, 1.0)))


def _standardised(features: jax.Array, by: jax.Array) -> jax.Array:
    mean, deviation = (of(by, axis=0, keepdims=True) for of in (jnp.mean, jnp.std))
    constant = deviation <= _ROUNDING * jnp.abs(mean)
    return jnp.where(constant, 0.0, (features - mean) / jnp.where(constant, 1.0, deviation))
