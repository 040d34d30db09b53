"""Cleanup jobs: how workers are asked, answer once, and do no more than they were asked."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import fakeredis
import pytest
import redis
from redis.client import Pipeline

from coordination.errors import NotAllowed, Unreachable
from coordination.runs import cleanup_jobs
from coordination.runs.change_sets.store import ChangeSets
from coordination.runs.cleanup_jobs import Artifact, CleanupAnswer, CleanupJob, CleanupQueue, Kind
from coordination.runs.dispatch import Dispatcher
from coordination.runs.maintenance.cleaning import Cleaning
from coordination.runs.records import TodoState
from coordination.runs.remote_steps.handlers import StepHandlers
from coordination.runs.store import RunStore
from coordination.runs.worker_registry import Worker
from coordination.settings import Settings
from tests.change_sets import record
from tests.cleanup_host import FORGOTTEN_RUN, Machine
from tests.testbed import git
from workers.cleanup.automatic import AutoCleanup
from workers.workspace.change_set import BranchCopy


def test_two_workers_of_a_host_say_each_thing_once(machine: Machine, cleaning: Cleaning):
    machine.work("w2")
    run = machine.run()

    survey = cleaning.survey([])
    done = cleaning.remove(survey)

    assert len(survey.found) == 3
    assert len(done.found) == 3
    assert all(remnant.gone for remnant in done.found)
    assert not machine.path(run).exists()


def test_a_silent_worker_is_named(
    machine: Machine, cleaning: Cleaning, store: RunStore, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(cleanup_jobs, "BEGIN_WITHIN", timedelta(seconds=3))
    store.redis.zadd(store.keys.workers, {"mute@h2": store.now_ms()})
    mute = Worker(id="mute@h2", host="h2", pid=1, version="0", repos=("r1",), jobs=1)
    store.redis.set(store.keys.worker(mute.id), mute.model_dump_json())
    machine.run()

    survey = cleaning.survey([])

    assert survey.silent == ("mute@h2",)
    assert {remnant.host for remnant in survey.found} == {"h1"}


def test_a_lost_answer_is_given_again(machine: Machine, store: RunStore, monkeypatch: pytest.MonkeyPatch):
    run = machine.run()
    machine.stop()
    board = CleanupQueue(store.redis, store.keys)
    jobs = machine.cleanup_jobs("w2")
    board.post(CleanupJob(id="e1", until_ms=store.now_ms() + 60_000, remove=True, branches=False))
    plain, asked = Pipeline.execute, []

    def unheard(pipeline: Pipeline, *args: Any, **options: Any) -> Any:
        asked.append(pipeline)
        if len(asked) == 2:
            raise redis.TimeoutError("no answer")
        return plain(pipeline, *args, **options)

    with monkeypatch.context() as patched:
        patched.setattr(Pipeline, "execute", unheard)
        with pytest.raises(redis.TimeoutError):
            jobs.run_once()
    assert not machine.path(run).exists()
    assert [job.id for job in jobs.run_once()] == ["e1"]

    (answer,) = board.answers("e1").values()
    assert answer.done
    assert Kind.WORKTREE in {remnant.kind for remnant in answer.found if remnant.gone}
    assert jobs.run_once() == []


def test_a_host_without_a_worker_is_named_as_absent(machine: Machine, cleaning: Cleaning, store: RunStore):
    run = machine.run()
    store.redis.hset(store.keys.run(run).meta, "host.r2", "h9")

    assert cleaning.survey([run]).absent == ("h9",)


def test_without_a_worker_nothing_can_be_reached(store: RunStore):
    with pytest.raises(Unreachable, match="no worker"):
        Cleaning(store).survey([])


def test_worktrees_of_succeeded_runs_alone_are_removed_automatically(machine: Machine, store: RunStore):
    done, failed, live = machine.run(), machine.run(TodoState.FAILED), machine.run(None)
    (machine.state / "carried" / done / "r2").mkdir(parents=True)

    gone = AutoCleanup(store, machine.state, {"r1": machine.repo}).run_once()

    assert [(remnant.run, remnant.kind) for remnant in gone] == [(done, Kind.WORKTREE), (done, Kind.CARRIED)]
    assert not machine.path(done).exists()
    assert not (machine.state / "carried" / done).exists()
    assert machine.path(failed).exists()
    assert machine.path(live).exists()
    assert machine.branches() == {"main", *(f"coord/{run}" for run in (done, failed, live))}


def test_a_run_that_is_said_to_have_succeeded_costs_no_work_where_signatures_are_required(
    machine: Machine, store: RunStore
):
    clean, changed = machine.run(), machine.run()
    (machine.path(changed) / "unfinished").touch()

    gone = AutoCleanup(store, machine.state, {"r1": machine.repo}, spare_changes=True).run_once()

    assert [artifact.run for artifact in gone] == [clean]
    assert (machine.path(changed) / "unfinished").exists()


def test_the_accepted_rest_of_a_rolled_back_run_stays(machine: Machine, store: RunStore):
    run = machine.run(TodoState.FAILED)
    (machine.state / "carried" / run / "r2").mkdir(parents=True)
    store.redis.hset(store.keys.run(run).meta, "status", "rolled_back")

    assert [gone.kind for gone in AutoCleanup(store, machine.state, {"r1": machine.repo}).run_once()] == [
        Kind.CARRIED
    ]
    assert machine.path(run).exists()


@pytest.mark.parametrize("forged", [False, True])
def test_the_branch_of_a_change_set_goes_back_behind_a_run_that_a_person_accepted_as_undone(
    machine: Machine, store: RunStore, forged: bool
):
    """Its commits are kept, for the owner of Redis can say so, too, and that the change set is gone."""
    run = machine.run()
    meta = store.keys.run(run).meta
    brief = json.loads(store.redis.hget(meta, "brief") or "") | {
        "change_set": "P",
        "lineage": {"repos": {"r1": {"branch": "coord/P"}}},
    }
    store.redis.hset(meta, mapping={"status": "rolled_back", "brief": json.dumps(brief)})
    copy = BranchCopy(checkout=machine.repo, common_dir=machine.repo / ".git", branch="coord/P")
    before, after = git(machine.repo, "rev-parse", "main"), git(machine.repo, "rev-parse", f"coord/{run}")
    assert before != after
    copy.move(after)
    if not forged:
        record(store.redis, "P", "r1", tip=before)

    AutoCleanup(store, machine.state, {"r1": machine.repo}, change_sets=ChangeSets(store)).run_once()
    assert copy.read().head == ("" if forged else before)
    assert git(machine.repo, "rev-parse", f"refs/coord/discarded/P/{after[:12]}") == after


def test_a_branch_that_redis_makes_up_moves_no_other_one(machine: Machine, store: RunStore):
    """Or the owner of Redis could have any commit of a checkout land, by commands within the name."""
    run = machine.run()
    before, after = git(machine.repo, "rev-parse", "main"), git(machine.repo, "rev-parse", f"coord/{run}")
    more = ("commit", "start", "create refs/heads/coord/other")
    branch = "\n".join([f"coord/P {before}", f"update refs/heads/main {after}", *more])
    meta = store.keys.run(run).meta
    brief = json.loads(store.redis.hget(meta, "brief") or "")
    brief |= {"change_set": "P", "lineage": {"repos": {"r1": {"branch": branch}}}}
    store.redis.hset(meta, mapping={"status": "rolled_back", "brief": json.dumps(brief)})
    record(store.redis, "P", "r1", tip=after)

    AutoCleanup(store, machine.state, {"r1": machine.repo}, change_sets=ChangeSets(store)).run_once()
    assert git(machine.repo, "rev-parse", "main") == before


def test_a_restricted_worker_has_to_do_with_its_repositories_alone(
    machine: Machine, store: RunStore, dispatcher: Dispatcher
):
    handlers = StepHandlers(store, dispatcher, Settings(), "0")
    machine.stop()
    job = CleanupJob(
        id="1", until_ms=store.now_ms() + 60_000, tips={FORGOTTEN_RUN: {"r1": "a" * 40, "r2": "b" * 40}}
    )
    CleanupQueue(store.redis, store.keys).post(job)
    found = Artifact(run=FORGOTTEN_RUN, kind=Kind.BRANCH, repo="r2", path="/somewhere")
    answer = {
        "job_id": "1",
        "worker_id": "w1@h1",
        "answer": CleanupAnswer(host="h1", found=(found,)).model_dump(),
    }

    (visible,) = handlers.execute(frozenset({"r1"}), "cleanup_jobs", {})

    assert visible.tips == {FORGOTTEN_RUN: {"r1": "a" * 40}}
    with pytest.raises(NotAllowed, match="more than r1"):
        handlers.execute(frozenset({"r1"}), "answer", answer)


@pytest.mark.parametrize(
    "run", ["../../../precious", "20200101-120000-abcd/../../../precious", "/precious", ""]
)
def test_a_cleanup_job_names_no_folder_outside(machine: Machine, store: RunStore, tmp_path: Path, run: str):
    (tmp_path / "precious" / "logs").mkdir(parents=True)
    (machine.state / "logs").mkdir(parents=True)
    job = CleanupJob(id="x", until_ms=store.now_ms() + 60_000, remove=True).model_dump(mode="json")
    store.redis.hset(store.keys.cleanup_jobs, "x", json.dumps({**job, "runs": [run]}))

    assert machine.cleanup_jobs("w9").run_once() == []
    assert (tmp_path / "precious" / "logs").is_dir()


def test_an_answer_adds_no_run_to_those_that_were_asked(
    machine: Machine, cleaning: Cleaning, store: RunStore
):
    asked, other = machine.run(), machine.run(text="other")
    forged = Artifact(run=other, kind=Kind.LOGS, path="/x")

    class Forging(CleanupQueue):
        def answer(self, job_id: str, worker_id: str, answer: CleanupAnswer) -> None:
            super().answer(job_id, worker_id, answer.model_copy(update={"found": (*answer.found, forged)}))

    machine.board = Forging(store.redis, store.keys)
    machine.work("w2")

    survey = cleaning.survey([asked])
    assert {remnant.run for remnant in survey.found} == {asked}
    cleaning.remove(survey)
    assert f"coord/{other}" in machine.branches()


def test_a_run_that_another_worker_clears_up_at_this_moment_is_no_error(tmp_path: Path):
    folder = tmp_path / "worktrees" / FORGOTTEN_RUN
    folder.mkdir(parents=True)

    class WhileTheOtherRemoves(fakeredis.FakeRedis):
        def hget(self, *_: Any) -> Any:
            folder.rmdir()
            return "succeeded"

    store = RunStore(WhileTheOtherRemoves(decode_responses=True), "test")

    assert AutoCleanup(store, tmp_path, {"r1": tmp_path}).run_once() == []
