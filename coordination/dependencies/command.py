"""Run a command and check its exit code and output.

The command gets its own process group, which is killed as a whole on timeout, on cancellation, and after the
command has ended, so that a check leaves no processes behind. Its output, stdout and stderr combined, may
have any length; kept are the last lines for the message, and the part that is searched for a pattern.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from threading import Event, Thread
from typing import IO

from coordination.dependencies.versions import SearchedOutput, fits_a_line
from coordination.environment import without_ours
from coordination.models import Command, argv_of
from coordination.processes import kill_group

LOOK_S = 0.02
"""Polling interval of a running command; 8 at once use 1 % of a core."""
DRAIN_S = 1.0
"""Seconds to wait for the end of the output, which a process that left the group may keep open."""
SEARCH_S = 2.0
"""Minimal time for the search of a pattern, however short the command's timeout is."""
LONGEST_LINE = 1024 * 1024
KEPT_LINES = 20
CHUNK = 64 * 1024


@dataclass(kw_only=True)
class Output:
    """The output read so far."""

    searched: SearchedOutput | None = None
    last: deque[str] = field(default_factory=lambda: deque(maxlen=KEPT_LINES))
    _open: bytes = b""

    def take(self, chunk: bytes) -> None:
        if self.searched is not None:
            self.searched.take(chunk)
        *lines, self._open = (self._open + chunk).split(b"\n")
        for line in lines[-KEPT_LINES:]:
            self._line(line)
        if len(self._open) > LONGEST_LINE:
            self.end()

    def end(self) -> None:
        if self._open:
            self._line(self._open)
        self._open = b""

    def _line(self, raw: bytes) -> None:
        self.last.append(raw[:1000].decode(errors="replace").rstrip("\r")[:200])


@dataclass(frozen=True, kw_only=True)
class CommandResult:
    code: int | None
    """Exit code; negative for a signal, None if the command was killed on timeout or cancellation."""
    output: Output
    fits: bool | None = None
    """True if a line matches the pattern; None if the search took too long."""

    @property
    def is_cut(self) -> bool:
        """Return whether the output was too long to be searched completely."""
        return self.output.searched is not None and self.output.searched.cut


class NotStarted(Exception):
    """The command does not exist or may not be executed."""


def run(
    command: Command,
    *,
    folder: Path,
    timeout: timedelta,
    pattern: str | None = None,
    stopped: Event | None = None,
) -> CommandResult:
    """Run the command: a string in `sh -c`, a list without a shell. Setting `stopped` cancels it. Raises
    NotStarted.
    """
    stopped = stopped or Event()
    output = Output(searched=SearchedOutput() if pattern is not None else None)
    code = _run(argv_of(command), folder, timeout, output, stopped)
    if pattern is None or output.searched is None or code != 0:
        return CommandResult(code=code, output=output)
    until = time.monotonic() + max(timeout.total_seconds(), SEARCH_S)
    fits = fits_a_line(pattern, output.searched.text(), until=until, stopped=stopped)
    return CommandResult(code=code, output=output, fits=fits)


def _run(argv: Sequence[str], folder: Path, timeout: timedelta, output: Output, stopped: Event) -> int | None:
    try:
        process = subprocess.Popen(
            argv,
            cwd=folder,
            env=without_ours(os.environ),
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
        ended = _wait(process, timeout, stopped)
    finally:
        kill_group(process.pid)
        process.wait()
        reader.join(DRAIN_S)
    return process.returncode if ended else None


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
