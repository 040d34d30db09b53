"""Carry commits between hosts for a delivery: fetch, send, withdraw; and find the commits of predecessors.

Where Redis is reached by a socket there is one machine: nothing is sent, and every commit is here.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from coordination.credentials.records import Purpose
from coordination.errors import CoordinationError
from coordination.models import Workspace
from coordination.runs.brief import Origin, RunBrief
from coordination.runs.replies import Grant, PredecessorOutput
from workers.config import WorkerConfig
from workers.credentials import Access, without_credentials
from workers.outcome import AttemptOutcome
from workers.process.trouble import GitInterrupted, WorkspaceUnusable
from workers.transfer.bundles import BundleStore, Remote, sentence
from workers.transfer.fetcher import CommitFetcher, CommitRef
from workers.transfer.publishing import Publication
from workers.transfer.sender import BundleSender, CommitToSend
from workers.workspace.git import Hold, git
from workers.workspace.git_worktree import ways_out
from workers.workspace.lock import Superseded
from workers.workspace.repository import branch_of, has_commit, is_commit, look

logger = logging.getLogger(__name__)


class CommitTransfer:
    def __init__(
        self,
        bundles: BundleStore,
        config: WorkerConfig,
        places: Mapping[str, Path],
        access: Access = without_credentials,
    ) -> None:
        """`places`: repository → its checkout, as served at this moment. `access`: to remotes."""
        self._access = access
        self.fetcher = CommitFetcher(bundles, config.state, places, access=access)
        self._sender = BundleSender(bundles, config.state, config.settings.bundle_limit_bytes, access)
        self._bundles = bundles
        self._places = places
        self._one_machine = config.is_one_machine

    def fetch(self, grant: Grant, runs: tuple[str, ...], commit: str, into: Path, hold: Hold) -> None:
        """Fetch a commit of the todo's own repository.

        Raises a CoordinationError that says why it cannot be had.
        """
        repo = grant.spec.repo
        origin = Origin(url=repo.url, branch=repo.branch) if repo.url else None
        run, branch = grant.run_id, branch_of(grant.run_id)
        commit_ref = CommitRef(
            run_id=run, repo=repo.name, branch=branch, commit=commit, origin=origin, runs=runs
        )
        self.fetcher.fetch(commit_ref, into, hold)

    def send(self, grant: Grant, outcome: AttemptOutcome) -> None:
        """Send the commit before the settle, so that dependents find it.

        A commit that cannot be sent fails no todo.

        Raises Superseded if a newer attempt has published its own.
        """
        if self._one_machine or not outcome.tip or outcome.tip == grant.tip:
            return
        ref = f"refs/heads/{branch_of(grant.run_id)}"
        self._send(grant, outcome.tip, grant.tip or outcome.since, ref, first=grant.tip is None)

    def send_reopened(self, grant: Grant, tip: str, base: str) -> None:
        """Send the tip of a change set that a revert has opened again, with its history: the bundles of
        earlier runs do not lead to it. `base`: the commit of the base branch that it builds on.
        """
        if self._one_machine:
            return
        place, ref = self._places[grant.spec.repo.name], f"refs/coord/sending/{grant.run_id}"
        git("update-ref", ref, tip, cwd=place)
        self._send(grant, tip, base, ref, first=True)
        git("update-ref", "-d", ref, cwd=place)

    def _send(self, grant: Grant, tip: str, since: str, ref: str, *, first: bool) -> None:
        to_send = CommitToSend(
            run_id=grant.run_id,
            repo=grant.spec.repo,
            checkout=self._places[grant.spec.repo.name],
            commit=tip,
            fence=grant.fence,
            since=since,
            first=first,
            ref=ref,
        )
        try:
            self._sender.send(to_send)
        except Superseded:
            raise
        except CoordinationError as refused:
            logger.warning(
                "%s of run %s is not carried to other hosts: %s", grant.todo_id, grant.run_id, refused.message
            )

    def withdraw(
        self,
        grant: Grant,
        runs: Iterable[str],
        own_tips: Callable[[Collection[str]], Collection[str]] = lambda pushed: pushed,
    ) -> None:
        """Delete the branches that these runs pushed of the todo's repository. Others may write the record of
        what was pushed, so it leads to no other remote, and `own_tips` returns which of the commits count.

        Raises NotCarried where one stays.
        """
        if self._one_machine:
            return
        repo, url = grant.spec.repo.name, grant.spec.repo.url
        pushed: defaultdict[Remote, set[str]] = defaultdict(set)
        published = {
            commit: there
            for commit, there in self._bundles.published(grant.run_id, repo).items()
            if is_commit(commit) and there.url == url
        }
        for commit in own_tips(published.keys()):
            pushed[published[commit]].add(commit)
        for run in runs:
            for there, commits in pushed.items():
                if there.branch in {
                    branch_of(run),
                    *(f"{branch_of(run)}-{commit[:12]}" for commit in commits),
                }:
                    with self._access(grant.run_id, repo, there.url, Purpose.WRITE) as variables:
                        publication = Publication(
                            run_id=run,
                            checkout=self._places[repo],
                            url=there.url,
                            commit=max(commits),
                            fence=grant.fence,
                            variables=variables,
                        )
                        publication.withdraw(there.branch, commits)

    def expire(self, run: str, repos: Iterable[str]) -> None:
        """Let the bundles of a run that is over expire."""
        if self._one_machine:
            return
        try:
            self._bundles.expire(run, repos)
        except CoordinationError as refused:
            logger.info("the bundles of run %s stay: %s", run, refused.message)


@dataclass(frozen=True, kw_only=True)
class PathLookup:
    path: Path | None = None
    why: str = ""
    """The reason for a commit without a path."""

    @property
    def fields(self) -> dict[str, Any]:
        """Return the fields for COORD_CONTEXT."""
        path = None if self.path is None else str(self.path)
        return {"path": path} | ({"why": self.why} if self.why else {})


class PathMissing(CoordinationError):
    """The work of a predecessor is not on this host."""


class WorkLost(CoordinationError):
    """The work of a predecessor is no longer on the host that has made it."""


class PredecessorPaths:
    """Find the commits of predecessors: in the own worktree, or in a checkout of another repository's commit.

    In the run's worktree of another repository other todos are at work, or have left what is in no commit.
    """

    def __init__(
        self, fetcher: CommitFetcher, state: Path, home: Callable[[str, str], Path | None] = lambda *_: None
    ) -> None:
        """`home`: (run, repository) → its checkout, if the run's work there is made on this host."""
        self._fetcher = fetcher
        self._state = state
        self._home = home

    def of(self, grant: Grant, brief: RunBrief, repo: str, newest: PredecessorOutput | None) -> PathLookup:
        """Return where the newest commit of a repository stands.

        Raises PathMissing where the todo needs a path and there is none, WorkLost where there will be none;
        WorkspaceUnusable and GitInterrupted for trouble of this host.
        """
        todo = grant.spec.todo
        worktree = self._state / "worktrees" / grant.run_id / repo
        own = repo == grant.spec.repo.name and todo.workspace is not Workspace.IN_PLACE
        if own and worktree.is_dir():
            return PathLookup(path=worktree)
        if newest is None or newest.commit is None:
            return PathLookup()
        commit_ref = CommitRef(
            run_id=grant.run_id,
            repo=repo,
            branch=branch_of(newest.run),
            commit=newest.commit,
            origin=brief.origins.get(repo),
            runs=brief.earlier,
        )
        try:
            return PathLookup(path=self._fetcher.folder(commit_ref))
        except (GitInterrupted, WorkspaceUnusable):
            raise
        except CoordinationError as missing:
            why = sentence(missing.message)
            if todo.needs_paths and grant.undo is None:
                self._refuse_lost(grant.run_id, brief, repo, newest)
                raise PathMissing(f"{newest.todo}, whose work is not on this host: {why}") from missing
            return PathLookup(why=why)

    def _refuse_lost(self, run: str, brief: RunBrief, repo: str, newest: PredecessorOutput) -> None:
        """Raise WorkLost where the checkout that had the commit is here, and has it no longer: to wait for it
        would be to wait for ever.
        """
        place, commit = self._home(run, repo), newest.commit or ""
        if place is None or not place.is_dir() or look(place)[0] or has_commit(place, commit):
            return
        raise WorkLost(
            f"the work of {newest.todo} is lost: its commit {commit[:12]} is not in {place} any more",
            ways_out(repo, commit, place, run, brief.change_set),
        )
