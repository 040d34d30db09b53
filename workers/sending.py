"""A commit is sent after its todo and before its settle: a run's work survives the death of the host that did it.

First by a bundle through Redis, if it is small enough; else by a push to the repository's `url`. Where the whole history is
too large and nothing can be pushed, what the run added is bundled alone: a host with a clone of its own needs no more.
No way at all is no failure of the todo: why is written down, for whoever looks for the commit.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from coordination.errors import CoordinationError
from coordination.models import Repo
from workers.git import git
from workers.occupancy import Superseded, WorkspaceUnusable
from workers.parcels import NotCarried, Parcels, Remote, sentence
from workers.publishing import Publication
from workers.repository import branch_of, is_partial, is_shallow
from workers.scratch import scratch
from workers.trouble import GitInterrupted

PAUSES_S = (0.2, 1.0, 3.0)
"""Between tries of one way, where trouble passes."""
MEASURED_WITHIN = timedelta(seconds=30)
"""A history that takes longer to be counted is too large for Redis anyway."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Cargo:
    """What a todo has led its repository to."""

    run: str
    repo: Repo
    checkout: Path
    commit: str
    fence: int
    since: str
    """The commit that the todo began with."""
    first: bool
    """Whether the run has sent nothing of this repository yet."""


class Sender:
    def __init__(self, parcels: Parcels, state: Path, limit_bytes: int) -> None:
        self._parcels = parcels
        self._state = state
        self._limit = limit_bytes

    def send(self, cargo: Cargo) -> None:
        """By the first way that works. Raises Redis' errors, or Superseded if a newer attempt has published its own."""
        whys = []
        for way in (self._by_bundle, self._by_push):
            try:
                self._in_spite_of_trouble(way, cargo)
            except Superseded:
                raise
            except CoordinationError as refused:
                whys.append(sentence(refused.message))
            else:
                return
        self._without_way(cargo, "; ".join(whys))

    def _in_spite_of_trouble(self, way: Callable[[Cargo], None], cargo: Cargo) -> None:
        """A commit that is not sent now is never sent, and todos on other hosts would wait for it: what passes is waited for."""
        for pause_s in PAUSES_S:
            try:
                return way(cargo)
            except (GitInterrupted, WorkspaceUnusable) as hindered:
                if hindered.trouble is None:
                    raise
                logger.info(
                    "run %s: sending %s again in %g s: %s", cargo.run, cargo.repo.name, pause_s, hindered.message
                )
                time.sleep(pause_s)
        return way(cargo)

    def _without_way(self, cargo: Cargo, whys: str) -> None:
        why = f"{cargo.repo.name}: {cargo.commit[:12]} was not carried to other hosts: {whys}"
        logger.warning("run %s: %s", cargo.run, why)
        if cargo.first:
            self._by_part(cargo, why)
        else:
            self._parcels.explain(cargo.run, cargo.repo.name, cargo.commit, why)

    def _by_bundle(self, cargo: Cargo) -> None:
        if cargo.first and (is_shallow(cargo.checkout) or is_partial(cargo.checkout)):
            raise NotCarried("the checkout is a shallow or partial clone")
        since = None if cargo.first else cargo.since
        bundle = self._bundle(cargo, since)
        self._parcels.put(cargo.run, cargo.repo.name, cargo.commit, bundle, since)

    def _by_push(self, cargo: Cargo) -> None:
        if not cargo.repo.url:
            raise NotCarried(f"{cargo.repo.name} has no url to push to")
        publication = Publication(
            run=cargo.run, checkout=cargo.checkout, url=cargo.repo.url, commit=cargo.commit, fence=cargo.fence
        )
        there = publication.publish()
        self._parcels.refer(cargo.run, cargo.repo.name, cargo.commit, there)

    def _by_part(self, cargo: Cargo, why: str) -> None:
        name = cargo.repo.name
        if cargo.commit != cargo.since:
            try:
                bundle = self._bundle(cargo, cargo.since)
            except CoordinationError:
                return self._parcels.explain(cargo.run, name, cargo.commit, why)
            self._parcels.put(cargo.run, name, cargo.commit, bundle, cargo.since)
        # Where the run began is most likely known at the url, though we may not write there.
        if cargo.repo.url:
            return self._parcels.refer(cargo.run, name, cargo.since, Remote(cargo.repo.branch, cargo.repo.url))
        return self._parcels.explain(cargo.run, name, cargo.since, why)

    def _bundle(self, cargo: Cargo, since: str | None) -> bytes:
        without = () if since is None else (f"^{since}",)
        self._refuse_over(_size(cargo, without), "its history" if since is None else "what it adds")
        with scratch(self._state) as folder:
            file = folder / "bundle"
            reference = f"refs/heads/{branch_of(cargo.run)}"
            git("bundle", "create", "--quiet", str(file), reference, *without, cwd=cargo.checkout)
            bundle = file.read_bytes()
        self._refuse_over(len(bundle), "its bundle")
        if cargo.commit.encode() not in bundle.partition(b"\n\n")[0]:
            raise NotCarried("the branch has moved on: a newer attempt took over")
        return bundle

    def _refuse_over(self, size: int, what: str) -> None:
        if size > self._limit:
            raise NotCarried(f"{what} has {size} bytes, more than bundle_limit_bytes ({self._limit})")


def _size(cargo: Cargo, without: tuple[str, ...]) -> int:
    """On disk, where it is packed about as it is in a bundle."""
    options = ("--objects", "--disk-usage", "--use-bitmap-index")
    return int(git("rev-list", *options, cargo.commit, *without, cwd=cargo.checkout, patience=MEASURED_WITHIN))
