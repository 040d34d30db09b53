"""Send a commit to other hosts before its todo settles, so that a run's work survives the death of its host.

First by a bundle through Redis, if it is small enough; else by a push to the repository's `url`. Where the
whole history is too large and nothing can be pushed, the commits of the run are bundled alone: a host with a
clone needs no more. No way at all is no failure of the todo: the reason is recorded for hosts that look for
the commit.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from coordination.credentials.records import Purpose
from coordination.errors import CoordinationError
from coordination.models import Repo
from coordination.retry import retried
from workers.credentials import Access, without_credentials
from workers.process.trouble import GitInterrupted, WorkspaceUnusable
from workers.transfer.bundles import BundleStore, NotCarried, Remote, sentence
from workers.transfer.publishing import Publication
from workers.workspace.files import scratch
from workers.workspace.git import git
from workers.workspace.lock import Superseded
from workers.workspace.repository import is_partial, is_shallow

PAUSES_S = (0.2, 1.0, 3.0)
"""Between tries of one way, after trouble that passes."""
MEASURED_WITHIN = timedelta(seconds=30)
"""A history that takes longer to be counted is too large for Redis anyway."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class CommitToSend:
    """The commit that a todo made, and what it was made from."""

    run_id: str
    repo: Repo
    checkout: Path
    commit: str
    fence: int
    since: str
    """The commit that the todo began with."""
    first: bool
    """True if the run has sent nothing of this repository yet."""
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
        """Send by the first way that works.

        Raises Redis' errors, or Superseded if a newer attempt has published its own.
        """
        whys = []
        for way in (self._by_bundle, self._by_push):
            try:
                self._in_spite_of_trouble(way, to_send)
            except Superseded:
                raise
            except CoordinationError as refused:
                whys.append(sentence(refused.message))
            else:
                return
        self._without_way(to_send, "; ".join(whys))

    def _in_spite_of_trouble(self, way: Callable[[CommitToSend], None], to_send: CommitToSend) -> None:
        """Try one way, again after trouble that passes: a commit that is not sent now is never sent."""

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

        retried(lambda: way(to_send), PAUSES_S, passes)

    def _without_way(self, to_send: CommitToSend, whys: str) -> None:
        why = f"{to_send.repo.name}: {to_send.commit[:12]} was not carried to other hosts: {whys}"
        logger.warning("run %s: %s", to_send.run_id, why)
        if to_send.first:
            self._by_part(to_send, why)
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
                checkout=to_send.checkout,
                url=to_send.repo.url,
                commit=to_send.commit,
                fence=to_send.fence,
                variables=variables,
            )
            there = publication.publish()
        self._bundles.refer(to_send.run_id, to_send.repo.name, to_send.commit, there)

    def _by_part(self, to_send: CommitToSend, why: str) -> None:
        name = to_send.repo.name
        if to_send.commit != to_send.since:
            try:
                bundle = self._bundle(to_send, to_send.since)
            except CoordinationError:
                return self._bundles.explain(to_send.run_id, name, to_send.commit, why)
            self._bundles.put(to_send.run_id, name, to_send.commit, bundle, to_send.since)
        # Where the run began is most likely known at the url, though we may not write there.
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
