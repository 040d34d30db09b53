"""What a running todo has written to COORD_OUTPUT so far, on its way to the attempt after this one: COORD_CHECKPOINT.

The heartbeat looks at the file and tells Redis when it has changed (`leases.py`); what was written since, by the end of an attempt
that did not succeed, goes with the step that ends it. A worker that is killed loses what was written since its last heartbeat.

Never half of what a todo writes: a file that changed while it was read, or that is no JSON, is left for the next look. Half of an
object, list or text is no JSON; half of a number may be one, so a number alone counts when nobody writes any more.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from stat import S_ISREG

from workers.context import OutputRefused, read_output

_Stamp = tuple[int, int, int]
"""Inode, time of the last change, size."""


class Checkpoint:
    """Of one attempt. `unsent` and `sent` are for the thread of heartbeats, the rest for the attempt's own."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._guard = threading.Lock()
        self._file: Path | None = None
        self._looked: _Stamp | None = None
        self._told = ""
        self._told_of: _Stamp | None = None
        self._left = ""

    @contextmanager
    def watching(self, file: Path) -> Iterator[None]:
        """As long as the file may be written, and a last look behind that."""
        with self._guard:
            self._file = file
        try:
            yield
        finally:
            with self._guard:
                self._file = None
                self._left = self._read(file)

    def unsent(self) -> str:
        """The JSON that Redis does not know yet; empty if there is none."""
        with self._guard:
            if self._file is None or (stamp := _stamp(self._file)) == self._told_of:
                return ""
            written = self._read(self._file)
            self._looked = stamp
        return "" if written == self._told or _number(written) else written

    def sent(self, written: str) -> None:
        """Redis knows what `unsent` has answered last."""
        with self._guard:
            self._told, self._told_of = written, self._looked

    @property
    def left(self) -> str:
        """When the attempt is over: what Redis does not know; empty if nothing."""
        with self._guard:
            return "" if self._left == self._told else self._left

    def _read(self, file: Path) -> str:
        before = _stamp(file)
        if before is None:
            return ""
        try:
            written = read_output(file, self._limit_bytes)
        except OutputRefused:
            return ""
        return written if _stamp(file) == before else ""


def _stamp(file: Path) -> _Stamp | None:
    """None unless it is a file: who reads a pipe may wait for ever."""
    try:
        found = file.stat()
    except OSError:
        return None
    return (found.st_ino, found.st_mtime_ns, found.st_size) if S_ISREG(found.st_mode) else None


def _number(written: str) -> bool:
    return bool(written) and type(json.loads(written)) in (int, float)
