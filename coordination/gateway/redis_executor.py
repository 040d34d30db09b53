"""Calls of the bus for many clients in a few threads, with one common check for the end of an outage of
Redis.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import redis

from coordination.errors import Unreachable
from coordination.retry import delay_s

THREADS = 8
FIRST_S, LONGEST_S = 0.1, 5.0

T = TypeVar("T")
OnOutage = Callable[[Unreachable], Awaitable[None]]


class RedisExecutor:
    """Executor of one event loop. `ping` raises Unreachable while Redis does not answer."""

    def __init__(self, ping: Callable[[], object]) -> None:
        self._ping = ping
        self._threads = ThreadPoolExecutor(THREADS, "redis")
        self._answers = asyncio.Event()
        self._outage: Unreachable | None = None
        """Error during an outage, else None."""
        self._failures = 0
        self._probing: asyncio.Task[None] | None = None

    async def do(self, operation: Callable[[], T], on_outage: OnOutage, *, takes_room: bool = False) -> T:
        """Return the result of an operation, repeated until Redis answers; `on_outage` is called with the
        error of an outage.

        An operation may be executed twice. Raises Unreachable if an operation with `takes_room` finds Redis
        full, because waiting would keep the client from frames that make room.
        """
        while True:
            if self._outage:
                await on_outage(self._outage)
                await self._answers.wait()
            try:
                done = await self.once(operation)
            except Unreachable as error:
                if takes_room and isinstance(error.__cause__, redis.OutOfMemoryError):
                    raise
                self._note_outage(error)
            else:
                self._failures = 0
                return done

    async def once(self, operation: Callable[[], T]) -> T:
        """Execute an operation once. Raises Unreachable. A cancelled caller continues only when the operation
        has ended, so that it can undo the operation.
        """
        future = asyncio.get_running_loop().run_in_executor(self._threads, operation)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            await asyncio.wait([future])
            raise

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _note_outage(self, error: Unreachable) -> None:
        self._outage = error
        self._answers.clear()
        if self._probing is None or self._probing.done():
            self._probing = asyncio.create_task(self._probe())

    async def _probe(self) -> None:
        """Wait with backoff until Redis answers, for all clients together."""
        while True:
            self._failures += 1
            await asyncio.sleep(delay_s(self._failures, FIRST_S, LONGEST_S))
            try:
                await self.once(self._ping)
            except Unreachable:
                continue
            self._outage = None
            self._answers.set()
            return
