"""Keep a todo's log: whole in a file of this machine, its head and tail in Redis, where everyone can follow
it.
"""

from __future__ import annotations

import codecs
import logging
import os
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import redis

from coordination.credentials.masking import Masker
from coordination.files import make_private, open_private
from coordination.models import HIDDEN

FLUSH_S = 0.2
FLUSH_BYTES = 64 * 1024
TAIL_BYTES_A_SECOND = 128 * 1024
"""The most of a log's tail that Redis gets in a second: beyond the head a log is written less often."""
MOST_BUFFERED = 4 * 1024 * 1024
SHORTEST_SECRET = 4
"""Shorter values occur in any line, so they are not masked."""
GIVEN_BACK = 2 * 1024 * 1024

logger = logging.getLogger(__name__)


class Log:
    """Takes bytes of any kind; those that are not UTF-8 show as a replacement character. Never raises."""

    def __init__(
        self, append: Callable[[str, int], None], path: Path, *, limit_bytes: int, secrets: Iterable[str] = ()
    ) -> None:
        """`append` takes a text, and how many bytes were left out before it.

        Half of the limit is for the head, half for the tail.

        `secrets`, values of `env`, are masked in coord's own lines only. Those of credentials are masked in
        all output, once `mask` has named them.
        """
        self._append = append
        self.masker = Masker()
        self._secrets = sorted((s for s in secrets if len(s) >= SHORTEST_SECRET), key=len, reverse=True)
        self._head_left = limit_bytes // 2
        self._buffered = min(max(limit_bytes // 2, 1), MOST_BUFFERED)
        self._skipped = 0
        self._closed = False
        self._path = path
        self._file = self._open(path)
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
        """Flush after a pause; at once where the system has no thread left, as while a todo starts processes
        without end.
        """
        timer = threading.Timer(self._pause_s, self._flush_later)
        timer.daemon = True
        try:
            timer.start()
        except RuntimeError:
            self._flush()
        else:
            self._timer = timer

    def line(self, text: str) -> None:
        """Write a text of coord's own, each of its lines marked as such."""
        lines = self.masked(text).splitlines() or [""]
        self.write("".join(f"[coord] {line}\n" for line in lines).encode())

    def heading(self, text: str) -> None:
        """Write a line of coord's own that is sent to Redis with the first output only: alone it would cost
        each todo a round trip.
        """
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
            self._file.write(data)
        except OSError as error:  # a full disk: the todo goes on, its log does not
            logger.warning("log file %s ends here: %s", self._path, error)
            line = f"\n[coord] the log file {self._path} ends here: {error}\n".encode()
            self._buffer += line
            self._give_room(self._file, line)
            self._file.close()
            self._file = None

    def _give_room(self, file: IO[bytes], line: bytes) -> None:
        """Give room back to this disk: Redis and git need some to end the run."""
        with suppress(OSError):
            os.ftruncate(file.fileno(), max(0, file.tell() - GIVEN_BACK))
            file.write(line)

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
