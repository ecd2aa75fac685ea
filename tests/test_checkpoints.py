"""A network that the disk does not take is an error of the system, told in one place."""

import errno
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from fishjax.engine.checkpoints import Saver, restore

ROOT = pathlib.Path(__file__).parent.parent
SMALL_FILES = """
import pathlib, resource, sys
import numpy as np
from fishjax.engine.checkpoints import Saver

saver = Saver()
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, resource.RLIM_INFINITY))
try:
    saver.save(pathlib.Path(sys.argv[1]) / "params", {"kernel": np.random.rand(200, 200)})
    saver.wait()
except OSError as error:
    print(error.errno)
"""


def test_a_tree_comes_back(tmp_path):
    saver = Saver()
    saver.save(tmp_path / "params", {"a": {"kernel": np.arange(6.0)}})
    saver.wait()
    assert restore(tmp_path / "params")["a"]["kernel"].tolist() == [0, 1, 2, 3, 4, 5]


def test_what_the_disk_does_not_take_is_the_systems_error_and_is_not_logged_too(tmp_path):
    """Of files that may not grow, which stand for a disk that is full."""
    command = [sys.executable, "-c", SMALL_FILES, str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.split() == [str(errno.EFBIG)], done.stderr
    assert "absl" not in done.stderr


def test_what_is_wrong_with_a_tree_stays_an_error_of_its_own(tmp_path):
    with pytest.raises(ValueError, match="Unsupported type"):
        Saver().save(tmp_path / "params", {"kernel": object()})
