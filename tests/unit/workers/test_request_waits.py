"""Landings that wait for a request are continued at the news of their forge, not too often."""

from __future__ import annotations

import time

from coordination.forges.locate import ForgeAddress
from coordination.forges.models import ForgeType
from workers.outcome import AwaitedRequest
from workers.waits import PAUSE_S, RequestWaits

AT = ForgeAddress(type=ForgeType.GITHUB, api="https://api.github.com", project="acme/api", host="github.com")
NEWS = {"forge": "github", "project": "acme/api"}
TODO = ("run", "T", "api")


class Waits:
    def __init__(self) -> None:
        self.fired: list[tuple[str, str]] = []
        self.allowed = True
        self.service = RequestWaits(lambda *key: self.fired.append(key), lambda host: self.allowed)

    def add(self, ago_s: float) -> None:
        self.service.add(*TODO, AwaitedRequest(address=AT, looked_at=time.monotonic() - ago_s))


def test_news_of_its_repository_fire_a_todo_once():
    waits = Waits()
    waits.add(ago_s=60)
    for payload in ({**NEWS, "project": "acme/web"}, {**NEWS, "repos": ["web"]}, {"project": 1}, "x", None):
        waits.service.hear(payload)
        assert waits.service.run_once() == 0
    waits.service.hear(NEWS)
    assert (waits.service.run_once(), waits.fired) == (1, [("run", "T")])
    waits.service.hear(NEWS)
    assert waits.service.run_once() == 0, "it is not parked any more, as far as this worker knows"


def test_news_that_arrive_during_a_look_cause_another_one():
    waits = Waits()
    waits.service.hear(NEWS)
    waits.add(ago_s=-1)
    assert waits.service.run_once() == 0, "they were there before the look"
    waits.add(ago_s=60)
    assert waits.service.run_once() == 1


def test_a_todo_is_fired_neither_too_often_nor_beyond_the_budget_nor_after_it_was_executed():
    waits = Waits()
    waits.add(ago_s=0)
    waits.service.hear(NEWS)
    assert waits.service.run_once() == 0
    assert 0 < waits.service.interval_s <= PAUSE_S, "it is looked at again when the pause is over"
    waits.service.forget("run", "T")
    waits.add(ago_s=60)
    waits.allowed = False
    assert waits.service.run_once() == 0
    waits.allowed = True
    assert waits.service.run_once() == 0, "its timer fires it"
    assert waits.fired == []
