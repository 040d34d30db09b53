"""A session ends when its recipient connects elsewhere, and not for the news of an earlier session."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

from coordination.gateway.access import News
from coordination.gateway.clients import Clients
from coordination.gateway.limits import TAKEN_OVER


@dataclass
class Connected:
    id: str
    recipient: str = "agent:a"
    left: list[object] = field(default_factory=list)
    redis_is_away: Callable[[], None] = lambda: None

    def leave(self, reason: object) -> None:
        self.left.append(reason)


@dataclass
class Redis:
    """Keeps the news until the test lets the gateway hear them."""

    told: list[News] = field(default_factory=list)

    def tell(self, news: News) -> None:
        self.told.append(news)

    async def do(self, call: Callable[[], object], _away: object) -> None:
        call()


def test_late_news_of_a_session_that_has_left_end_no_later_one() -> None:
    async def connect_twice() -> Connected:
        redis = cast("Any", Redis())
        clients = Clients(redis, redis, cast("Any", None))
        first, second = Connected("1"), Connected("2")
        await clients.enter(cast("Any", first))
        clients.exit(cast("Any", first))
        await clients.enter(cast("Any", second))
        for news in redis.told:
            clients._handle_news(news)
        assert second.left == []
        clients._handle_news(News(recipient="agent:a", but="at another gateway"))
        return second

    assert asyncio.run(connect_twice()).left == [TAKEN_OVER]
