"""The bus for many clients: its calls wait in a few threads, and one of them all finds out when Redis is back."""

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
Told = Callable[[Unreachable], Awaitable[None]]


class RedisExecutor:
    """Of one event loop. `ping` raises Unreachable as deeds do."""

    def __init__(self, ping: Callable[[], object]) -> None:
        self._ping = ping
        self._threads = ThreadPoolExecutor(THREADS, "redis")
        self._there = asyncio.Event()
        self._trouble: Unreachable | None = None
        """Why it is away, unless it is there."""
        self._failures = 0
        self._asking: asyncio.Task[None] | None = None

    async def do(self, operation: Callable[[], T], told: Told, *, takes_room: bool = False) -> T:
        """What the operation gives, however long Redis is away; `told` hears of that. A operation may be done twice.

        Raises Unreachable where a operation that `takes_room` finds none: it would keep its client from saying what makes room.
        """
        while True:
            if self._trouble:
                await told(self._trouble)
                await self._there.wait()
            try:
                done = await self.once(operation)
            except Unreachable as error:
                if takes_room and isinstance(error.__cause__, redis.OutOfMemoryError):
                    raise
                self._lost(error)
            else:
                self._failures = 0
                return done

    async def once(self, operation: Callable[[], T]) -> T:
        """Raises Unreachable. Who is cancelled meanwhile goes on when the operation is done: what comes next may undo it."""
        doing = asyncio.get_running_loop().run_in_executor(self._threads, operation)
        try:
            return await asyncio.shield(doing)
        except asyncio.CancelledError:
            await asyncio.wait([doing])
            raise

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _lost(self, error: Unreachable) -> None:
        self._trouble = error
        self._there.clear()
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._ask())

    async def _ask(self) -> None:
        """With backoff, for all clients together."""
        while True:
            self._failures += 1
            await asyncio.sleep(delay_s(self._failures, FIRST_S, LONGEST_S))
            try:
                await self.once(self._ping)
            except Unreachable:
                continue
            self._trouble = None
            self._there.set()
            return
