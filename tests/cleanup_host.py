"""A host on which runs have left something, and workers of it that do cleanup jobs."""

from __future__ import annotations

import threading
from datetime import timedelta
from pathlib import Path

from coordination.backend.client import Profile, connect
from coordination.background import BackgroundService
from coordination.models import Repo
from coordination.runs.cleanup_jobs import CleanupQueue
from coordination.runs.records import Result, TodoState
from coordination.runs.store import RunStore
from coordination.runs.worker_registry import Worker
from coordination.settings import Settings
from tests.engine import BAD, Engine
from tests.plans import ecosystem, graph, order
from tests.testbed import git
from tests.waiting import until
from tests.worktrees import claimant
from workers.cleanup.jobs import CleanupJobs
from workers.notifications import Callbacks, Notifications
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
        told = Callbacks(
            send_heartbeat=lambda: None, look_for_jobs=jobs.wake, log_line=lambda run, line: None
        )
        mail = Notifications(self.client, Settings(namespace="test"), worker, told)
        mail.subscribe()
        for service in (jobs, mail):
            service.start()
            self.services.append(service)
        return jobs

    def cleanup_jobs(self, worker_id: str) -> CleanupJobs:
        """Jobs of a worker of this host; not started."""
        return CleanupJobs(self.board, self._worker(worker_id), self.state, {"r1": self.repo})

    def _worker(self, worker_id: str) -> Worker:
        return Worker(
            id=f"{worker_id}@{self.host}", host=self.host, pid=1, version="0", repos=("r1",), jobs=1
        )

    def run(self, outcome: TodoState | None = TodoState.SUCCEEDED, text: str = "new") -> str:
        """A run of one todo that committed a file, and logged; without an outcome it is live."""
        run = Engine(self.store)
        run.submit(graph({"A": "r1"}), ecosystem({"A": "r1"}), order())
        grant = run.take("A")
        worktree = self.worktree(run.run_id)
        worktree.enter(claimant(run.run_id, grant.fence), grant.tip, timedelta(seconds=5))
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
        (folder / "A.1.jsonl").write_text("{}\n")
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
