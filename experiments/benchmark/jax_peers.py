"""The workloads in JAX as Flax and optax are commonly used: a loop of steps, a scan, a vmap."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from experiments.benchmark.fishjax_peers import weights
from experiments.benchmark.worker import Peer
from experiments.benchmark.workload import CLASSES, EPSILON, MOMENTUM, Job, Workload

Carry = tuple[Any, Any, Any]
"""Parameters, running statistics, state of the optimiser."""


class Net(nn.Module):
    """The CNN of a workload as Flax's own layers say it."""

    workload: Workload

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        for i, layer in enumerate(self.workload.layers):
            x = nn.Conv(layer.channels_out, (3, 3), use_bias=False, name=f"conv{i}")(x)
            x = nn.BatchNorm(use_running_average=False, epsilon=EPSILON, name=f"norm{i}")(x)
            x = nn.relu(x)
            x = nn.max_pool(x, (2, 2), (2, 2)) if layer.pooled else x
        return nn.Dense(CLASSES, name="head")(x.mean((1, 2)))


class Common:
    """What the three ways share; the runs' minibatches and their pool are on the device."""

    def __init__(self, job: Job) -> None:
        self._job, self._net = job, Net(job.workload)
        self._images, self._labels = jnp.asarray(job["images"]), jnp.asarray(job["labels"])
        self._mean, self._deviation = jnp.asarray(job["mean"]), jnp.asarray(job["deviation"])
        self._rates = jnp.asarray(job["rates"])
        self._batches = jnp.asarray(job["batches"])
        self._chunk, self._done = job.workload.chunk, 0
        self.compile_s: float | None = None

    def _start(self) -> Carry:
        """The carry of every run before its first step, leaves `[run, ...]`."""
        size = self._job.workload.size
        drawn: Any = self._net.init(jax.random.key(0), jnp.zeros((1, size, size, 3)))
        runs = self._job.runs
        stats = jax.tree.map(lambda x: jnp.tile(x, (runs, *(1,) * x.ndim)), drawn["batch_stats"])
        params = jax.tree.map(jnp.asarray, weights(self._job))
        return params, stats, jax.vmap(self._rule(1.0).init)(params)

    @staticmethod
    def _rule(rate: Any) -> optax.GradientTransformation:
        return optax.sgd(rate, MOMENTUM)

    def _step(self, carry: Carry, rate: jax.Array, index: jax.Array) -> tuple[Carry, jax.Array]:
        params, stats, opt = carry
        images = (self._images[index].astype(jnp.float32) / 255.0 - self._mean) / self._deviation

        def loss_of(params: Any) -> tuple[jax.Array, Any]:
            tree = {"params": params, "batch_stats": stats}
            logits, new = self._net.apply(tree, images, mutable=["batch_stats"])
            losses = optax.softmax_cross_entropy_with_integer_labels(logits, self._labels[index])
            return losses.mean(), new["batch_stats"]

        (loss, stats), gradients = jax.value_and_grad(loss_of, has_aux=True)(params)
        updates, opt = self._rule(rate).update(gradients, opt, params)
        return (optax.apply_updates(params, updates), stats, opt), loss

    def _scan(self, carry: Carry, rate: jax.Array, index: jax.Array) -> tuple[Carry, jax.Array]:
        return lax.scan(lambda carry, index: self._step(carry, rate, index), carry, index)

    def _compiled(self, function: Callable, *args: Any) -> Any:
        start = time.perf_counter()
        compiled = jax.jit(function, donate_argnums=0).lower(*args).compile()
        self.compile_s = time.perf_counter() - start
        return compiled

    def _table(self, steps: int) -> jax.Array:
        """The next minibatches of every run, `[run, step, batch]`."""
        places = np.arange(self._done, self._done + steps) % self._batches.shape[1]
        return self._batches[:, places]


class RunByRun(Common):
    """Run after run; a call is one step, or where `scanned` a chunk of them."""

    def __init__(self, job: Job, scanned: bool) -> None:
        super().__init__(job)
        self._scanned = scanned
        first = self._batches[0, : self._chunk] if scanned else self._batches[0, 0]
        function = self._scan if scanned else self._step
        self._call = self._compiled(function, _of(self._start(), 0), self._rates[0], first)
        self._carries = [_of(self._start(), run) for run in range(job.runs)]

    def losses(self, runs: Sequence[int], steps: int) -> list[list[float]]:
        found = []
        for run in runs:
            _, each = self._train(run, _of(self._start(), run), self._batches[run, :steps])
            found.append(np.asarray(each).tolist())
        return found

    def run(self, chunks: int) -> None:
        table = self._table(chunks * self._chunk)
        for run in range(self._job.runs):
            self._carries[run], _ = self._train(run, self._carries[run], table[run])
        self._done += chunks * self._chunk
        jax.block_until_ready(self._carries)

    def _train(self, run: int, carry: Carry, table: jax.Array) -> tuple[Carry, jax.Array]:
        rate, losses = self._rates[run], []
        parts = table.reshape(-1, self._chunk, table.shape[-1]) if self._scanned else table
        for part in parts:
            carry, loss = self._call(carry, rate, part)
            losses.append(loss.reshape(-1))
        return carry, jnp.concatenate(losses)


class Mapped(Common):
    """`jax.vmap` over the runs of a whole scan."""

    def __init__(self, job: Job) -> None:
        super().__init__(job)
        self._carry = self._start()
        table = self._batches[:, : self._chunk]
        self._call = self._compiled(jax.vmap(self._scan), self._start(), self._rates, table)

    def losses(self, runs: Sequence[int], steps: int) -> list[list[float]]:
        carry, found = self._start(), []
        for first in range(0, steps, self._chunk):
            table = self._batches[:, first : first + self._chunk]
            carry, losses = self._call(carry, self._rates, table)
            found.append(losses)
        return np.concatenate(found, 1)[list(runs)].tolist()

    def run(self, chunks: int) -> None:
        for _ in range(chunks):
            self._carry, _ = self._call(self._carry, self._rates, self._table(self._chunk))
            self._done += self._chunk
        jax.block_until_ready(self._carry)


def _of(carry: Carry, run: int) -> Carry:
    return jax.tree.map(lambda leaf: leaf[run], carry)


PEERS: Mapping[str, Callable[[Job], Peer]] = {
    "jax-loop": lambda job: RunByRun(job, scanned=False),
    "jax-scan": lambda job: RunByRun(job, scanned=True),
    "jax-vmap": Mapped,
}
