"""A process that handles what one transport brings, and says when."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess

from benchmarks.of_messages.transports import TRANSPORTS, Transport

SPAWN = multiprocessing.get_context("spawn")
HELLO = -1
"""A number that only says that the handler is there."""


@dataclass(frozen=True)
class Handled:
    took_s: list[float]
    """From before the sending to the handler, each."""
    in_order: bool
    end_ns: int
    """When the last one was acknowledged and the next asked for, or the last was handled."""


class Handler:
    def __init__(self, transport: Transport, pipe: Connection, process: BaseProcess) -> None:
        self.transport = transport
        self._pipe = pipe
        self._process = process

    def greet(self) -> None:
        """Sends until the handler hears: bare PUBLISH reaches nobody who is not there yet."""
        while not self._pipe.poll(0.05):
            assert self._process.is_alive(), "the handler failed"
            self.transport.send((HELLO, 0))
        self._pipe.recv()

    def expect(self, number: int) -> None:
        """The next `number` words are handled and reported as one batch."""
        self._pipe.send(number)

    def handled(self) -> Handled:
        found: Handled = self._pipe.recv()
        return found


@contextmanager
def handler(url: str, system: str, name: str) -> Iterator[Handler]:
    """Started at once; ended with the block."""
    ours, theirs = SPAWN.Pipe()
    transport = TRANSPORTS[system](url, name)
    process = SPAWN.Process(target=_handle, args=(theirs, url, system, name), daemon=True)
    process.start()
    try:
        yield Handler(transport, ours, process)
    finally:
        process.kill()
        process.join()


def _handle(pipe: Connection, url: str, system: str, name: str) -> None:
    words = TRANSPORTS[system](url, name).receive()
    next(words)
    pipe.send("here")
    while True:
        number = pipe.recv()
        took, numbers = [], []
        for n, sent in words:
            if n == HELLO:
                continue
            took.append((time.monotonic_ns() - sent) / 1e9)
            numbers.append(n)
            if len(numbers) == number:
                break
        pipe.send(Handled(took, numbers == sorted(numbers), time.monotonic_ns()))
