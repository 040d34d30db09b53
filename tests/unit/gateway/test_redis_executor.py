"""Calls of Redis in threads: a cancelled caller continues when its call has ended; outages are retried."""

from __future__ import annotations

import asyncio
import threading

import pytest

from coordination.errors import Unreachable
from coordination.gateway import redis_executor as module
from coordination.gateway.redis_executor import RedisExecutor


def test_a_cancelled_caller_continues_when_its_call_has_ended():
    begun, may_end, done = threading.Event(), threading.Event(), []

    def operation() -> None:
        begun.set()
        may_end.wait(60)
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


def test_an_outage_is_reported_to_every_caller_and_one_probe_waits_for_its_end():
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


def test_a_long_outage_is_probed_until_its_end(monkeypatch: pytest.MonkeyPatch):
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
