"""Carry what a todo has written to COORD_OUTPUT to its next attempt, as COORD_CHECKPOINT.

The heartbeat looks at the file and tells Redis when it has changed (`leases.py`); what was written since goes
with the step that ends an attempt without success. A worker that is killed loses what was written since its
last heartbeat.

A file that changed while it was read, or that is not JSON, is left for the next look: half of an object, list
or text is not JSON. Half of a number may be one, so a number alone counts only when the todo has ended.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from stat import S_ISREG
from typing import Any

from workers.attempt.context import OutputRefused, read_output

_Stamp = tuple[int, int, int]
"""Inode, time of the last change, size."""


class Checkpoint:
    """The checkpoint of one attempt.

    The heartbeat calls `unsent` and `sent`, the attempt's own thread calls the rest.
    """

    def __init__(self, limit_bytes: int, masked: Callable[[Any], Any] = lambda value: value) -> None:
        """`masked` takes secrets out of a JSON value."""
        self._limit_bytes = limit_bytes
        self._masked = masked
        self._guard = threading.Lock()
        self._file: Path | None = None
        self._seen: _Stamp | None = None
        self._sent = ""
        self._sent_stamp: _Stamp | None = None
        self._left = ""

    @contextmanager
    def watching(self, file: Path) -> Iterator[None]:
        """Watch a file while the todo may write it, and read it once more after that."""
        with self._guard:
            self._file = file
        try:
            yield
        finally:
            with self._guard:
                self._file = None
                self._left = self._read(file)

    def unsent(self) -> str:
        """Return the JSON that Redis does not know yet; empty if there is none."""
        with self._guard:
            if self._file is None or (stamp := _stamp(self._file)) == self._sent_stamp:
                return ""
            written = self._read(self._file)
            self._seen = stamp
        return "" if written == self._sent or _number(written) else written

    def sent(self, written: str) -> None:
        """Note that Redis has the answer of `unsent`."""
        with self._guard:
            self._sent, self._sent_stamp = written, self._seen

    @property
    def left(self) -> str:
        """Return what Redis does not know when the attempt is over; empty if nothing."""
        with self._guard:
            return "" if self._left == self._sent else self._left

    def _read(self, file: Path) -> str:
        before = _stamp(file)
        if before is None:
            return ""
        try:
            written = read_output(file, self._limit_bytes, self._masked)
        except OutputRefused:
            return ""
        return written if _stamp(file) == before else ""


def _stamp(file: Path) -> _Stamp | None:
    """Return the stamp of a regular file; None of anything else, for a read of a pipe may block."""
    try:
        found = file.stat()
    except OSError:
        return None
    return (found.st_ino, found.st_mtime_ns, found.st_size) if S_ISREG(found.st_mode) else None


def _number(written: str) -> bool:
    return bool(written) and type(json.loads(written)) in (int, float)
