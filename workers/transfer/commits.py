"""Carry commits between hosts for a delivery: fetch, send, withdraw.

A commit is sent before its todo settles, so that a run's work survives the death of its host: by a bundle
through Redis if it is small enough, else by a push to the repository's `url`. Where the whole history is too
large and nothing can be pushed, the commits of the run are bundled alone: a host with a clone needs no more.
If neither works, the todo does not fail: the reason is recorded for hosts that look for the commit.

Where Redis is reached by a socket there is one machine: nothing is sent, and every commit is here.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from coordination.branches import HEADS
from coordination.credentials.records import Purpose
from coordination.errors import CoordinationError
from coordination.git import is_commit
from coordination.models import Repo
from coordination.retry import retried
from coordination.runs.attempt_store import Grant
from coordination.runs.records import Origin
from workers.config import WorkerConfig
from workers.credentials import Access, without_credentials
from workers.outcome import AttemptOutcome
from workers.process.trouble import GitInterrupted, WorkspaceUnusable
from workers.transfer.fetcher import CommitFetcher, CommitRef, is_published
from workers.transfer.routes import BundleStore, NotCarried, Publication, Remote, sentence
from workers.workspace.files import scratch
from workers.workspace.git import Hold, git
from workers.workspace.lock import Superseded
from workers.workspace.repository import is_partial, is_shallow

PAUSES_S = (0.2, 1.0, 3.0)
"""Seconds between two tries after trouble that passes."""
MEASURED_WITHIN = timedelta(seconds=30)
"""A history that takes longer to be counted is too large for Redis anyway."""

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

        Raises a CoordinationError with the reason why it cannot be fetched.
        """
        repo = grant.spec.repo
        origin = Origin(url=repo.url, branch=repo.branch) if repo.url else None
        commit_ref = CommitRef(
            run_id=grant.run_id, repo=repo.name, branch="", commit=commit, origin=origin, runs=runs
        )
        self.fetcher.fetch(commit_ref, into, hold)

    def send(self, grant: Grant, outcome: AttemptOutcome, branch: str) -> None:
        """Send the commit before the settle, so that dependents find it. `branch`: that of the run.

        A commit that cannot be sent fails no todo.

        Raises Superseded if a newer attempt has published its own.
        """
        if self._one_machine or not outcome.tip or outcome.tip == grant.tip:
            return
        since, first = grant.tip or outcome.began, grant.tip is None
        self._send(grant, outcome.tip, since, branch, f"{HEADS}{branch}", first=first)

    def send_reopened(self, grant: Grant, branch: str, tip: str, base: str) -> None:
        """Send the tip of a change set that a revert has opened again, with its history: the bundles of
        earlier runs do not lead to it. `branch`: that of the run; `base`: the commit of the base branch that
        it builds on.
        """
        if self._one_machine:
            return
        place, ref = self._places[grant.spec.repo.name], f"refs/coord/sending/{grant.run_id}"
        git("update-ref", ref, tip, cwd=place)
        self._send(grant, tip, base, branch, ref, first=True)
        git("update-ref", "-d", ref, cwd=place)

    def _send(self, grant: Grant, tip: str, since: str, branch: str, ref: str, *, first: bool) -> None:
        to_send = CommitToSend(
            run_id=grant.run_id,
            repo=grant.spec.repo,
            checkout=self._places[grant.spec.repo.name],
            commit=tip,
            fence=grant.fence,
            since=since,
            first=first,
            branch=branch,
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
            commit: remote
            for commit, remote in self._bundles.published(grant.run_id, repo).items()
            if is_commit(commit) and remote.url == url
        }
        for commit in own_tips(published.keys()):
            pushed[published[commit]].add(commit)
        for run in runs:
            for remote, commits in pushed.items():
                if any(is_published(remote.branch, (run,), commit) for commit in commits):
                    with self._access(grant.run_id, repo, remote.url, Purpose.WRITE) as variables:
                        publication = Publication(
                            run_id=run,
                            branch=remote.branch,
                            checkout=self._places[repo],
                            url=remote.url,
                            commit=max(commits),
                            fence=grant.fence,
                            variables=variables,
                        )
                        publication.withdraw(remote.branch, commits)

    def expire(self, run: str, repos: Iterable[str]) -> None:
        """Let the bundles of an ended run expire."""
        if self._one_machine:
            return
        try:
            self._bundles.expire(run, repos)
        except CoordinationError as refused:
            logger.info("the bundles of run %s stay: %s", run, refused.message)


@dataclass(frozen=True, kw_only=True)
class CommitToSend:
    """The commit that a todo made, and the commit that it builds on."""

    run_id: str
    repo: Repo
    checkout: Path
    commit: str
    fence: int
    since: str
    """The commit that the todo began with."""
    first: bool
    """True if the run has sent nothing of this repository yet."""
    branch: str
    """The branch of the run."""
    ref: str
    """The reference at the commit."""


