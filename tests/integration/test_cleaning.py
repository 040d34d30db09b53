"""What ended runs have left on a host is found and taken away; what is somebody's stays, and is named with the reason."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import fakeredis
import pytest
import redis
from redis.client import Pipeline

from coordination.backend.client import Profile, connect
from coordination.background import BackgroundService
from coordination.errors import Conflict, NotAllowed, NotFound, Unreachable
from coordination.models import Repo
from coordination.runs import cleanup_jobs
from coordination.runs.cleaning import Cleaning, Survey
from coordination.runs.cleanup_jobs import Answer, Artifact, CleanupJob, CleanupQueue, Kind
from coordination.runs.dispatch import Dispatcher
from coordination.runs.presence import Worker
from coordination.runs.records import Result, TodoState
from coordination.runs.remote_steps.handlers import StepHandlers
from coordination.runs.store import RunStore
from coordination.settings import Settings
from tests.contracts.carrier import BAD, Harness
from tests.integration.conftest import submitted
from tests.stage import git
from tests.waiting import until
from workers.cleanup import artifacts
from workers.cleanup.jobs import AutoCleanup, CleanupJobs
from workers.notifications import Callbacks, Notifications
from workers.workspace.lock import LockRequest
from workers.workspace.worktree import Worktree

FORGOTTEN_RUN = "20200101-120000-abcd"


class Machine:
    """A host with a repository `r1`, and a worker on it that does cleanup jobs."""

    def __init__(self, folder: Path, store: RunStore, url: str, host: str = "h1") -> None:
        self.store = store
        self.state = folder / ".coord"
        self.repo = folder / "r1"
        git(folder, "init", "-q", "-b", "main", str(self.repo))
        git(self.repo, "commit", "-q", "--allow-empty", "-m", "first")
        self.host = host
        self.client = connect(url, Profile.WORKER)
        self.services: list[BackgroundService] = []
        self.board = CleanupQueue(store.redis, store.keys)

    def work(self, worker_id: str = "w1") -> CleanupJobs:
        """One more worker of this host, with the same state folder."""
        worker = self._worker(worker_id)
        self.store.redis.zadd(self.store.keys.workers, {worker.id: self.store.now_ms()})
        self.store.redis.set(self.store.keys.worker(worker.id), worker.model_dump_json())
        jobs = self.cleanup_jobs(worker_id)
        told = Callbacks(beat=lambda: None, look=jobs.wake, say=lambda run, line: None)
        mail = Notifications(self.client, Settings(namespace="test"), worker, told)
        mail.subscribe()
        for service in (jobs, mail):
            service.start()
            self.services.append(service)
        return jobs

    def cleanup_jobs(self, worker_id: str) -> CleanupJobs:
        """Of a worker of this host; not started."""
        return CleanupJobs(self.board, self._worker(worker_id), self.state, {"r1": self.repo})

    def _worker(self, worker_id: str) -> Worker:
        return Worker(
            id=f"{worker_id}@{self.host}", host=self.host, pid=1, version="0", repos=("r1",), jobs=1
        )

    def run(self, outcome: TodoState | None = TodoState.SUCCEEDED, text: str = "new") -> str:
        """A run of one todo that committed a file, and logged; without an outcome it is live."""
        run = submitted(self.store, {"A": "r1"})
        grant = run.take("A")
        worktree = self.worktree(run.run_id)
        worktree.enter(
            LockRequest(run_id=run.run_id, key="key", fence=grant.fence), grant.tip, timedelta(seconds=5)
        )
        (worktree.path / "new").write_text(text)
        tip = worktree.commit("A", "a task") if outcome is not TodoState.FAILED else ""
        worktree.leave()
        self.log(run.run_id)
        if outcome is TodoState.SUCCEEDED:
            run.settle(grant, Result(outcome=outcome, exit_code=0, tip=tip))
        elif outcome is TodoState.FAILED:
            run.settle(grant, BAD)
        return run.run_id

    def log(self, run_id: str) -> None:
        folder = self.state / "logs" / run_id
        folder.mkdir(parents=True)
        (folder / "A.log").write_text("words\n")
        self.store.redis.xadd(self.store.keys.run(run_id).log("A"), {"text": "words"})

    def worktree(self, run_id: str) -> Worktree:
        return Worktree(state=self.state, run=run_id, repo=Repo(name="r1"), checkout=self.repo)

    def path(self, run_id: str) -> Path:
        return self.state / "worktrees" / run_id / "r1"

    def branches(self) -> set[str]:
        return set(git(self.repo, "for-each-ref", "--format=%(refname:short)", "refs/heads").split())

    def stop(self) -> None:
        for service in reversed(self.services):
            service.stop()
        until(lambda: not any(thread.name == "cleanup" for thread in threading.enumerate()))
        self.client.close()


@pytest.fixture
def machine(tmp_path: Path, store: RunStore, redis_url: str) -> Iterator[Machine]:
    made = Machine(tmp_path, store, redis_url)
    made.work()
    yield made
    made.stop()


@pytest.fixture
def cleaning(store: RunStore) -> Cleaning:
    return Cleaning(store)


def kinds(survey: Survey) -> dict[Kind, Artifact]:
    return {remnant.kind: remnant for remnant in survey.found}


def test_a_survey_says_what_there_is_and_takes_nothing(machine: Machine, cleaning: Cleaning):
    run = machine.run(TodoState.FAILED)
    before = machine.branches()

    survey = cleaning.survey([])

    found = kinds(survey)
    assert set(found) == {Kind.WORKTREE, Kind.BRANCH, Kind.LOGS}
    assert survey.statuses == {run: "failed"}
    assert found[Kind.WORKTREE].changed
    assert found[Kind.WORKTREE].bytes > 0
    assert not found[Kind.BRANCH].unmerged
    assert {remnant.host for remnant in survey.found} == {"h1"}
    assert machine.path(run).exists()
    assert machine.branches() == before


def test_all_that_a_run_left_is_removed_but_its_record(machine: Machine, cleaning: Cleaning, store: RunStore):
    run = machine.run()

    done = cleaning.remove(cleaning.survey([]))

    assert all(remnant.gone for remnant in done.found)
    assert machine.branches() == {"main"}
    assert not machine.path(run).exists()
    assert git(machine.repo, "worktree", "list").count("\n") == 0
    assert not (machine.state / "workspaces" / run).exists()
    assert not (machine.state / "logs" / run).exists()
    assert store.status(run) == "succeeded"
    assert not store.redis.exists(store.keys.run(run).log("A"))
    assert not store.redis.keys("test:errand*")


def test_a_branch_with_unmerged_work_is_marked_as_unmerged(machine: Machine, cleaning: Cleaning):
    merged, squashed, not_merged = machine.run(), machine.run(), machine.run(text="other")
    git(machine.repo, "merge", "-q", f"coord/{merged}")  # and so all of the second, under another commit

    branches = {r.run: r for r in cleaning.survey([]).found if r.kind is Kind.BRANCH}

    assert not branches[merged].unmerged
    assert not branches[squashed].unmerged
    assert branches[not_merged].unmerged
    assert not branches[not_merged].stays


def test_branches_are_kept_when_they_are_to_be(machine: Machine, cleaning: Cleaning):
    run = machine.run()

    cleaning.remove(cleaning.survey([], branches=False), branches=False)

    assert machine.branches() == {"main", f"coord/{run}"}
    assert not machine.path(run).exists()


def test_a_branch_on_which_somebody_went_on_working_stays(machine: Machine, cleaning: Cleaning):
    run = machine.run()
    git(machine.path(run), "commit", "-q", "--allow-empty", "-m", "by hand")

    done = cleaning.remove(cleaning.survey([]))

    branch = kinds(done)[Kind.BRANCH]
    assert "commits that no run has recorded" in branch.stays
    assert not branch.gone
    assert machine.branches() == {"main", f"coord/{run}"}
    assert not machine.path(run).exists()


def test_a_commit_that_a_later_run_recorded_is_nobodys_loss(
    machine: Machine, cleaning: Cleaning, store: RunStore
):
    run, later = machine.run(TodoState.FAILED), machine.run()
    git(machine.path(run), "commit", "-q", "--allow-empty", "-m", "mended by hand")
    store.redis.hset(store.keys.run(later).tips, "r1", git(machine.path(run), "rev-parse", "HEAD"))

    done = cleaning.remove(cleaning.survey([run]))

    assert all(remnant.gone for remnant in done.found)
    assert machine.branches() == {"main", f"coord/{later}"}


def test_a_recorded_commit_that_is_not_here_is_no_obstacle(
    machine: Machine, cleaning: Cleaning, store: RunStore
):
    run = machine.run()
    other = machine.run()
    store.redis.hset(store.keys.run(other).tips, "r1", "0123456789" * 4)

    assert all(remnant.gone for remnant in cleaning.remove(cleaning.survey([run])).found)


def test_a_branch_that_is_checked_out_stays(machine: Machine, cleaning: Cleaning):
    run = machine.run()
    machine.worktree(run).remove(timedelta(0))
    git(machine.repo, "switch", "-q", f"coord/{run}")

    survey = cleaning.survey([])
    done = cleaning.remove(survey)

    for found in (survey, done):
        assert kinds(found)[Kind.BRANCH].stays == f"it is checked out in {machine.repo}"
    assert machine.branches() == {"main", f"coord/{run}"}


def test_a_worktree_in_use_stays_with_its_branch(
    machine: Machine, cleaning: Cleaning, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(artifacts, "PATIENCE", timedelta(milliseconds=100))
    run = machine.run()
    inside = machine.worktree(run)
    tip = git(machine.repo, "rev-parse", f"coord/{run}")
    inside.enter(LockRequest(run_id=run, key="key", fence=2**60), tip, timedelta(0))

    done = cleaning.remove(cleaning.survey([]))
    inside.leave()

    assert "in use" in kinds(done)[Kind.WORKTREE].stays
    assert "checked out" in kinds(done)[Kind.BRANCH].stays
    assert machine.path(run).exists()


def test_a_folder_that_git_does_not_know_as_a_worktree_stays(machine: Machine, cleaning: Cleaning):
    run = machine.run(TodoState.FAILED)
    machine.worktree(run).remove(timedelta(0))
    machine.path(run).mkdir(parents=True)
    (machine.path(run) / "mine").touch()

    done = cleaning.remove(cleaning.survey([run]))

    assert "does not know it" in kinds(done)[Kind.WORKTREE].stays
    assert (machine.path(run) / "mine").exists()


def test_a_link_in_place_of_a_folder_is_not_followed(machine: Machine, cleaning: Cleaning, tmp_path: Path):
    run = machine.run()
    (tmp_path / "precious").mkdir()
    (machine.state / "carried").mkdir()
    (machine.state / "carried" / run).symlink_to(tmp_path / "precious")

    done = cleaning.remove(cleaning.survey([]))

    assert Kind.CARRIED not in kinds(done)
    assert (tmp_path / "precious").exists()


def test_a_lock_that_a_killed_git_left_on_a_branch_goes_with_it(machine: Machine, cleaning: Cleaning):
    lock = machine.repo / ".git" / "refs" / "heads" / "coord" / f"{machine.run()}.lock"
    lock.touch()

    done = cleaning.remove(cleaning.survey([]))

    assert all(remnant.gone for remnant in done.found)
    assert machine.branches() == {"main"}
    assert not lock.exists()


def test_a_live_run_is_left_out_and_refused_when_it_is_named(machine: Machine, cleaning: Cleaning):
    over, live = machine.run(), machine.run(None)

    with pytest.raises(Conflict, match=live):
        cleaning.survey([live])
    cleaning.remove(cleaning.survey([]))

    assert machine.path(live).exists()
    assert machine.branches() == {"main", f"coord/{live}"}
    assert (machine.state / "logs" / live).exists()
    assert not (machine.state / "logs" / over).exists()


def test_a_run_that_a_live_one_retries_is_left_alone(machine: Machine, cleaning: Cleaning, store: RunStore):
    over, live = machine.run(TodoState.FAILED), machine.run(None)
    store.redis.hset(store.keys.run(live).meta, "carried_from", over)

    with pytest.raises(Conflict, match=live):
        cleaning.survey([over])
    assert cleaning.survey([]).found == ()


def test_a_run_whose_rollback_failed_is_left_until_accepted(
    machine: Machine, cleaning: Cleaning, store: RunStore
):
    run = Harness(store)
    run.run_id = machine.run()
    run.follow(store.rollback(run.run_id, "lena", "why"))
    run.settle(run.take("A"), BAD)

    with pytest.raises(Conflict, match=f"run {run.run_id} has a failed rollback"):
        cleaning.survey([run.run_id])
    assert cleaning.survey([]).found == ()

    run.follow(store.accept(run.run_id, "A", "lena", "by hand"))
    cleaning.remove(cleaning.survey([run.run_id]))
    assert machine.branches() == {"main"}


def test_of_a_forgotten_run_goes_what_is_nobodys_work(machine: Machine, cleaning: Cleaning, store: RunStore):
    merged, not_merged = machine.run(), machine.run()
    git(machine.repo, "merge", "-q", f"coord/{merged}")
    machine.log(FORGOTTEN_RUN)
    store.redis.flushall()
    machine.work("w2")

    survey = cleaning.survey([])
    done = cleaning.remove(survey)

    assert set(survey.statuses.values()) == {"forgotten"}
    assert machine.branches() == {"main", f"coord/{not_merged}"}
    (kept,) = (remnant for remnant in done.found if not remnant.gone)
    assert "no run has recorded" in kept.stays
    assert list((machine.state / "logs").iterdir()) == []


def test_names_that_are_no_runs_are_not_looked_at(machine: Machine, cleaning: Cleaning):
    git(machine.repo, "branch", "coord/mine")
    for folder in ("logs", "worktrees", "carried"):
        (machine.state / folder / "mine").mkdir(parents=True)

    assert cleaning.survey([]).found == ()


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
    monkeypatch.setattr(cleanup_jobs, "BEGIN_WITHIN", timedelta(milliseconds=500))
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
    assert [errand.id for errand in jobs.run_once()] == ["e1"]

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


def test_a_run_that_nobody_knows_is_refused(machine: Machine, cleaning: Cleaning):
    with pytest.raises(NotFound):
        cleaning.survey(["nonsense"])


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


def test_the_accepted_rest_of_a_rolled_back_run_stays(machine: Machine, store: RunStore):
    run = machine.run(TodoState.FAILED)
    (machine.state / "carried" / run / "r2").mkdir(parents=True)
    store.redis.hset(store.keys.run(run).meta, "status", "rolled_back")

    assert [gone.kind for gone in AutoCleanup(store, machine.state, {"r1": machine.repo}).run_once()] == [
        Kind.CARRIED
    ]
    assert machine.path(run).exists()


def test_a_restricted_worker_has_to_do_with_its_repositories_alone(
    machine: Machine, store: RunStore, dispatcher: Dispatcher
):
    deeds = StepHandlers(store, dispatcher, Settings(), "0")
    machine.stop()
    errand = CleanupJob(
        id="1", until_ms=store.now_ms() + 60_000, tips={FORGOTTEN_RUN: {"r1": "a" * 40, "r2": "b" * 40}}
    )
    CleanupQueue(store.redis, store.keys).post(errand)
    found = Artifact(run=FORGOTTEN_RUN, kind=Kind.BRANCH, repo="r2", path="/somewhere")
    answer = {
        "errand_id": "1",
        "worker_id": "w1@h1",
        "answer": Answer(host="h1", found=(found,)).model_dump(),
    }

    (told,) = deeds.do(frozenset({"r1"}), "errands", {})

    assert told.tips == {FORGOTTEN_RUN: {"r1": "a" * 40}}
    with pytest.raises(NotAllowed, match="more than r1"):
        deeds.do(frozenset({"r1"}), "answer", answer)


@pytest.mark.parametrize(
    "run", ["../../../precious", "20200101-120000-abcd/../../../precious", "/precious", ""]
)
def test_a_cleanup_job_names_no_folder_outside(machine: Machine, store: RunStore, tmp_path: Path, run: str):
    (tmp_path / "precious" / "logs").mkdir(parents=True)
    (machine.state / "logs").mkdir(parents=True)
    errand = CleanupJob(id="x", until_ms=store.now_ms() + 60_000, remove=True).model_dump(mode="json")
    store.redis.hset(store.keys.errands, "x", json.dumps({**errand, "runs": [run]}))

    assert machine.cleanup_jobs("w9").run_once() == []
    assert (tmp_path / "precious" / "logs").is_dir()


def test_an_answer_adds_no_run_to_those_that_were_asked(
    machine: Machine, cleaning: Cleaning, store: RunStore
):
    asked, other = machine.run(), machine.run(text="other")
    forged = Artifact(run=other, kind=Kind.LOGS, path="/x")

    class Forging(CleanupQueue):
        def answer(self, errand_id: str, worker_id: str, answer: Answer) -> None:
            super().answer(errand_id, worker_id, answer.model_copy(update={"found": (*answer.found, forged)}))

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
