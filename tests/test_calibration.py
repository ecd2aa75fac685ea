"""The proof of the statistics: it sees a broken engine, and its own numbers are right."""

import itertools
import json

import numpy as np
import pytest

from experiments.calibration import __main__ as command
from experiments.calibration.figures import Rate, sign_error, sign_flip_error
from experiments.calibration.pool import STUDY, Pool
from experiments.calibration.simulation import DECIDED, MEASURED, NORMAL, WORLDS, designs, simulate
from experiments.calibration.studies import CLAIMS, judged_alike
from experiments.calibration.table import readme_block
from fishjax.evidence import paired

POOL = Pool(0.4 + 0.06 * np.random.default_rng(0).standard_normal((32, 8)), 8)


def null(seeds):
    return next(d for d in designs(POOL) if d.world is MEASURED and d.seeds == seeds and not d.shift)


def decided(studies):
    return next(row for row in simulate(POOL, null(12), studies) if row["figure"] == DECIDED.name)


def test_random_labels_keep_the_error_rate():
    assert decided(500)["met"]


def doubled(ps):
    return paired.SIGN_FLIP._replace(p=lambda d: ps * paired.sign_flip(d))
