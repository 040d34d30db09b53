"""Circuit breakers in any order of events, held against a model."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from functools import partial
from typing import TypeVar

import pytest
import redis
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from coordination.backend.client import Profile, connect
from coordination.backend.keys import Keys
from coordination.backend.step_connection import StepCaller
from coordination.backend.steps import Step
from coordination.backend.steps.breaker import Allow, Breakers, Record, Reset
from tests.examples import examples

NAME = "resource:db"
KEYS = Keys("test")
WINDOW_MS, OPEN_MS, TTL_MS = 305_000, 65_000, 35_000
STEPS_MS = (10_000, 40_000, 70_000, 310_000)
"""No sum of these is near one of those above: the moments that pass while a test runs change nothing."""
WHO = st.sampled_from(["ann", "bob", "eve"])
SETTINGS = settings(
    max_examples=examples(60), stateful_step_count=40, phases=[Phase.reuse, Phase.generate, Phase.shrink]
)

R = TypeVar("R")


@dataclasses.dataclass
class Probe:
    who: str
    ends: int


@dataclasses.dataclass
class BreakerModel:
    failures: int
    window: int
    open_for: int
    state: str = "closed"
    failed_at: list[int] = dataclasses.field(default_factory=list)
    until: int = 0
    probe: Probe | None = None
    behind: set[str] = dataclasses.field(default_factory=set)
    called_up: set[str] = dataclasses.field(default_factory=set)
    """The waiters behind it when its answer changed, since the last look."""

    def ask(self, who: str, now: int, ttl: int) -> str:
        word = self.answer(who, now)
        if word == "probe":
            self.state, self.probe = "half-open", Probe(who, now + ttl)
        return word

    def answer(self, who: str, now: int) -> str:
        if self.state == "closed":
            return "closed"
        if self.state == "open" and now < self.until:
            return "open"
        if self.probe and self.probe.who != who and now < self.probe.ends:
            return "half-open"
        return "probe"

    def fail(self, who: str, now: int) -> None:
        if self.state == "closed":
            self.failed_at.append(now)
            recent = [at for at in self.failed_at if now - at < self.window]
            if len(recent) >= self.failures:
                self._open(now)
        elif self._is_probe(who):
            self._open(now)

    def succeed(self, who: str) -> None:
        if self._is_probe(who):
            self.reset()

    def give_up(self, who: str) -> None:
        if self._is_probe(who):
            self.probe = None
            self.called_up |= self.behind

    def reset(self) -> None:
        if self.state != "closed":
            self.called_up |= self.behind
        self.state, self.probe, self.failed_at, self.behind = "closed", None, [], set()

    def recent(self, now: int) -> int:
        return len([at for at in self.failed_at if now - at < self.window])

    def _open(self, now: int) -> None:
        self.state, self.until, self.probe, self.failed_at = "open", now + self.open_for, None, []
        self.called_up |= self.behind

    def _is_probe(self, who: str) -> bool:
        return self.probe is not None and self.probe.who == who


class AnyHistory(RuleBasedStateMachine):
    def __init__(self, client: redis.Redis) -> None:
        super().__init__()
        self.redis = client
        self._scripts = StepCaller(client)
        self._passed_ms = self._calls = 0

    @initialize(failures=st.integers(1, 4))
    def begin(self, failures: int) -> None:
        self.redis.flushall()
        self.model = BreakerModel(failures, WINDOW_MS, OPEN_MS)

    def call(self, step: Step[R]) -> R:
        return self._scripts(step, ["test:"])

    def record(self, who: str, verdict: str) -> str:
        return self.call(
            Record(
                breaker=NAME, who=who, outcome=verdict, why="why", failures=self.model.failures,
                window_ms=WINDOW_MS, open_ms=OPEN_MS,
            )
        )  # fmt: skip

    @rule(who=WHO)
    def ask(self, who: str) -> None:
        access = self.call(Allow(breaker=NAME, who=who, by=who, ttl_ms=TTL_MS, host="", pid=0, started=""))
        assert access.word == self.model.ask(who, self._passed_ms, TTL_MS)

    @rule(who=WHO, twice=st.booleans())
    def fail(self, who: str, twice: bool) -> None:
        """The probe keeps its name; any other call that fails has its own."""
        if not (self.model.probe and self.model.probe.who == who):
            self._calls += 1
            who = f"{who} {self._calls}"
        self.model.fail(who, self._passed_ms)
        for _ in range(1 + twice):
            assert self.record(who, "failed") == self.model.state

    @rule(who=WHO)
    def succeed(self, who: str) -> None:
        self.model.succeed(who)
        word = self.record(who, "succeeded")
        assert word == self.model.state

    @rule(who=WHO)
    def give_up(self, who: str) -> None:
        self.model.give_up(who)
        assert self.record(who, "gave_up") == self.model.state

    @rule(who=WHO)
    def stand_behind(self, who: str) -> None:
        """As run/claim does with a todo that it does not let through."""
        if self.model.answer(who, self._passed_ms) in ("open", "half-open"):
            self.model.behind.add(f"run {who}")
            self.redis.zadd(KEYS.breakers.behind(NAME), {f"run {who}": 1})

    @rule()
    def reset(self) -> None:
        self.model.reset()
        self.call(Reset(breaker=NAME, actor="ann"))

    @rule(ms=st.sampled_from(STEPS_MS))
    def pass_time(self, ms: int) -> None:
        self._passed_ms += ms
        breaker, failures = KEYS.breakers.of(NAME), KEYS.breakers.failures(NAME)
        for field in ("until", "probe_until"):
            if at := self.redis.hget(breaker, field):
                self.redis.hset(breaker, field, int(at) - ms)
        for place, failure in enumerate(self.redis.lrange(failures, 0, -1)):
            at, _, who = failure.partition(" ")
            self.redis.lset(failures, place, f"{int(at) - ms} {who}")
        for key in (breaker, failures):
            left_ms = self.redis.pttl(key)
            if left_ms > 0:
                self.redis.pexpire(key, left_ms - ms)  # gone, if that is less than nothing

    @invariant()
    def is_shown_as_it_is(self) -> None:
        listed = {one["name"]: one for one in self.call(Breakers()).breakers}
        recent = self.model.recent(self._passed_ms)
        if self.model.state == "closed" and not recent:
            assert not listed
            return
        shown = listed[NAME]
        assert (shown["state"], shown["behind"]) == (self.model.state, len(self.model.behind))
        probe = self.model.probe
        assert shown["probe_by"] == (probe.who if probe and probe.ends > self._passed_ms else "")
        if self.model.state == "closed":
            assert shown["failures"] == min(recent, self.model.failures)

    @invariant()
    def those_behind_are_called_up_when_its_answer_changes_and_only_then(self) -> None:
        assert set(self.redis.zrange(KEYS.timers, 0, -1)) == self.model.called_up
        self.redis.delete(KEYS.timers)
        self.model.called_up = set()


@pytest.fixture
def server(redis_url: str) -> Iterator[redis.Redis]:
    with connect(redis_url, Profile.COMMAND) as client:
        yield client


def test_a_breaker_does_what_the_model_says_in_any_history(server: redis.Redis) -> None:
    run_state_machine_as_test(partial(AnyHistory, server), settings=SETTINGS)
