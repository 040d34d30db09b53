"""Run a command and check its exit code and output.

Its output, stdout and stderr combined, may have any length; kept are the last lines for the message, and the
part that is searched for a pattern.

The pattern is searched in a process of its own, which can be killed if the pattern backtracks for ever; in a
thread it could not be stopped, and would block all other threads. The process costs 25 ms.
"""

from __future__ import annotations

import json
import sys
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from threading import Event

from coordination import user_program
from coordination.models import Command

SEARCH_S = 2.0
"""Minimal time for the search of a pattern, however short the command's timeout is."""
LONGEST_LINE = 1024 * 1024
KEPT_LINES = 20


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
    ended = user_program.run(
        command,
        folder=folder,
        output=output.take,
        joined=True,
        timeout_s=timeout.total_seconds(),
        stopping=stopped,
    )
    output.end()
    if pattern is None or output.searched is None or ended.code != 0:
        return CommandResult(code=ended.code, output=output)
    until = time.monotonic() + max(timeout.total_seconds(), SEARCH_S)
    matches = fits_a_line(pattern, output.searched.text(), until=until, stopped=stopped)
    return CommandResult(code=ended.code, output=output, matches=matches)


HALF = 4 * 1024 * 1024
"""Bytes of output that are searched, from the start and from the end each."""
SEARCH = """\
import json, re, sys
search = re.compile(json.loads(sys.stdin.buffer.readline())).search
*lines, rest = sys.stdin.buffer.read().decode(errors="replace").replace("\\r\\n", "\\n").split("\\n")
lines += [rest.rstrip("\\r")] if rest else []
sys.exit(10 if any(map(search, dict.fromkeys(lines))) else 11)
"""
MATCH_BY_EXIT_CODE: Mapping[int | None, bool] = {10: True, 11: False}


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
    ended = user_program.run(
        (sys.executable, "-I", "-S", "-c", SEARCH),
        given=message,
        timeout_s=max(until - time.monotonic(), 0.0),
        stopping=stopped,
    )
    return MATCH_BY_EXIT_CODE.get(ended.code)
