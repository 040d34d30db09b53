"""The pages that `--origin` can name, and the end of a session whose recipient connects elsewhere."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from coordination.errors import UsageError
from coordination.gateway.access import News, is_allowed_origin, origin_of
from coordination.gateway.clients import Clients
from coordination.gateway.limits import TAKEN_OVER


@pytest.mark.parametrize(
    "page", ["https://pages.example", "HTTPS://Pages.Example/", "https://pages.example:443/"]
)
def test_a_page_is_named_as_people_write_it(page: str):
    assert is_allowed_origin({"origin": "https://pages.example"}, [origin_of(page)])


def test_a_port_of_its_own_stays():
    assert origin_of("http://pages.example:8080") == "http://pages.example:8080"


@pytest.mark.parametrize(
    "page", ["", "localhost", "localhost:8080", "https://", "https://a/b", "https://a b", "null", "*"]
)
def test_what_no_browser_says_is_refused(page: str):
    with pytest.raises(UsageError, match="--origin"):
        origin_of(page)


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
