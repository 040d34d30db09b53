"""What a delivery has to do with other hosts: it brings what was made there, and sends what it made itself.

Where Redis is reached by a socket there is one machine: nothing is sent, and what is sought is here.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from coordination.errors import CoordinationError
from coordination.runs.records import Grant, Origin
from workers.arrivals import Arrivals, Sought
from workers.conclusion import Conclusion
from workers.git import Hold
from workers.occupancy import Superseded
from workers.parcels import Parcels, Remote
from workers.publishing import Publication
from workers.repository import branch_of, is_commit
from workers.sending import Cargo, Sender

if TYPE_CHECKING:
    from workers.app import Charge

logger = logging.getLogger(__name__)


class Freight:
    def __init__(self, parcels: Parcels, charge: Charge) -> None:
        self.arrivals = Arrivals(parcels, charge.state, charge.places)
        self._sender = Sender(parcels, charge.state, charge.settings.bundle_limit_bytes)
        self._parcels = parcels
        self._places = charge.places
        self._one_machine = charge.redis_url.startswith("unix:")

    def fetch(self, grant: Grant, runs: tuple[str, ...], commit: str, into: Path, hold: Hold) -> None:
        """Bring a commit of the todo's own repository; raises a CoordinationError that says why it cannot be had."""
        repo = grant.spec.repo
        origin = Origin(url=repo.url, branch=repo.branch) if repo.url else None
        run, branch = grant.run_id, branch_of(grant.run_id)
        sought = Sought(run=run, repo=repo.name, branch=branch, commit=commit, origin=origin, runs=runs)
        self.arrivals.fetch(sought, into, hold)

    def send(self, grant: Grant, conclusion: Conclusion) -> None:
        """Before the settle: whoever may start after this todo finds its commit. Never a reason for it to fail.

        Raises Superseded if a newer attempt has published its own.
        """
        if self._one_machine or not conclusion.tip or conclusion.tip == grant.tip:
            return
        cargo = Cargo(
            run=grant.run_id,
            repo=grant.spec.repo,
            checkout=self._places[grant.spec.repo.name],
            commit=conclusion.tip,
            fence=grant.fence,
            since=grant.tip or conclusion.since,
            first=grant.tip is None,
        )
        try:
            self._sender.send(cargo)
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
        for commit, there in self._parcels.published(grant.run_id, repo).items():
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
            self._parcels.expire(run, repos)
        except CoordinationError as refused:
            logger.info("the parcels of run %s stay: %s", run, refused.message)
