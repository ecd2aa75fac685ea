"""What goes to stderr is said aside: whoever stops reading it stops nothing."""

import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).parent.parent
COMMAND = """
from fishjax.present.progress import Aside, bar

aside = Aside()
aside.print("two lines\\nbefore it starts")
with bar(2, aside) as tick:
    tick(2)
aside.print("after it")
print("done")
"""


def test_a_reader_of_stderr_that_leaves_ends_nothing():
    reading, writing = os.pipe()
    os.close(reading)
    buffered = {**os.environ, "PYTHONUNBUFFERED": ""}
    done = subprocess.run(
        [sys.executable, "-c", COMMAND],
        cwd=ROOT,
        env=buffered,
        stdout=subprocess.PIPE,
        stderr=writing,
        text=True,
    )
    os.close(writing)
    assert (done.returncode, done.stdout) == (0, "done\n")


def test_a_reader_that_stays_is_told_all():
    done = subprocess.run([sys.executable, "-c", COMMAND], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0
    assert "two lines\nbefore it starts" in done.stderr
    assert "2/2 run-steps" in done.stderr
    assert "after it" in done.stderr
