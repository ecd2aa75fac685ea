"""The minority-class study: its arms."""

import numpy as np

from experiments.minority_class import ARMS, STUDY
from fishjax.data.corruptions import view
from fishjax.data.source import open_source
from fishjax.settings import override


def test_the_minority_has_one_image_and_then_about_sixteen():
    dataset = open_source(STUDY.data, 16)
    seen = {}
    for arm in ARMS:
        if arm.name in ("weighted", "weighted, few", "weighted, some", "balanced"):
            changes = {key: value for key, value in arm.changes.items() if key != "hyper.lr"}
            data = override(STUDY.base, changes).data
            train = view(dataset, data, 1000).train
            seen[arm.name] = np.bincount(train.label, minlength=8)
    assert [seen[name][1] for name in ("weighted", "weighted, few", "weighted, some")] == [1, 4, 16]
    assert len(set(seen["balanced"])) == 1


def test_the_test_images_of_a_species_are_enough_for_its_auc():
    dataset = open_source(STUDY.data, 16)
    assert min(np.bincount(dataset.labels[dataset.fixed_test])) >= 400
