"""Landings in waves as steps: locks by wave, what a failure takes back, and what it tolerates."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from coordination.landing.order import LandWave
from coordination.landing.rules import Landing
from coordination.models import Atomic, Gate
from coordination.runs.store import RunStore
from tests.contracts.run_harness import BAD, OneOfSeveral
from tests.contracts.test_landing_runs import LandingRun, landing

SOAK = timedelta(hours=1)


def in_waves(
    name: str, *groups: str, atomic: Atomic = Atomic.WAVE, failures: int = 0, **how: object
) -> Landing:
    waves = tuple(
        LandWave(number=number, repos=tuple(group.split()), **how)  # type: ignore[arg-type]
        for number, group in enumerate(groups, 1)
    )
    found = landing(name, " ".join(groups), atomic=atomic)
    repos = tuple(replace(one, after=()) for one in found.repos)
    return replace(found, repos=repos, waves=waves, max_failures=failures)


@pytest.fixture
def two(store: RunStore) -> tuple[LandingRun, LandingRun]:
    known: dict[str, OneOfSeveral] = {}
    return LandingRun(store, known), LandingRun(store, known)


def held(store: RunStore, run: LandingRun) -> set[str]:
    """Return the repositories whose landing locks a run holds."""
    keys = store.redis.keys("test:lock-shares:land:*")
    shares = {key.rpartition(":")[2]: store.redis.zrange(key, 0, -1) for key in keys}
    return {repo for repo, members in shares.items() if any(run.run_id in one for one in members)}


def wave(run: LandingRun, number: int, *repos: str) -> None:
    """Land the repositories of a wave."""
    run.do(*(f"wave-{number}.check {repo}" for repo in repos), f"wave-{number}.locks")
    run.do(*(f"wave-{number}.land {repo}" for repo in repos), f"wave-{number}.landed")


def test_a_wave_gives_its_locks_back_when_it_has_landed_and_soaks_without_any(two, store):
    first, second = two
    first.land(in_waves("P1", "a", "b", soak=SOAK, check="true", gate=Gate()))
    first.do("wave-1.check a")
    assert (held(store, first), first.is_at("wave-1.locks")) == (set(), "parked"), "it waits at its gate"
    first.follow(store.approve(first.run_id, "P1.wave-1.locks", "lena", ""))
    first.do("wave-1.locks")
    assert held(store, first) == {"a"}
    second.land(landing("P2", "a"))
    second.do("check a")
    assert second.next() is None
    first.do("wave-1.land a", "wave-1.landed")
    assert held(store, first) == set()
    second.tick()
    second.do("locks", "land a")
    assert second.view().status == "succeeded"

    soak = first.todo("P1.wave-1.soak")
    assert (soak.state, soak.wait_reason) == ("parked", "timer")
    assert first.is_at("wave-2.check", "b") == "waiting"
    first.follow(store.approve(first.run_id, "P1.wave-1.soak", "lena", ""))
    first.do("wave-1.soak", "wave-1.look a", "wave-1.after.check a", "wave-1.done", "wave-2.check b")
    first.follow(store.approve(first.run_id, "P1.wave-2.locks", "lena", ""))
    first.do("wave-2.locks")
    assert held(store, first) == {"b"}


def test_a_red_check_takes_back_its_wave_only_and_no_later_one_begins(two, store):
    first, _ = two
    first.land(in_waves("P1", "a", "b", "c", check="true"))
    wave(first, 1, "a")
    first.do("wave-1.look a", "wave-1.after.check a", "wave-1.done")
    wave(first, 2, "b")
    first.do("wave-2.look a", "wave-2.look b", "wave-2.after.check b")
    first.settle(first.take("P1.wave-2.after.check.a"), BAD)
    undone = []
    while grant := (first.next() if first.mail else None):
        undone.append(grant.todo_id)
        first.settle(grant)
    assert first.view().status == "rolled_back"
    assert "P1.wave-2.land.b" in undone
    assert not [todo for todo in undone if ".wave-1." in todo or todo.endswith(".locks")]
    assert (first.is_at("wave-1.land", "a"), first.is_at("wave-2.land", "b")) == ("succeeded", "compensated")
    assert (first.is_at("wave-3.check", "c"), held(store, first)) == ("skipped", set())


def test_a_refusal_in_a_wave_frees_its_locks_after_the_revert(two, store):
    first, _ = two
    first.land(in_waves("P1", "a", "b c"))
    wave(first, 1, "a")
    first.do("wave-1.done", "wave-2.check b", "wave-2.check c", "wave-2.locks", "wave-2.land b")
    first.settle(first.take("P1.wave-2.land.c"), BAD)
    assert held(store, first) == {"b", "c"}
    first.drain()
    assert (first.view().status, held(store, first)) == ("rolled_back", set())
    assert (first.is_at("wave-1.land", "a"), first.is_at("wave-2.land", "b")) == ("succeeded", "compensated")


@pytest.mark.parametrize(("failures", "goes_on"), [(0, False), (1, True)])
def test_max_failures_decides_whether_the_next_wave_begins(two, store, failures, goes_on):
    first, _ = two
    first.land(in_waves("P1", "a b", "c", atomic=Atomic.REPO, failures=failures, check="true"))
    first.do("wave-1.locks")
    first.settle(first.take("P1.wave-1.check.a"), BAD)
    first.do("wave-1.check b", "wave-1.land b")
    if goes_on:
        first.do("wave-1.landed")
        assert held(store, first) == set()
        assert first.is_at("wave-1.look", "a") == "skipped", "it has not landed"
        first.do("wave-1.look b", "wave-1.after.check b", "wave-1.done", "wave-2.locks", "wave-2.check c")
        first.do("wave-2.land c", "wave-2.landed", "wave-2.look b", "wave-2.look c")
        first.settle(first.take("P1.wave-2.after.check.b"), BAD)
        first.drain()
    assert first.is_at("wave-2.land", "c") == ("succeeded" if goes_on else "skipped")
    assert (first.is_at("wave-1.land", "b"), first.view().status) == ("succeeded", "failed")
    assert held(store, first) == set()


def test_a_rejected_gate_begins_no_wave_and_reverts_none(two, store):
    for number, (run, atomic) in enumerate(zip(two, (Atomic.WAVE, Atomic.REPO), strict=True)):
        run.land(in_waves(f"P{number}", "a", "b", "c", atomic=atomic, gate=Gate()))
        if atomic is Atomic.WAVE:
            run.do("wave-1.check a")
        run.follow(store.approve(run.run_id, f"P{number}.wave-1.locks", "lena", ""))
        run.do("wave-1.locks", *(["wave-1.check a"] if atomic is Atomic.REPO else []))
        run.do("wave-1.land a", "wave-1.landed", "wave-1.done")
        if atomic is Atomic.WAVE:
            run.do("wave-2.check b")
        run.follow(store.reject(run.run_id, f"P{number}.wave-2.locks", "lena", "not today"))
        run.drain()
        assert run.is_at("wave-1.land", "a") == "succeeded"
        assert run.is_at("wave-2.land", "b") == run.is_at("wave-3.land", "c") == "skipped"
        assert run.view().status.ended


def test_a_dead_worker_between_two_waves_takes_nothing_back(two, store):
    first, _ = two
    first.land(in_waves("P1", "a", "b"))
    wave(first, 1, "a")
    first.take("P1.wave-1.done")
    assert first.lose("P1.wave-1.done") == "requeued"
    first.do("wave-1.done")
    wave(first, 2, "b")
    first.do("wave-2.done")
    assert first.view().status == "succeeded"
    assert [
        k for part in ("shares", "queue", "request") for k in store.redis.keys(f"test:lock-{part}:*")
    ] == []
