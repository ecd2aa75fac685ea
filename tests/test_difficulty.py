"""Reef is learnable and not trivial: a small CNN lands between 70 and 95 %."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fishjax.config import Config
from fishjax.data.pool import Pool
from fishjax.data.source import open_source
from fishjax.engine.packs import ask_of, pack, slots
from fishjax.engine.program import Program, Shared
from fishjax.settings import override
from fishjax.sweep import Arm, cells


@pytest.mark.slow
@pytest.mark.usefixtures("shipped_code")
def test_a_small_cnn_reaches_70_to_95_percent():
    """Measured at the defaults: see the assertion's message when it fails."""
    base = override(Config(), {"model.norm": "batch", "schedule.kind": "cosine"})
    dataset = open_source("reef", base.data.image_size)
    (runs,) = pack(cells([Arm("cnn")], base, {}, (0, 1)), len(dataset.species), 2)
    pool = Pool(dataset, map(ask_of, runs.cells))
    program, fed = Program(runs.setup, "map"), slots(pool, runs)
    shared = Shared(jnp.asarray(pool.images), jnp.asarray(pool.labels))
    state = program.begin(shared, fed)
    for _ in range(base.optim.epochs // base.watch.every):
        state, _ = program.advance(shared, fed, state)
    accuracy = np.asarray(jax.device_get(program.assess(shared, fed, state)[1].test.accuracy))
    assert np.all((accuracy > 0.70) & (accuracy < 0.95)), accuracy
