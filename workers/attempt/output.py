"""Read what a todo writes to COORD_OUTPUT: for its dependents, and as a checkpoint for its next attempt.

The heartbeat looks at the file and tells Redis when it has changed (`leases.py`); what was written since goes
with the step that ends an attempt without success. A worker that is killed loses what was written since its
last heartbeat. The next attempt finds the checkpoint in COORD_CHECKPOINT.

A file that changed while it was read, or that is not JSON, is left for the next look: half of an object, list
or text is not JSON. Half of a number may be one, so a number alone counts only when the todo has ended.
"""

from __future__ import annotations

import errno
import json
import os
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from coordination.errors import CoordinationError

_Stamp = tuple[int, int, int]
"""Inode, time of the last change, size."""


DEEPEST = 100
"""Levels of nesting in an output. pydantic prints at most 255, and a run is shown with its todos' outputs."""


class OutputRefused(CoordinationError):
    """The todo's COORD_OUTPUT cannot be passed to its dependents."""


def read_output(path: Path, limit_bytes: int, masked: Callable[[Any], Any]) -> str:
    """Return the JSON that the todo wrote, compact and `masked`; empty if it wrote none.

    Raises OutputRefused.
    """
    try:
        written = _bytes_of(path, limit_bytes + 1)
        if not written:
            return ""
        if len(written) > limit_bytes:
            raise OutputRefused(
                f"COORD_OUTPUT has {path.lstat().st_size} bytes, more than {limit_bytes}",
                "write a path or a summary instead, or raise output_limit_bytes",
            )
        value = json.loads(written)
        if _deeper_than(DEEPEST, value):
            raise OutputRefused(f"COORD_OUTPUT is nested deeper than {DEEPEST}", "hand on a flatter value")
        return json.dumps(masked(value), separators=(",", ":"), allow_nan=False)
    except (ValueError, RecursionError) as error:
        raise OutputRefused(
            f"COORD_OUTPUT is not JSON: {error}", "write one JSON value to the file it names"
        ) from error
    except OSError as error:
        raise OutputRefused(
            f"COORD_OUTPUT cannot be read: {error.strerror}", "write one JSON value to the file it names"
        ) from error


def _bytes_of(path: Path, most: int) -> bytes:
    """Return the beginning of a regular file; nothing of other kinds.

    A link is refused by the system: a todo in a sandbox could name a file by it that only the worker can
    read. A pipe would block.
    """
    try:
        file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return b""
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise OutputRefused("COORD_OUTPUT is a link", "write JSON into the file that it names") from error
        raise
    with os.fdopen(file, "rb") as output:
        return output.read(most) if stat.S_ISREG(os.fstat(file).st_mode) else b""


def _deeper_than(limit: int, value: Any) -> bool:
    layer = [value]
    for _ in range(limit + 1):
        layer = [
            inner
            for outer in layer
            if isinstance(outer, dict | list)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
    return bool(layer)


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
    return (found.st_ino, found.st_mtime_ns, found.st_size) if stat.S_ISREG(found.st_mode) else None


def _number(written: str) -> bool:
    return bool(written) and type(json.loads(written)) in (int, float)
