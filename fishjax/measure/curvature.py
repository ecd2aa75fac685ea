"""Curvature: extreme eigenvalues of a Hessian that is known only by its products with vectors."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

STEPS = 20
_NOTHING = 1e-6


Bounded = tuple[jax.Array, jax.Array]
"""A number, and how far from it some eigenvalue is at most."""


def extreme_eigenvalues(
    product: Callable[[jax.Array], jax.Array], start: jax.Array, steps: int = STEPS
) -> tuple[Bounded, Bounded]:
    """The largest and the least eigenvalue, signed, of a symmetric matrix given as `product(v)`.

    Lanczos from `start` `[n]`, not 0, fully reorthogonalised twice (Golub & Van Loan 2013,
    section 10.3), each with its residual's norm. The least is approached from above, the largest
    from below.
    """
    count = min(steps, start.shape[0])
    first = start / jnp.linalg.norm(start)
    basis = jnp.zeros((count, start.shape[0]), start.dtype)

    def expand(i: jax.Array, carry: tuple) -> tuple:
        basis, v, alphas, betas = carry
        basis = basis.at[i].set(v)
        w = product(v)
        alpha = jnp.vdot(v, w)
        for _ in range(2):
            w = w - basis.T @ (basis @ w)
        beta = jnp.linalg.norm(w)
        size = jnp.abs(alphas[0]) + jnp.max(betas) + jnp.abs(alpha)
        whole = (beta <= _NOTHING * size) | ~jnp.any(v != 0)
        following = jnp.where(whole, 0.0, w / jnp.where(whole, 1.0, beta))
        alpha = jnp.where(jnp.any(v != 0), alpha, alphas[0])
        beta = jnp.where(whole, 0.0, beta)
        return basis, following, alphas.at[i].set(alpha), betas.at[i].set(beta)

    none = jnp.zeros(count, start.dtype)
    _, _, alphas, betas = lax.fori_loop(0, count, expand, (basis, first, none, none))
    beside = jnp.diag(betas[:-1], 1)
    values, vectors = jnp.linalg.eigh(jnp.diag(alphas) + beside + beside.T)
    errors = betas[-1] * jnp.abs(vectors[-1])
    return (values[-1], errors[-1]), (values[0], errors[0])


def hessian_product(loss: Callable[[jax.Array], jax.Array], at: jax.Array) -> Callable:
    """`v -> H v` for the Hessian of `loss` at the vector `at`.

    The gradient of `<gradient, v>`: forward mode does not pass the convolution's own gradients.
    """
    gradient = jax.grad(loss)
    return lambda v: jax.grad(lambda x: jnp.vdot(gradient(x), v))(at)


def stability_limit(kind: str, rate: jax.Array, momentum: jax.Array) -> jax.Array:
    """The curvature above which gradient descent on a quadratic oscillates apart.

    sgd: (2 + 2 m) / rate, with momentum m (heavy ball). nesterov: that over 1 + 2 m (Cohen et al.
    2021, appendix B). NaN for optimisers that precondition: theirs is not a limit on the
    Hessian's own eigenvalues. Infinite at rate 0.
    """
    table = {"sgd": 1.0, "nesterov": 1.0 + 2.0 * momentum}
    return (2.0 + 2.0 * momentum) / (rate * table.get(kind, jnp.nan))
