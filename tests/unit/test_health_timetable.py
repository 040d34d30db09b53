"""The timetable of health: 24 hours of random faults, and its rules."""

from __future__ import annotations

import heapq
import random
from collections import defaultdict

import pytest

from coordination.breakers.records import BreakerState, Policy
from coordination.health.records import DOWN, HealthState, Kind, Look, Overall, Subject, overall
from coordination.health.timetable import GIVE_UP_AFTER, LOOK_S, RECOVER_EVERY_S, TRIES, Timetable

DAY_S = 24 * 3600.0
TICK_S = 0.5
LEASE_S = 30.0
SUBJECTS = 12
POLICY = Policy()


class Breakers:
    """The rules of lua/breaker for one caller, in simulated time: the real ones follow Redis' clock."""

    def __init__(self) -> None:
        self.failed: defaultdict[str, list[float]] = defaultdict(list)
        self.open_until: dict[str, float] = {}

    def fail(self, name: str, now: float, *, probe: bool = False) -> None:
        recent = [at for at in self.failed[name] if now - at < POLICY.window.total_seconds()] + [now]
        self.failed[name] = recent
        if probe or (name not in self.open_until and len(recent) >= POLICY.failures):
            self.open_until[name] = now + POLICY.open_for.total_seconds()

    def close(self, name: str) -> None:
        self.failed.pop(name, None)
        self.open_until.pop(name, None)

    def states(self, now: float) -> dict[str, BreakerState]:
        return {
            name: BreakerState.OPEN if until > now else BreakerState.HALF_OPEN
            for name, until in self.open_until.items()
        }


