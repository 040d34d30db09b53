"""Calls in threads for a loop: whoever leaves knows that nothing of its own is still under way."""

from __future__ import annotations

import asyncio
import threading

import pytest

from coordination.errors import Unreachable
from coordination.gateway import redis_executor as module
from coordination.gateway.redis_executor import RedisExecutor


def test_who_is_cancelled_goes_on_when_its_deed_is_done():
    begun, may_end, done = threading.Event(), threading.Event(), []

    def operation() -> None:
        begun.set()
        may_end.wait(10)
        done.append(True)

    async def story() -> list[bool]:
        task = asyncio.create_task(RedisExecutor(lambda: None).once(operation))
        await asyncio.to_thread(begun.wait, 10)
        task.cancel()
        asyncio.get_running_loop().call_soon(may_end.set)
        with pytest.raises(asyncio.CancelledError):
            await task
        return list(done)

    assert asyncio.run(story()) == [True]


def test_everybody_is_told_that_redis_is_away_and_one_asks_for_all_until_it_is_back():
    pings, told = [], []

    def ping() -> None:
        pings.append(threading.current_thread().name)
        if len(pings) < 3:
            raise Unreachable("away")

    def operation() -> str:
        if len(pings) < 3:
            raise Unreachable("away")
        return "done"

    async def one(executor: RedisExecutor, who: int) -> str:
        async def tell(error: Unreachable) -> None:
            told.append((who, error.message))

        return await executor.do(operation, tell)

    async def story() -> list[str]:
        executor = RedisExecutor(ping)
        return await asyncio.gather(*(one(executor, who) for who in range(5)))

    assert asyncio.run(story()) == ["done"] * 5
    assert len(pings) == 3
    assert {who for who, _ in told} == set(range(5))


def test_redis_is_asked_for_however_long_it_is_away(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "LONGEST_S", 0.0)
    tries, asked = 1100, []  # after about 45 minutes

    def ping() -> None:
        asked.append(True)
        if len(asked) < tries:
            raise Unreachable("away")

    def operation() -> str:
        if len(asked) < tries:
            raise Unreachable("away")
        return "done"

    async def tell(_: Unreachable) -> None:
        pass

    async def story() -> str:
        async with asyncio.timeout(30):
            return await RedisExecutor(ping).do(operation, tell)

    assert asyncio.run(story()) == "done"
