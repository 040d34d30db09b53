"""A pattern looked for in a command's output by a process of its own: one that backtracks for ever can be ended.

In a thread it could not, and nothing else in this process would run meanwhile. The process costs 25 ms.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from threading import Event, Thread
from typing import IO

from coordination.environment import without_ours

LOOK_S = 0.05
HALF = 4 * 1024 * 1024
"""So much of the output's beginning is looked at, and so much of its end."""
SEARCH = """\
import json, re, sys
fits = re.compile(json.loads(sys.stdin.buffer.readline())).search
*lines, rest = sys.stdin.buffer.read().decode(errors="replace").replace("\\r\\n", "\\n").split("\\n")
lines += [rest.rstrip("\\r")] if rest else []
sys.exit(10 if any(map(fits, dict.fromkeys(lines))) else 11)
"""
ENDS = {10: True, 11: False}


@dataclass(kw_only=True)
class Searched:
    """The output that is looked at: all of it, unless it is very long."""

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
        """What a cut has left of a line is no line."""
        if not self.cut:
            return bytes(self.head + self.tail)
        return bytes(self.head[: self.head.rfind(b"\n") + 1] + self.tail[self.tail.find(b"\n") + 1 :])


def fits_a_line(pattern: str, text: bytes, *, until: float, stopped: Event) -> bool | None:
    """None where that cannot be said before `until`, of the monotonic clock, or before it is called off."""
    given = json.dumps(pattern).encode() + b"\n" + text
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", SEARCH],
        env=without_ours(os.environ),
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    assert process.stdin is not None
    Thread(target=_feed, args=(process.stdin, given), daemon=True).start()
    try:
        while time.monotonic() < until and not stopped.is_set():
            with suppress(subprocess.TimeoutExpired):
                return ENDS.get(process.wait(LOOK_S))
    finally:
        process.kill()
        process.wait()
    return None


def _feed(stdin: IO[bytes], given: bytes) -> None:
    """By a thread: `communicate` cannot be asked to go on after a while (CPython leaves the rest of the input out)."""
    with suppress(OSError), stdin:  # it was ended
        stdin.write(given)
