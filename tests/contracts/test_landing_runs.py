"""Landing runs as steps: the locks of the barrier and of each wave, and what a failure takes back."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace

import pytest

from coordination.errors import Conflict
from coordination.landing.graph import landing_graph, todo_id
from coordination.landing.order import LandWave
from coordination.landing.records import Landing, RepoLanding
from coordination.models import Atomic, Ecosystem, Gate, Repo, Strategy, Via
from coordination.planner.remaining import Basis, Expected, expected_of
from coordination.runs.change_sets.records import RepoChange
from coordination.runs.control.steering import cancel
from coordination.runs.store import RunStore
from coordination.runs.views.todos_in_runs import asking
from tests.engine import BAD, OK, OneOfSeveral
from tests.plans import order

TIP = "a" * 40


def landing(name: str, repos: str, *, atomic: Atomic = Atomic.PLAN, approvals: int = 0) -> Landing:
    names = repos.split()
    return Landing(
        change_set=name,
        title="a change",
        atomic=atomic,
        approvals=approvals,
        patience=timedelta(hours=1),
        repos=tuple(
            RepoLanding(
                repo=repo,
                branch="main",
                via=Via.LOCAL,
                change=RepoChange(repo=repo, branch=f"coord/{name}", tip=TIP, run="R"),
                after=tuple(names[:i][-1:]),
            )
            for i, repo in enumerate(names)
        ),
    )


class LandingRun(OneOfSeveral):
    def land(self, found: Landing) -> LandingRun:
        self.name = found.change_set
        records, graph = landing_graph(Ecosystem(repos=tuple(Repo(name=repo) for repo in "abcd")), found)
        self.submit(graph, records, order(Strategy.DATAFLOW, graph.plan.on_failure))
        return self

    def do(self, *words: str) -> None:
        for word in words:
            what, _, repo = word.partition(" ")
            self.settle(self.take(todo_id(self.name, what, repo)))

    def is_at(self, what: str, repo: str = "") -> str:
        return str(self.todo(todo_id(self.name, what, repo)).state)


@pytest.fixture
def two(store: RunStore) -> tuple[LandingRun, LandingRun]:
    known: dict[str, OneOfSeveral] = {}
    return LandingRun(store, known), LandingRun(store, known)


def lock_keys(store: RunStore) -> list[str]:
    return [key for part in ("shares", "queue", "request") for key in store.redis.keys(f"test:lock-{part}:*")]


def test_a_second_landing_waits_at_its_barrier_until_the_first_run_has_ended(two, store):
    first, second = two
    first.land(landing("P1", "a b"))
    first.do("check a", "check b", "locks")
    second.land(landing("P2", "b c"))
    second.do("check b", "check c")
    assert second.next() is None
    assert first.run_id in (second.waits_for("P2.locks") or "")
    first.do("land a")
    assert second.is_at("locks") == "parked"
    first.do("land b")
    assert first.view().status == "succeeded"
    second.tick()
    second.do("locks", "land b", "land c")
    assert second.view().status == "succeeded"
    assert lock_keys(store) == []


def test_a_refused_repository_takes_back_what_has_landed_and_then_gives_up_the_locks(two, store):
    first, second = two
    first.land(landing("P1", "a b"))
    second.land(landing("P2", "a"))
    first.do("check a", "check b", "locks", "land a")
    second.do("check a")
    assert second.next() is None
    first.settle(first.take("P1.land.b"), BAD)
    assert first.view().status == "rolling_back"
    undone = []
    while grant := (first.next() if first.mail else None):
        undone.append(grant.todo_id)
        assert second.is_at("locks") == "parked" or grant.todo_id.startswith("P1.check")
        first.settle(grant)
    assert undone[:3] == ["P1.land.b", "P1.land.a", "P1.locks"]
    assert first.view().status == "rolled_back"
    second.tick()
    second.do("locks", "land a")


def test_what_cannot_be_reverted_stays_visible_and_holds_no_lock(two, store):
    first, second = two
    first.land(landing("P1", "a b"))
    first.do("check a", "check b", "locks", "land a")
    first.settle(first.take("P1.land.b"), BAD)
    first.drain(lambda grant: BAD if grant.todo_id == "P1.land.a" else OK)
    assert first.view().status == "rollback_failed"
    assert store.redis.zrange(store.keys.half_undone, 0, -1) == [first.run_id]
    second.land(landing("P2", "a"))
    second.do("check a", "locks", "land a")
    first.accept("P1.land.a", "lena", "reverted by hand")
    first.drain()
    assert first.view().status == "rolled_back"


def test_a_dead_worker_of_the_barrier_leaves_its_locks_to_the_next_attempt(two):
    first, second = two
    first.land(landing("P1", "a"))
    first.do("check a")
    first.take("P1.locks")
    assert first.lose("P1.locks") == "requeued"
    first.do("locks", "land a")
    second.land(landing("P2", "a"))
    second.do("check a", "locks", "land a")


def test_a_landing_that_needs_an_approval_waits_without_locks(two, store):
    first, second = two
    first.land(landing("P1", "a", approvals=1))
    first.do("check a")
    assert first.is_at("locks") == "parked"
    second.land(landing("P2", "a"))
    second.do("check a", "locks", "land a")
    first.approve("P1.locks", "lena", "")
    first.do("locks", "land a")
    assert first.view().status == "succeeded"


def test_a_landing_whose_request_is_in_a_merge_queue_is_not_cancelled(two, store):
    first, _ = two
    first.land(landing("P1", "a b"))
    first.do("check a", "check b", "locks")
    grant = first.take("P1.land.a")
    store.checkpoint(grant, '{"queueing": "https://forge/acme/a/pull/7"}')
    connection = SimpleNamespace(store=store)
    with pytest.raises(Conflict, match="pull/7") as refused:
        cancel(connection, first.run_id)  # type: ignore[arg-type]
    assert f"coord rollback {first.run_id}" in str(refused.value.hint)
    assert first.view().status == "running"
    assert not store.is_cancelled(first.run_id)
    store.checkpoint(grant, "[" * 100_000)  # what an owner of Redis writes
    assert store.cancel(first.run_id, "lena").word == "cancelled"
    assert store.is_cancelled(first.run_id)


def test_a_compensation_has_a_record_of_its_own_until_the_next_rollback(two, store):
    first, _ = two
    first.land(landing("P1", "a"))
    first.do("check a", "locks")
    store.checkpoint(first.take("P1.land.a"), '{"commit": "c"}')
    first.lose("P1.land.a")
    first.mail.clear()
    first.roll_back()
    undo = first.take("P1.land.a")
    assert (undo.checkpoint, undo.undo and undo.undo.output) == ('{"commit": "c"}', '{"commit": "c"}')
    store.checkpoint(undo, '{"since": 1}')
    first.lose("P1.land.a")
    undo = first.take("P1.land.a")
    assert (undo.checkpoint, undo.undo and undo.undo.output) == ('{"since": 1}', '{"commit": "c"}')
    first.settle(undo, BAD)
    first.drain()
    assert first.view().status == "rollback_failed"
    first.roll_back()
    assert first.take("P1.land.a").checkpoint == '{"commit": "c"}'


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
    assert [one.todo for one in asking(store.redis, store.keys)] == ["P1.wave-1.locks"]
    first.approve("P1.wave-1.locks", "lena", "")
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
    assert asking(store.redis, store.keys) == [], "it goes on by itself"
    assert first.is_at("wave-2.check", "b") == "waiting"
    first.approve("P1.wave-1.soak", "lena", "")
    first.do("wave-1.soak", "wave-1.look a", "wave-1.after.check a", "wave-1.done", "wave-2.check b")
    first.approve("P1.wave-2.locks", "lena", "")
    first.do("wave-2.locks")
    assert held(store, first) == {"b"}


def test_the_time_of_a_soak_is_known_before_it_begins():
    _, graph = landing_graph(
        Ecosystem(repos=(Repo(name="a"), Repo(name="b"))), in_waves("P1", "a", "b", soak=SOAK)
    )

    expected = {todo: one for todo, one in expected_of(graph).items() if todo.endswith(".soak")}

    known = Expected(seconds=SOAK.total_seconds(), source=Basis.FIXED)
    assert expected == {"P1.wave-1.soak": known, "P1.wave-2.soak": known}


@pytest.mark.parametrize("fails", ["land c", "after.check a"])
def test_a_failure_takes_back_its_wave_only_and_no_later_one_begins(two, store, fails):
    """A refusal frees the locks of the wave after the revert; a red check comes when they are free."""
    first, _ = two
    first.land(in_waves("P1", "a", "b c", "d", check="true"))
    wave(first, 1, "a")
    first.do("wave-1.look a", "wave-1.after.check a", "wave-1.done")
    if refused := fails == "land c":
        first.do("wave-2.check b", "wave-2.check c", "wave-2.locks", "wave-2.land b")
    else:
        wave(first, 2, "b", "c")
        first.do(*(f"wave-2.look {repo}" for repo in "abc"), "wave-2.after.check b", "wave-2.after.check c")
    what, _, repo = fails.partition(" ")
    first.settle(first.take(todo_id("P1", f"wave-2.{what}", repo)), BAD)
    assert held(store, first) == ({"b", "c"} if refused else set())
    undone = first.drain()
    assert first.view().status == "rolled_back"
    assert "P1.wave-2.land.b" in undone
    assert not [todo for todo in undone if ".wave-1." in todo]
    assert [todo for todo in undone if todo.endswith(".locks")] == (["P1.wave-2.locks"] if refused else [])
    assert (first.is_at("wave-1.land", "a"), first.is_at("wave-2.land", "b")) == ("succeeded", "compensated")
    assert (first.is_at("wave-3.check", "d"), held(store, first)) == ("skipped", set())


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
        run.approve(f"P{number}.wave-1.locks", "lena", "")
        run.do("wave-1.locks", *(["wave-1.check a"] if atomic is Atomic.REPO else []))
        run.do("wave-1.land a", "wave-1.landed", "wave-1.done")
        if atomic is Atomic.WAVE:
            run.do("wave-2.check b")
        run.reject(f"P{number}.wave-2.locks", "lena", "not today")
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
    assert lock_keys(store) == []
