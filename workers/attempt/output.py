"""The output of a todo: its log, COORD_OUTPUT for its dependents, and the checkpoint for its next attempt.

**The log** is kept in a file of this machine, up to FILE_LIMIT_BYTES. Its head and tail go to Redis, where
everyone can follow it.

**COORD_OUTPUT** is read at each heartbeat (`leases.py`), and sent to Redis as a checkpoint if it has changed.
Later changes go with the step that ends an attempt without success. A worker that is killed loses the changes
since its last heartbeat. The next attempt finds the checkpoint in COORD_CHECKPOINT. A file that changed while
it was read, or that is not JSON, is left for the next look: half of an object, list or text is not JSON. Half
of a number may be one, so a number alone counts only when the todo has ended.
"""

from __future__ import annotations

import codecs
import errno
import json
import logging
import os
import stat
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event
from typing import IO, Any

import redis

from coordination.credentials.masking import Masker
from coordination.dependencies.command import fits_a_line
from coordination.errors import CoordinationError
from coordination.files import make_private, open_private
from coordination.models import HIDDEN

_Stamp = tuple[int, int, int]
"""Inode, time of the last change, size."""

WRITE_JSON = "write one JSON value to the file it names"
DEEPEST = 100
"""Levels of nesting in an output. pydantic prints at most 255, and a run is shown with its todos' outputs."""
FLUSH_S = 0.2
FLUSH_BYTES = 64 * 1024
TAIL_BYTES_A_SECOND = 128 * 1024
"""The most of a log's tail that Redis gets in a second: beyond the head a log is written less often."""
MOST_BUFFERED = 4 * 1024 * 1024
"""The most bytes that wait to be sent to Redis."""
FILE_LIMIT_BYTES = 1024 * 1024 * 1024
"""Size at which the log file of a todo ends, so that its output does not fill the disk. Redis has the end."""
FULL_DISK = "interrupted by a full disk"
"""The cause of a wait, whatever file could not be written."""
SHORTEST_SECRET = 4
"""Shorter values occur in any line, so they are not masked."""
FREED_BYTES = 2 * 1024 * 1024
"""Bytes that a log frees on a full disk."""
KEPT_BYTES = 64 * 1024
"""Bytes of the end of an output in which a retry policy searches."""
SEARCH_S = 2.0
"""The time for all patterns of one failure together; one costs 25 ms."""

logger = logging.getLogger(__name__)


class OutputRefused(CoordinationError):
    """The todo's COORD_OUTPUT cannot be passed to its dependents."""


def read_output(path: Path, limit_bytes: int, masked: Callable[[Any], Any]) -> str:
    """Return the todo's JSON, compact and `masked`; empty if it wrote none. Raises OutputRefused."""
    try:
        written = bytes_of(path, limit_bytes + 1)
        if not written:
            return ""
        if len(written) > limit_bytes:
            raise OutputRefused(
                f"COORD_OUTPUT has {path.lstat().st_size} bytes, more than {limit_bytes}",
                "write a path or a summary instead, or raise output_limit_bytes",
            )
        value = json.loads(written)
        if _deeper_than(DEEPEST, value):
            raise OutputRefused(f"COORD_OUTPUT is nested deeper than {DEEPEST}", "write a flatter value")
        return json.dumps(masked(value), separators=(",", ":"), allow_nan=False)
    except (ValueError, RecursionError) as error:
        raise OutputRefused(f"COORD_OUTPUT is not JSON: {error}", WRITE_JSON) from error
    except OSError as error:
        raise OutputRefused(f"COORD_OUTPUT cannot be read: {error.strerror}", WRITE_JSON) from error


def bytes_of(path: Path, most: int) -> bytes:
    """Return the first bytes of a regular file; empty for a missing file or one of another kind (a pipe would
    block). Refuses a link: a todo in a sandbox could link to a file that only the worker can read.
    """
    try:
        file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return b""
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise OutputRefused(
                f"{path.name} is a link", "write into the file that the variable names"
            ) from error
        raise
    with os.fdopen(file, "rb") as output:
        return output.read(most) if stat.S_ISREG(os.fstat(file).st_mode) else b""


