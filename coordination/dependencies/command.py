"""A command that is run to see whether it succeeds, and what it prints.

It gets a process group of its own, which is killed as a whole when the time is up, when the check is called off, and when
the command itself has ended: a check leaves nothing behind. Its output, both streams in one, is looked at line by line as it
comes, so it may be of any length; the last lines are kept for the message.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from threading import Event, Thread
from typing import IO

from coordination.models import Command

LOOK_S = 0.02
"""How often a running command is looked at. 8 at once cost 1 % of a core."""
DRAIN_S = 1.0
"""What left the group may hold the output open: it is not waited for longer."""
LONGEST_LINE = 1024 * 1024
KEPT_LINES = 20
CHUNK = 64 * 1024


@dataclass(kw_only=True)
class Output:
    """What was printed so far. `matched` is whether a line fits the pattern."""

    pattern: re.Pattern[str] | None
    matched: bool = False
    last: deque[str] = field(default_factory=lambda: deque(maxlen=KEPT_LINES))
    _open: bytes = b""

    def take(self, chunk: bytes) -> None:
        *lines, self._open = (self._open + chunk).split(b"\n")
        sought = self.pattern is not None and not self.matched
        for line in lines if sought else lines[-KEPT_LINES:]:
            self._line(line)
        if len(self._open) > LONGEST_LINE:
            self.end()

    def end(self) -> None:
        if self._open:
            self._line(self._open)
        self._open = b""

    def _line(self, raw: bytes) -> None:
        line = raw[:LONGEST_LINE].decode(errors="replace").rstrip("\r")
        self.matched = self.matched or (self.pattern is not None and self.pattern.search(line) is not None)
        self.last.append(line[:200])


@dataclass(frozen=True, kw_only=True)
class Ended:
    code: int | None
    """Negative: by that signal. None where the command did not end by itself."""
    output: Output


class NotStarted(Exception):
    """The command is not there, or may not be run."""


def run(
    command: Command,
    *,
    folder: Path,
    timeout: timedelta,
    pattern: re.Pattern[str] | None = None,
    stopped: Event | None = None,
) -> Ended:
    """A string runs in `sh -c`, a list without a shell. `stopped` calls it off. Raises NotStarted."""
    argv = ["sh", "-c", command] if isinstance(command, str) else list(command)
    output = Output(pattern=pattern)
    try:
        process = subprocess.Popen(
            argv,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        raise NotStarted(f"{argv[0]} cannot be run: {getattr(error, 'strerror', None) or error}") from error
    assert process.stdout is not None
    reader = Thread(target=_read, args=(process.stdout, output), daemon=True)
    reader.start()
    try:
        ended = _wait(process, timeout, stopped or Event())
    finally:
        with suppress(ProcessLookupError, PermissionError):  # all of it has ended; macOS says the latter of zombies
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        reader.join(DRAIN_S)
    return Ended(code=process.returncode if ended else None, output=output)


def _read(stream: IO[bytes], output: Output) -> None:
    with stream:
        while chunk := os.read(stream.fileno(), CHUNK):
            output.take(chunk)
    output.end()


def _wait(process: subprocess.Popen[bytes], timeout: timedelta, stopped: Event) -> bool:
    until = time.monotonic() + timeout.total_seconds()
    while process.poll() is None:
        if time.monotonic() > until or stopped.wait(LOOK_S):
            return False
    return True
