"""What a delivery has to do with other hosts: fetch what was made there, send what it made, and tell where predecessors' work stands.

Where Redis is reached by a socket there is one machine: nothing is sent, and what is sought is here.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coordination.errors import CoordinationError
from coordination.models import Workspace
from coordination.runs.records import Grant, Origin, PredecessorOutput, RunBrief
from workers.outcome import AttemptOutcome
from workers.transfer.bundles import BundleStore, Remote, sentence
from workers.transfer.fetcher import CommitFetcher, CommitRef
from workers.transfer.publishing import Publication
from workers.transfer.sender import BundleSender, CommitToSend
from workers.workspace.git import Hold
from workers.workspace.lock import Superseded, WorkspaceUnusable
from workers.workspace.repository import branch_of, is_commit
from workers.workspace.trouble import GitInterrupted

if TYPE_CHECKING:
    from workers.app import WorkerConfig


logger = logging.getLogger(__name__)


class CommitTransfer:
    def __init__(self, bundles: BundleStore, config: WorkerConfig) -> None:
        self.fetcher = CommitFetcher(bundles, config.state, config.places)
        self._sender = BundleSender(bundles, config.state, config.settings.bundle_limit_bytes)
        self._bundles = bundles
        self._places = config.places
        self._one_machine = config.redis_url.startswith("unix:")

    def fetch(self, grant: Grant, runs: tuple[str, ...], commit: str, into: Path, hold: Hold) -> None:
        """Bring a commit of the todo's own repository; raises a CoordinationError that says why it cannot be had."""
        repo = grant.spec.repo
        origin = Origin(url=repo.url, branch=repo.branch) if repo.url else None
        run, branch = grant.run_id, branch_of(grant.run_id)
        sought = CommitRef(run=run, repo=repo.name, branch=branch, commit=commit, origin=origin, runs=runs)
        self.fetcher.fetch(sought, into, hold)

    def send(self, grant: Grant, attempt_outcome: AttemptOutcome) -> None:
        """Before the settle: whoever may start after this todo finds its commit. Never a reason for it to fail.

        Raises Superseded if a newer attempt has published its own.
        """
        if self._one_machine or not attempt_outcome.tip or attempt_outcome.tip == grant.tip:
            return
        to_send = CommitToSend(
            run=grant.run_id,
            repo=grant.spec.repo,
            checkout=self._places[grant.spec.repo.name],
            commit=attempt_outcome.tip,
            fence=grant.fence,
            since=grant.tip or attempt_outcome.since,
            first=grant.tip is None,
        )
        try:
            self._sender.send(to_send)
        except Superseded:
            raise
        except CoordinationError as refused:
            logger.warning(
                "%s of run %s is not carried to other hosts: %s", grant.todo_id, grant.run_id, refused.message
            )

    def withdraw(self, grant: Grant, runs: Iterable[str]) -> None:
        """What these runs have pushed of the todo's repository is there no more. Raises NotCarried where it stays."""
        if self._one_machine:
            return
        repo, url = grant.spec.repo.name, grant.spec.repo.url
        pushed: defaultdict[Remote, set[str]] = defaultdict(set)
        for commit, there in self._bundles.published(grant.run_id, repo).items():
            if is_commit(commit) and there.url == url:  # others may have written that: nobody is sent elsewhere by it
                pushed[there].add(commit)
        for run in runs:
            for there, commits in pushed.items():
                if there.branch in {branch_of(run), *(f"{branch_of(run)}-{commit[:12]}" for commit in commits)}:
                    publication = Publication(
                        run=run,
                        checkout=self._places[repo],
                        url=there.url,
                        commit=max(commits),
                        fence=grant.fence,
                    )
                    publication.withdraw(there.branch, commits)

    def let_go(self, run: str, repos: Iterable[str]) -> None:
        """The run is over: nobody takes it up again."""
        if self._one_machine:
            return
        try:
            self._bundles.expire(run, repos)
        except CoordinationError as refused:
            logger.info("the parcels of run %s stay: %s", run, refused.message)


@dataclass(frozen=True, kw_only=True)
class PathLookup:
    path: Path | None = None
    why: str = ""
    """Why there is no path, though there is a commit."""

    @property
    def told(self) -> dict[str, Any]:
        """As COORD_CONTEXT has it."""
        path = None if self.path is None else str(self.path)
        return {"path": path} | ({"why": self.why} if self.why else {})


class PathMissing(CoordinationError):
    """The work of a predecessor is not on this host."""


class PredecessorPaths:
    """The todo's own worktree for what was done in its own repository; of another one a checkout of exactly the commit, for
    in the run's worktree there other todos are at work, or have left what is in no commit.
    """

    def __init__(self, fetcher: CommitFetcher, state: Path) -> None:
        self._fetcher = fetcher
        self._state = state

    def of(self, grant: Grant, brief: RunBrief, repo: str, newest: PredecessorOutput | None) -> PathLookup:
        """Raises PathMissing where the todo needs what cannot be had; WorkspaceUnusable and GitInterrupted for trouble of this host."""
        todo = grant.spec.todo
        worktree = self._state / "worktrees" / grant.run_id / repo
        own = repo == grant.spec.repo.name and todo.workspace is not Workspace.IN_PLACE
        if own and worktree.is_dir():  # it stands by now
            return PathLookup(path=worktree)
        if newest is None or newest.commit is None:
            return PathLookup()
        sought = CommitRef(
            run=grant.run_id,
            repo=repo,
            branch=branch_of(newest.run),
            commit=newest.commit,
            origin=brief.origins.get(repo),
            runs=brief.carried_from,
        )
        try:
            return PathLookup(path=self._fetcher.folder(sought))
        except (GitInterrupted, WorkspaceUnusable):
            raise
        except CoordinationError as missing:
            why = sentence(missing.message)
            if todo.needs_paths and grant.undo is None:
                raise PathMissing(f"{newest.todo}, whose work is not on this host: {why}") from missing
            return PathLookup(why=why)
