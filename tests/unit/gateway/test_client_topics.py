"""The topics on which a client may publish."""

from __future__ import annotations

import pytest

from coordination.errors import Conflict
from coordination.gateway.limits import Limits
from coordination.gateway.topics import ClientTopics
from coordination.messages.topics import Patterns


async def _say(_: str) -> None: ...


def test_a_flood_of_events_is_refused_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("coordination.gateway.topics.time.monotonic", lambda: now[0])
    client = ClientTopics(Patterns(), ["**"], Limits(publish_per_s=10, publish_burst=20), _say)

    for _ in range(20):
        client.may_publish("a")
    with pytest.raises(Conflict, match="10 events a second"):
        client.may_publish("a")
    now[0] += 1
    for _ in range(10):
        client.may_publish("a")
    with pytest.raises(Conflict):
        client.may_publish("a")
