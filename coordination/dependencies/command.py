"""Run a command and check its exit code and output.

The command gets its own process group, which is killed as a whole on timeout, on cancellation, and after the
command has ended, so that a check leaves no processes behind. Its output, stdout and stderr combined, may
have any length; kept are the last lines for the message, and the part that is searched for a pattern.

The pattern is searched in a process of its own, which can be killed if the pattern backtracks for ever; in a
thread it could not be stopped, and would block all other threads. The process costs 25 ms.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from threading import Event, Thread
from typing import IO

from coordination.environment import without_ours
from coordination.models import Command, argv_of
from coordination.processes import kill_group

POLL_S = 0.02
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
    """The end of a command."""

    code: int | None
    """Exit code; negative for a signal, None if the command was killed on timeout or cancellation."""
    output: Output
    matches: bool | None = None
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
    matches = fits_a_line(pattern, output.searched.text(), until=until, stopped=stopped)
    return CommandResult(code=code, output=output, matches=matches)


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
        if time.monotonic() > until or stopped.wait(POLL_S):
            return False
    return True


SEARCH_POLL_S = 0.05
HALF = 4 * 1024 * 1024
"""Bytes of output that are searched, from the start and from the end each."""
SEARCH = """\
import json, re, sys
search = re.compile(json.loads(sys.stdin.buffer.readline())).search
*lines, rest = sys.stdin.buffer.read().decode(errors="replace").replace("\\r\\n", "\\n").split("\\n")
lines += [rest.rstrip("\\r")] if rest else []
sys.exit(10 if any(map(search, dict.fromkeys(lines))) else 11)
"""
MATCH_BY_EXIT_CODE = {10: True, 11: False}


@dataclass(kw_only=True)
class SearchedOutput:
    """The output to be searched: all of it, or its start and end if it is very long."""

    head: bytearray = field(default_factory=bytearray)
    tail: bytearray = field(default_factory=bytearray)
    cut: bool = False

    def take(self, chunk: bytes) -> None:
        room = HALF - len(self.head)
        self.head += chunk[:room]
        self.tail += chunk[room:]
        if len(self.tail) > 2 * HALF:
            del self.tail[:-HALF]
            self.cut = True

    def text(self) -> bytes:
        """Return the bytes to be searched, without the partial lines at a cut."""
        if not self.cut:
            return bytes(self.head + self.tail)
        return bytes(self.head[: self.head.rfind(b"\n") + 1] + self.tail[self.tail.find(b"\n") + 1 :])


def fits_a_line(pattern: str, text: bytes, *, until: float, stopped: Event) -> bool | None:
    """Return whether a line matches; None if that is not known at `until` (monotonic clock) or on
    cancellation.
    """
    message = json.dumps(pattern).encode() + b"\n" + text
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", SEARCH],
        env=without_ours(os.environ),
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    assert process.stdin is not None
    Thread(target=_feed, args=(process.stdin, message), daemon=True).start()
    try:
        while time.monotonic() < until and not stopped.is_set():
            with suppress(subprocess.TimeoutExpired):
                return MATCH_BY_EXIT_CODE.get(process.wait(SEARCH_POLL_S))
    finally:
        process.kill()
        process.wait()
    return None


def _feed(stdin: IO[bytes], data: bytes) -> None:
    """Write the input in a thread, because `communicate` cannot resume after a timeout (CPython drops the
    rest of the input).
    """
    with suppress(OSError), stdin:  # the process was killed
        stdin.write(data)
