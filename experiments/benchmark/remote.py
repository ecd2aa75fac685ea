"""The parent's end of a peer's process. Needs NumPy only."""

import json
import os
import pathlib
import select
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

PATIENCE_S = 900.0
ROOT = pathlib.Path(__file__).parent.parent.parent


class PeerError(Exception):
    """A peer that cannot run; the message is the reason, in one line."""


class Remote:
    """A process that answers one JSON object with one.

    Raises PeerError where it cannot be started, ends, or takes longer than `PATIENCE_S`.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115
        path = os.pathsep.join(p for p in (str(ROOT), os.environ.get("PYTHONPATH")) if p)
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                env={**os.environ, **environment, "PYTHONPATH": path},
            )
        except OSError as error:
            self._errors.close()
            raise PeerError(f"{command[0]} does not start: {error.strerror}") from None

    def send(self, **ask: Any) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(ask).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise PeerError(self._end()) from None

    def receive(self) -> dict:
        """The next answer."""
        out = self._process.stdout
        assert out is not None
        if not select.select([out], [], [], PATIENCE_S)[0]:
            self._process.kill()
            raise PeerError(f"no answer within {PATIENCE_S:.0f} s")
        line = out.readline()
        if not line:
            raise PeerError(self._end())
        return json.loads(line)

    def ask(self, **ask: Any) -> dict:
        self.send(**ask)
        return self.receive()

    def close(self) -> None:
        """Ends the process, which may have ended already."""
        try:
            self.send(do="quit")
            self._process.wait(30)
        except (PeerError, subprocess.TimeoutExpired):
            self._process.kill()
            self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe and not pipe.closed:
                try:
                    pipe.close()
                except BrokenPipeError:
                    continue
        self._errors.close()

    def _end(self) -> str:
        """What it said last, with how it ended."""
        code = self._process.wait()
        self._errors.seek(0)
        said = self._errors.read().decode(errors="replace").strip().splitlines()
        return f"ended with {code}: {said[-1].strip() if said else 'without a word'}"
