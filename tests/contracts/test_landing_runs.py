"""Landing runs as steps: the barrier's locks, held until the run ends."""

from __future__ import annotations

from datetime import timedelta
from types import SimpleNamespace

import pytest

from coordination.errors import Conflict
from coordination.landing.graph import landing_graph, todo_id
from coordination.landing.rules import Landing, RepoLanding
from coordination.models import Atomic, Ecosystem, Repo, Strategy, Via
from coordination.runs.change_sets.records import RepoChange
from coordination.runs.control.steering import cancel
from coordination.runs.store import RunStore
from tests.contracts.run_harness import BAD, OK, OneOfSeveral
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
        records, graph = landing_graph(
            Ecosystem(repos=tuple(Repo(name=repo) for repo in ("a", "b", "c"))), found
        )
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
    assert [
        key for part in ("shares", "queue", "request") for key in store.redis.keys(f"test:lock-{part}:*")
    ] == []


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
    first.follow(store.accept(first.run_id, "P1.land.a", "lena", "reverted by hand"))
    first.drain()
    assert first.view().status == "rolled_back"


def test_without_atomicity_a_repository_lands_though_another_is_refused(two):
    first, _ = two
    found = landing("P1", "a b c", atomic=Atomic.REPO)
    first.land(found)
    first.do("locks")
    first.do("check a", "land a", "check c")
    first.settle(first.take("P1.check.b"), BAD)
    assert (first.is_at("land", "a"), first.is_at("land", "b")) == ("succeeded", "skipped")
    assert first.is_at("land", "c") == "skipped", "it builds on what was refused"
    assert first.view().status == "failed"


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
    first.follow(store.approve(first.run_id, "P1.locks", "lena", ""))
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