def _deeper_than(limit: int, value: Any) -> bool:
    layer = [value]
    for _ in range(limit + 1):
        nested = (outer for outer in layer if isinstance(outer, dict | list))
        layer = [
            inner for outer in nested for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
    return bool(layer)


class Checkpoint:
    """The checkpoint of one attempt. The heartbeat's thread calls `unsent` and `sent`, the attempt's thread
    the other methods.
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
        """Record that Redis has this result of `unsent`."""
        with self._guard:
            self._sent, self._sent_stamp = written, self._seen

    @property
    def left(self) -> str:
        """Return the last checkpoint of the ended attempt as JSON; empty if Redis has it."""
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
    """Return the stamp of a regular file; None for any other file, because reading a pipe may block."""
    try:
        found = file.stat()
    except OSError:
        return None
    return (found.st_ino, found.st_mtime_ns, found.st_size) if stat.S_ISREG(found.st_mode) else None


def _number(written: str) -> bool:
    return bool(written) and type(json.loads(written)) in (int, float)


class Log:
    """The log of one todo. Bytes that are not UTF-8 are shown as replacement characters. Never raises."""

    def __init__(
        self,
        append: Callable[[str, int], None],
        path: Path,
        *,
        limit_bytes: int,
        secrets: Iterable[str] = (),
        last_wait: str = "",
        file_limit_bytes: int = FILE_LIMIT_BYTES,
    ) -> None:
        """`append` sends a text to Redis, and the number of bytes that were left out before it. Half of the
        limit is for the head, half for the tail. `secrets`, values of `env`, are masked in coord's own lines
        only. Credentials are masked in all output, after a call of `mask`. `last_wait`: `wait` of the last
        attempt.
        """
        self._append = append
        self._last_wait = last_wait
        self.wait = ""
        """The reason for which the todo waits after this attempt; empty if it does not."""
        self.masker = Masker()
        self._secrets = sorted((s for s in secrets if len(s) >= SHORTEST_SECRET), key=len, reverse=True)
        self._head_left = limit_bytes // 2
        self._buffered = min(max(limit_bytes // 2, 1), MOST_BUFFERED)
        self._skipped = 0
        self._closed = False
        self._path = path
        self._file = self._open(path)
        self._file_left = file_limit_bytes - (self._file.tell() if self._file else 0)
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._buffer = bytearray()
        self._heading = b""
        """A line that reaches Redis in front of the first output."""
        self._guard = threading.Lock()
        self._timer: threading.Timer | None = None
        self._pause_s = FLUSH_S

    def write(self, data: bytes) -> None:
        with self._guard:
            if self._closed or not data:
                return
            self._to_file(data)
            self._buffer += self._heading + data
            self._heading = b""
            if self._head_left > 0 and len(self._buffer) >= FLUSH_BYTES:
                self._flush()
            elif self._head_left <= 0:
                self._leave_out(len(self._buffer) - self._buffered)
            if self._buffer and self._timer is None:
                self._begin_pause()

    def _begin_pause(self) -> None:
        """Flush after a pause, or at once if a todo has used up the threads of the system."""
        timer = threading.Timer(self._pause_s, self._flush_later)
        timer.daemon = True
        try:
            timer.start()
        except RuntimeError:
            self._flush()
        else:
            self._timer = timer

    def line(self, text: str) -> None:
        """Write a text of coord's own, each of its lines marked."""
        lines = self.masked(text).splitlines() or [""]
        self.write("".join(f"[coord] {line}\n" for line in lines).encode())

    def wait_line(self, text: str, hint: str = "", cause: str = "") -> None:
        """Write why the todo waits, and the next step, unless its last attempt had the same cause."""
        lines = f"{text}\nnext: {hint}" if hint else text
        self.wait = cause or lines
        if self.wait != self._last_wait:
            self.line(lines)

    def heading(self, text: str) -> None:
        """Write a line of coord's own, sent with the first output: alone it would cost a round trip."""
        with self._guard:
            self._heading = f"[coord] {self.masked(text)}\n".encode()
            self._to_file(self._heading)

    def mask(self, secrets: Iterable[str]) -> None:
        """Mask secrets of the attempt from here on, in all that the todo writes."""
        self.masker = Masker(secrets)

    def masked(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, HIDDEN)
        return self.masker.text(text)

    def masked_json(self, value: Any) -> Any:
        """Return a JSON value without secrets of the attempt."""
        return self.masker.json(value)

    def close(self) -> None:
        with self._guard:
            self._closed = True
            if self._timer is not None:
                self._timer.cancel()
            self._flush(final=True)
            if self._file is not None:
                self._file.close()

    def _open(self, path: Path) -> IO[bytes] | None:
        try:
            make_private(path.parent)
            return open_private(path, "ab", buffering=0)
        except OSError as error:
            logger.warning("no log file at %s: %s", path, error)
            return None

    def _to_file(self, data: bytes) -> None:
        if self._file is None:
            return
        try:
            self._file.write(data[: max(self._file_left, 0)])
        except OSError as error:  # a full disk: the todo goes on, its log does not
            self._end_file(self._file, str(error), new=self._last_wait != FULL_DISK, freed=FREED_BYTES)
            return
        if len(data) > self._file_left:
            self._end_file(self._file, "it is full; `coord logs` has the end of the output")
        self._file_left -= len(data)

    def _end_file(self, file: IO[bytes], why: str, *, new: bool = True, freed: int = 0) -> None:
        """Write nothing more to the log file. `new`: the log in Redis does not say it yet. `freed`: number of
        bytes by which the file is shortened: Redis and git need some space to end the run.
        """
        logger.warning("log file %s ends here: %s", self._path, why)
        line = f"\n[coord] the log file {self._path} ends here: {why}\n".encode()
        if new:
            self._buffer += line
        with suppress(OSError):
            if freed:
                os.ftruncate(file.fileno(), max(0, file.tell() - freed))
            file.write(line)
        file.close()
        self._file = None

    def _flush_later(self) -> None:
        with self._guard:
            self._timer = None
            self._flush()

    def _leave_out(self, size: int) -> None:
        """Drop the oldest bytes that are not in Redis yet."""
        if size > 0:
            del self._buffer[:size]
            self._decoder.reset()
            self._skipped += size

    def _flush(self, *, final: bool = False) -> None:
        size = len(self._buffer)
        text = self._decoder.decode(bytes(self._buffer), final)
        self._buffer.clear()
        if text:
            self._send(text)
        self._head_left -= size
        self._pause_s = FLUSH_S if self._head_left > 0 else max(FLUSH_S, size / TAIL_BYTES_A_SECOND)

    def _send(self, text: str) -> None:
        skipped, self._skipped = self._skipped, 0
        try:
            self._append(text, skipped)
        except redis.RedisError as error:
            self._skipped = skipped + len(text.encode())
            logger.warning("a piece of the log is only in %s: %s", self._path, error)


class OutputTail:
    """Pass a command's output to the log, and keep its end for the patterns of a retry policy."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._mask = log.masker.stream()
        self._tail = bytearray()
        self._cut = False
        self._until: float | None = None

    def take(self, data: bytes) -> None:
        self._keep(self._mask.feed(data))

    def begin(self) -> None:
        """Start masking the output of a command, with the secrets that the attempt has by now."""
        self._mask = self._log.masker.stream()

    def end(self) -> None:
        """Write the end of the output, held back because it may have been the beginning of a secret."""
        self._keep(self._mask.end())

    def _keep(self, data: bytes) -> None:
        self._log.write(data)
        self._tail += data
        if len(self._tail) > 2 * KEPT_BYTES:  # not at each call: a cut moves the whole tail
            self._trim()

    def forget(self) -> None:
        """Forget the output so far: another command begins."""
        self._tail.clear()
        self._cut = False

    @property
    def tail(self) -> str:
        return self._tail[-KEPT_BYTES:].decode(errors="replace")

    def shows(self, pattern: str) -> bool:
        """Return whether a line matches. A search that takes too long counts as no, and the log says so."""
        if len(self._tail) > KEPT_BYTES:
            self._trim()
        self._until = self._until or time.monotonic() + SEARCH_S
        fits = fits_a_line(pattern, self._lines(), until=self._until, stopped=Event())
        if fits is None:
            self._log.line(
                f"the search for {pattern!r} in the output takes too long: make the pattern simpler"
            )
        return bool(fits)

    def _trim(self) -> None:
        del self._tail[:-KEPT_BYTES]
        self._cut = True

    def _lines(self) -> bytes:
        """Return the kept output without a partial first line."""
        return bytes(self._tail[self._tail.find(b"\n") + 1 :] if self._cut else self._tail)