class BundleSender:
    def __init__(
        self, bundles: BundleStore, state: Path, limit_bytes: int, access: Access = without_credentials
    ) -> None:
        self._access = access
        self._bundles = bundles
        self._state = state
        self._limit = limit_bytes

    def send(self, to_send: CommitToSend) -> None:
        """Send by a bundle, or else by a push.

        Raises Redis' errors, or Superseded if a newer attempt has published its own.
        """
        reasons = []
        for send in (self._by_bundle, self._by_push):
            try:
                self._with_retries(send, to_send)
            except Superseded:
                raise
            except CoordinationError as refused:
                reasons.append(sentence(refused.message))
            else:
                return
        self._record_unsent(to_send, "; ".join(reasons))

    def _with_retries(self, send: Callable[[CommitToSend], None], to_send: CommitToSend) -> None:
        """Send, again after trouble that passes: a commit that is not sent now is never sent."""

        def passes(error: Exception, pause_s: float) -> bool:
            if not isinstance(error, GitInterrupted | WorkspaceUnusable) or error.trouble is None:
                return False
            logger.info(
                "run %s: sending %s again in %g s: %s",
                to_send.run_id,
                to_send.repo.name,
                pause_s,
                error.message,
            )
            return True

        retried(lambda: send(to_send), PAUSES_S, passes)

    def _record_unsent(self, to_send: CommitToSend, reasons: str) -> None:
        why = f"{to_send.repo.name}: {to_send.commit[:12]} was not carried to other hosts: {reasons}"
        logger.warning("run %s: %s", to_send.run_id, why)
        if to_send.first:
            self._by_partial_bundle(to_send, why)
        else:
            self._bundles.explain(to_send.run_id, to_send.repo.name, to_send.commit, why)

    def _by_bundle(self, to_send: CommitToSend) -> None:
        if to_send.first and (is_shallow(to_send.checkout) or is_partial(to_send.checkout)):
            raise NotCarried("the checkout is a shallow or partial clone")
        since = None if to_send.first else to_send.since
        bundle = self._bundle(to_send, since)
        self._bundles.put(to_send.run_id, to_send.repo.name, to_send.commit, bundle, since)

    def _by_push(self, to_send: CommitToSend) -> None:
        if not to_send.repo.url:
            raise NotCarried(f"{to_send.repo.name} has no url to push to")
        with self._access(to_send.run_id, to_send.repo.name, to_send.repo.url, Purpose.WRITE) as variables:
            publication = Publication(
                run_id=to_send.run_id,
                branch=to_send.branch,
                checkout=to_send.checkout,
                url=to_send.repo.url,
                commit=to_send.commit,
                fence=to_send.fence,
                variables=variables,
            )
            remote = publication.publish()
        self._bundles.refer(to_send.run_id, to_send.repo.name, to_send.commit, remote)

    def _by_partial_bundle(self, to_send: CommitToSend, why: str) -> None:
        name = to_send.repo.name
        if to_send.commit != to_send.since:
            try:
                bundle = self._bundle(to_send, to_send.since)
            except CoordinationError:
                return self._bundles.explain(to_send.run_id, name, to_send.commit, why)
            self._bundles.put(to_send.run_id, name, to_send.commit, bundle, to_send.since)
        # The remote most likely has the commit that the run began at, although we may not write there.
        if to_send.repo.url:
            return self._bundles.refer(
                to_send.run_id, name, to_send.since, Remote(to_send.repo.branch, to_send.repo.url)
            )
        return self._bundles.explain(to_send.run_id, name, to_send.since, why)

    def _bundle(self, to_send: CommitToSend, since: str | None) -> bytes:
        without = () if since is None else (f"^{since}",)
        self._refuse_over(_size(to_send, without), "its history" if since is None else "what it adds")
        with scratch(self._state) as folder:
            file = folder / "bundle"
            git("bundle", "create", "--quiet", str(file), to_send.ref, *without, cwd=to_send.checkout)
            bundle = file.read_bytes()
        self._refuse_over(len(bundle), "its bundle")
        if to_send.commit.encode() not in bundle.partition(b"\n\n")[0]:
            raise NotCarried("the branch has moved on: a newer attempt took over")
        return bundle

    def _refuse_over(self, size: int, what: str) -> None:
        if size > self._limit:
            raise NotCarried(f"{what} has {size} bytes, more than bundle_limit_bytes ({self._limit})")


def _size(to_send: CommitToSend, without: tuple[str, ...]) -> int:
    """Return the size of the objects on disk, where they are packed about as in a bundle."""
    options = ("--objects", "--disk-usage", "--use-bitmap-index")
    return int(
        git("rev-list", *options, to_send.commit, *without, cwd=to_send.checkout, patience=MEASURED_WITHIN)
    )
