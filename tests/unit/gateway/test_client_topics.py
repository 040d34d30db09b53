"""The topics on which a client may publish."""

from __future__ import annotations

import pytest
from redis import Redis

from coordination.errors import Conflict
from coordination.events.records import Batch
from coordination.events.stream import EventStream
from coordination.gateway.limits import Limits
from coordination.gateway.topics import ClientTopics, GatewayTopics


async def _say(_: str) -> None: ...


async def _read(since: str) -> Batch:
    return Batch(events=(), position=since)


def test_a_flood_of_events_is_refused_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("coordination.gateway.topics.time.monotonic", lambda: now[0])
    here = GatewayTopics(EventStream(Redis(), "coord"), "")
    client = ClientTopics(here, ["**"], Limits(publish_per_s=10, publish_burst=20), _say, _read)

    for _ in range(20):
        client.may_publish("a")
    with pytest.raises(Conflict, match="10 events a second"):
        client.may_publish("a")
    now[0] += 1
    for _ in range(10):
        client.may_publish("a")
    with pytest.raises(Conflict):
        client.may_publish("a")
