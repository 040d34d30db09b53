"""Exchange data with git within limits of size and time: a repository or a remote may make it write without
end.
"""

from __future__ import annotations

import os
import selectors
import subprocess
import time
from collections.abc import Callable, Generator
from contextlib import suppress
from itertools import pairwise
from typing import Any

from coordination.errors import GitRefused
from coordination.text import shortened

MOST_BYTES = 256 * 1024 * 1024
"""Limit of output and messages together. `git status` of a million new files writes 100 MB."""
CHUNK = 1 << 18
LOOK_EVERY_S = 1.0
SHOWN = 200
"""Characters of a command in an error."""


class TooMuchOutput(GitRefused):
    """The answer of git has more than MOST_BYTES."""

    def __init__(self, command: object) -> None:
        words = [*map(str, command)] if isinstance(command, list) else ["git"]
        shown = " ".join(word for before, word in pairwise(["", *words]) if "-c" not in (before, word))
        super().__init__(
            f"{shortened(shown, SHOWN)}: its answer has more than {MOST_BYTES:,} bytes",
            "look at the repository: it has more files, commits or refs than coord reads",
        )


def run(
    command: list[str], *, stdin: str = "", timeout_s: float, errors: str = "replace", **where: Any
) -> subprocess.CompletedProcess[str]:
    """Run git and return its output as text. Raises OSError, TimeoutExpired, TooMuchOutput."""
    until, source = time.monotonic() + timeout_s, subprocess.PIPE if stdin else subprocess.DEVNULL
    with subprocess.Popen(
        command, stdin=source, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **where
    ) as process:
        try:
            out, err = communicate(process, stdin.encode(errors="surrogateescape"), until)
        except BaseException:
            process.kill()
            raise
    return subprocess.CompletedProcess(
        command, process.returncode, text_of(out, errors), text_of(err, errors)
    )


def stream(
    command: list[str], *, timeout_s: float, **where: Any
) -> Generator[bytes, None, subprocess.CompletedProcess[str]]:
    """Yield the output of git piece by piece; return how it ended, with the beginning of its messages.

    `timeout_s`: how long the caller waits for git, all together. Raises OSError, TimeoutExpired,
    TooMuchOutput.
    """
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **where
    ) as process:
        try:
            messages = yield from _pieces(process, timeout_s)
            process.wait(timeout_s)
        except BaseException:  # the reader has enough, or the pager was left
            process.kill()
            raise
    return subprocess.CompletedProcess(command, process.returncode, "", text_of(messages, "replace"))


def _pieces(process: subprocess.Popen[bytes], left_s: float) -> Generator[bytes, None, bytes]:
    messages, size = b"", 0
    with selectors.DefaultSelector() as ready:
        ready.register(process.stdout or -1, selectors.EVENT_READ, True)
        ready.register(process.stderr or -1, selectors.EVENT_READ, False)
        while ready.get_map():
            asked_at = time.monotonic()
            events = ready.select(max(0.0, left_s))
            left_s -= time.monotonic() - asked_at
            if not events:
                raise subprocess.TimeoutExpired(process.args, left_s)
            for key, _ in events:
                data = os.read(key.fd, CHUNK)
                size += len(data)
                if size > MOST_BYTES:
                    raise TooMuchOutput(process.args)
                if not data:
                    ready.unregister(key.fileobj)
                elif key.data:
                    yield data
                else:  # read even where nobody needs it: git would wait
                    messages = (messages + data)[:CHUNK]
    return messages


def communicate(
    process: subprocess.Popen[bytes],
    stdin: bytes,
    until: float,
    look: Callable[[], object] = lambda: None,
) -> tuple[bytes, bytes]:
    """Send `stdin`, and return output and messages when both are closed and git has ended. `until`: the end
    of the patience, as `time.monotonic` counts; `look` is called after each second of silence.

    Raises TimeoutExpired, TooMuchOutput; git may still run then.
    """
    with selectors.DefaultSelector() as ready:
        exchange = _Exchange(process, stdin, ready)
        while ready.get_map():
            left = until - time.monotonic()
            if left <= 0:
                raise subprocess.TimeoutExpired(process.args, 0)
            if not (events := ready.select(min(left, LOOK_EVERY_S))):
                look()
            for key, _ in events:
                exchange.go_on(key)
    process.wait(max(0.0, until - time.monotonic()))
    return exchange.received


class _Exchange:
    def __init__(self, process: subprocess.Popen[bytes], stdin: bytes, ready: selectors.BaseSelector) -> None:
        self._process = process
        self._unsent = memoryview(stdin)
        self._ready = ready
        self._pieces: tuple[list[bytes], list[bytes]] = ([], [])
        self._size = 0
        for stream, pieces in zip((process.stdout, process.stderr), self._pieces, strict=True):
            assert stream is not None
            ready.register(stream, selectors.EVENT_READ, pieces)
        if process.stdin is not None:
            os.set_blocking(process.stdin.fileno(), False)
            ready.register(process.stdin, selectors.EVENT_WRITE)

    @property
    def received(self) -> tuple[bytes, bytes]:
        out, err = self._pieces
        return b"".join(out), b"".join(err)

    def go_on(self, key: selectors.SelectorKey) -> None:
        """Send or receive a piece. Raises TooMuchOutput."""
        if key.data is None:
            self._send(key.fd)
            return
        data = os.read(key.fd, CHUNK)
        if not data:
            self._ready.unregister(key.fileobj)
        key.data.append(data)
        self._size += len(data)
        if self._size > MOST_BYTES:
            raise TooMuchOutput(self._process.args)

    def _send(self, descriptor: int) -> None:
        with suppress(BlockingIOError):
            try:
                self._unsent = self._unsent[os.write(descriptor, self._unsent[:CHUNK]) :]
            except BrokenPipeError:  # git reads no more
                self._unsent = self._unsent[:0]
        if not self._unsent and self._process.stdin is not None:
            self._ready.unregister(self._process.stdin)
            self._process.stdin.close()


def text_of(output: bytes, errors: str) -> str:
    """Return output as text, with the ends of lines that a text file would have."""
    return output.decode(errors=errors).replace("\r\n", "\n").replace("\r", "\n")
