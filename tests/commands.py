"""Commands under their guards, and whether their processes are alive."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

from tests.waiting import until
from workers.process import child
from workers.process.child import Child

LONG = timedelta(seconds=60)
BRIEF = timedelta(seconds=0.3)
STUBBORN = "trap '' TERM; echo 0; while :; do sleep 0.05; done"
"""A command that ignores TERM, and says when it does."""


class Started:
    """A command that was started, with what it has printed so far."""

    def __init__(
        self, *argv: str, cwd: Path = Path("/"), env: Mapping[str, str] | None = None, **more: object
    ) -> None:
        self.output = b""
        settings = {"timeout": LONG, "kill_grace": LONG, **more}
        self.child: Child = child.start(
            argv,
            cwd=cwd,
            env=os.environ if env is None else env,
            on_output=self.take,
            **settings,  # type: ignore[arg-type]
        )
        self.exit: child.Exit | None = None
        self._thread = threading.Thread(target=self._wait)
        self._thread.start()

    def take(self, data: bytes) -> None:
        self.output += data

    def _wait(self) -> None:
        self.exit = self.child.wait()

    def end(self, timeout_s: float = 50) -> child.Exit:
        self._thread.join(timeout_s)
        assert self.exit is not None, "it did not end"
        return self.exit

    def pids(self, count: int) -> list[int]:
        """The first numbers that it prints."""
        until(lambda: self.output.count(b"\n") >= count)
        return [int(line) for line in self.output.split()[:count]]


def alive(pid: int) -> bool:
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return state.stdout.strip()[:1] not in ("", "Z")


def gone(*pids: int) -> bool:
    return not any(alive(pid) for pid in pids)


def sh(text: str) -> tuple[str, str, str]:
    return ("sh", "-c", text)


def python(text: str) -> tuple[str, str, str]:
    return (sys.executable, "-c", textwrap.dedent(text))