class World:
    """Subjects that fail at random, looks and restarts that take random times, and a Redis that goes away."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.table = Timetable(spread=self.random.random)
        self.breakers = Breakers()
        self.subjects = [
            Subject(kind=Kind.SERVICE, name=f"s{n}", repo=f"r{n}", recoverable=True) for n in range(SUBJECTS)
        ]
        self.faulty: dict[str, float] = {}
        self.stubborn: set[str] = set()
        self.hangs: set[str] = set()
        self.looking: list[tuple[float, str, float, bool]] = []
        self.restarting: dict[str, float] = {}
        self.seen_failed: dict[str, float] = {}
        self.found_failed: dict[str, float] = {}
        self.begins: defaultdict[str, list[float]] = defaultdict(list)
        self.away_until = self.back_since = 0.0
        self.measured: defaultdict[str, list[float]] = defaultdict(list)

    def run(self) -> None:
        faults = sorted((self.random.uniform(60, DAY_S - 600), n) for n in range(400))
        outages = sorted(self.random.uniform(0, DAY_S) for _ in range(12))
        now = 0.0
        self.table.watch(self.subjects, now)
        while now < DAY_S:
            while faults and faults[0][0] <= now:
                self._break(self.random.choice(self.subjects).id, now)
                faults.pop(0)
            while outages and outages[0] <= now:
                outages.pop(0)
                self.away_until = now + self.random.uniform(1, 90)
                self.found_failed.clear()
            if now >= self.away_until:
                self._round(now)
            elif self.back_since < self.away_until:
                self.table.redis_was_away(self.away_until, LEASE_S)
                self.looking.clear()
                self.back_since = self.away_until
            now += TICK_S

    def _break(self, name: str, now: float) -> None:
        if name not in self.faulty:
            self.faulty[name] = now
            if self.random.random() < 0.2:
                self.stubborn.add(name)
            if self.random.random() < 0.3:
                self.hangs.add(name)

    def _round(self, now: float) -> None:
        for name, ends in list(self.restarting.items()):
            if ends <= now:
                self._restarted(name, now)
        while self.looking and self.looking[0][0] <= now:
            ended, name, began, healthy = heapq.heappop(self.looking)
            self._look_ended(name, healthy=healthy, began=began, now=now, ended=ended)
        for name in self.table.due(now):
            healthy = name not in self.faulty
            takes_s = LOOK_S if name in self.hangs else self.random.uniform(0, 0.3 if healthy else LOOK_S)
            heapq.heappush(self.looking, (now + takes_s, name, now, healthy))
        self.table.breakers(self.breakers.states(now))
        for name in self.table.may_recover(now):
            self._restart(name, now)

    def _look_ended(self, name: str, *, healthy: bool, began: float, now: float, ended: float) -> None:
        record = self.table.take(name, Look(healthy=healthy), began, now)
        if record is None:
            return
        if healthy:
            self.breakers.close(name)
            self.found_failed.pop(name, None)
            return
        trusted = now >= self.back_since + LEASE_S
        if not trusted:
            assert record.verdict not in DOWN or (record.failed_at is not None and record.failed_at < now)
            return
        if record.verdict in DOWN and record.verdict is not HealthState.RECOVERING:
            self.breakers.fail(name, now)
        fault = self.faulty.get(name)
        measurable = fault is not None and fault > self.back_since + LEASE_S
        if measurable and self.seen_failed.get(name) != fault:
            self.seen_failed[name] = fault
            self.measured["first look"].append(ended - fault)
        if record.verdict is HealthState.FAILED and record.failed_at == now and fault is not None:
            if measurable:
                self.measured["failed"].append(ended - fault)
            self.found_failed[name] = now

    def _restart(self, name: str, now: float) -> None:
        assert name not in self.restarting, "restarted twice at once"
        assert name in self.faulty or self.table.records[name].verdict in DOWN
        begins = self.begins[name]
        assert not begins or now - begins[-1] >= RECOVER_EVERY_S
        begins.append(now)
        if name in self.found_failed:
            self.measured["recovery begins"].append(now - self.found_failed.pop(name))
        self.table.recovery_began(name, "run", now)
        self.restarting[name] = now + self.random.uniform(0.5, 60)

    def _restarted(self, name: str, now: float) -> None:
        del self.restarting[name]
        vain = name in self.stubborn and self.random.random() < 0.8
        if not vain:
            for kind in (self.stubborn, self.hangs):
                kind.discard(name)
            self.faulty.pop(name, None)
        if vain and self.random.random() < 0.5:  # it starts, and fails again
            self.table.recovery_ended(name, "", now)
        else:
            self.table.recovery_ended(name, "its probe does not pass" if vain else "", now)
        if vain:
            self.breakers.fail(name, now, probe=name in self.breakers.open_until)
        else:
            self.breakers.close(name)
        assert self.table.records[name].vain <= GIVE_UP_AFTER
        if self.table.records[name].given_up:  # a person repairs it
            self.stubborn.discard(name)
            self.hangs.discard(name)
            self.faulty.pop(name, None)


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.long) for seed in (1, 2, 3))])
def test_24_hours_of_random_faults_keep_all_times(seed: int):
    world = World(seed)
    world.run()

    assert len(world.measured["failed"]) > 100
    assert len(world.measured["recovery begins"]) > 100
    assert max(world.measured["first look"]) <= 35
    assert max(world.measured["failed"]) <= 50
    assert max(world.measured["recovery begins"]) <= 120


WEB = Subject(kind=Kind.SERVICE, name="web", repo="site", required=True, recoverable=True)


class Clock:
    """A timetable of one service in which each look takes no time."""

    def __init__(self, subject: Subject = WEB) -> None:
        self.now = 1000.0
        self.table = Timetable(spread=lambda: 0.0)
        self.table.watch([subject], self.now)

    def look(self, *, healthy: bool, reported: bool = True) -> HealthState:
        while not (due := self.table.due(self.now)):
            self.now += 1
        record = self.table.take(due[0], Look(healthy=healthy, reported=reported), self.now, self.now)
        assert record is not None
        return record.state

    def fail(self) -> None:
        for _ in range(TRIES):
            self.look(healthy=False)

    @property
    def record(self):
        return self.table.records[WEB.id]


def test_a_subject_fails_after_three_tries_and_is_healthy_after_one_success():
    clock = Clock()
    seen = [clock.look(healthy=healthy) for healthy in (True, False, False, False, True)]

    assert [state.value for state in seen] == ["healthy", "degraded", "degraded", "failed", "healthy"]


def test_what_nothing_tells_is_unreachable():
    clock = Clock()
    seen = [clock.look(healthy=False, reported=False) for _ in range(TRIES)]

    assert seen[-1] is HealthState.UNREACHABLE
    assert overall(clock.table.records.values()) is Overall.CRITICAL


def test_more_than_three_changes_in_ten_minutes_are_flapping():
    clock = Clock()
    states = [clock.look(healthy=healthy) for healthy in (False, True, False, True, False)]

    assert [state.value for state in states[2:]] == ["degraded", "healthy", "flapping"]
    assert overall(clock.table.records.values()) is Overall.DEGRADED


def test_a_subject_is_given_up_after_five_vain_recoveries_until_it_is_healthy():
    clock = Clock()
    clock.fail()
    for _ in range(GIVE_UP_AFTER):
        while not clock.table.may_recover(clock.now):
            clock.now += 1
        clock.table.recovery_began(WEB.id, "run", clock.now)
        clock.table.recovery_ended(WEB.id, "it does not start", clock.now)
    assert clock.record.given_up
    assert clock.table.may_recover(clock.now + 1000) == ()

    clock.look(healthy=True)
    clock.fail()
    # A recovery that helped for a moment only does not make the next one begin earlier.
    assert clock.table.may_recover(clock.now) == ()
    assert clock.table.may_recover(clock.now + RECOVER_EVERY_S) == (WEB.id,)


def test_an_open_breaker_lets_no_recovery_through():
    clock = Clock()
    clock.fail()
    clock.table.breakers({WEB.id: BreakerState.OPEN})
    assert clock.table.may_recover(clock.now) == ()
    clock.table.breakers({WEB.id: BreakerState.HALF_OPEN})
    assert clock.table.may_recover(clock.now) == (WEB.id,)


def test_a_subject_without_a_command_is_not_recovered():
    clock = Clock(WEB.model_copy(update={"recoverable": False}))
    clock.fail()

    assert clock.table.may_recover(clock.now + 1000) == ()


def test_a_redis_that_was_away_declares_nothing_dead_for_one_lease():
    clock = Clock()
    clock.look(healthy=True)
    back = clock.now
    clock.table.redis_was_away(back, LEASE_S)
    while clock.now < back + LEASE_S - 3:
        assert clock.look(healthy=False) is HealthState.HEALTHY
    clock.now = back + LEASE_S
    clock.fail()
    assert clock.record.verdict is HealthState.FAILED
