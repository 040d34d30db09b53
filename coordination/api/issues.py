"""Issues of the file and of the forges of their repositories."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

from coordination.changes.issues.rules import (
    Home,
    IssueAction,
    IssueResult,
    IssueSyncOptions,
    IssueSyncReport,
    homes_of,
)
from coordination.changes.issues.sync import RepoIssues
from coordination.changes.requests.access import ForgeAccess, opened_forges
from coordination.environment import actor
from coordination.errors import Conflict, CoordinationError, LockTimeout, PlanRefused
from coordination.locks.request import ISSUES

if TYPE_CHECKING:
    from coordination.api.access import EcosystemAccess
    from coordination.runs.connection import Connection

LOCK_TTL = timedelta(seconds=30)


class Issues:
    """`coord.issues`."""

    def __init__(self, access: EcosystemAccess) -> None:
        self._access = access

    def sync(self, options: IssueSyncOptions | None = None) -> IssueSyncReport:
        """Bring the issues of the file in line with those at the forges of their repositories: title, text,
        open or closed, labels, assignee.

        A field that one side has changed goes to the other. Where both have changed it, the file wins unless
        the forge is preferred, and the conflict is reported with both values. Open issues of the file that
        name a repository with a forge are created there. A failure of an issue or a repository is in the
        results; the others are done.

        Raises NotFound, PlanRefused, NotAllowed, and Conflict while another synchronisation works, before
        anything was changed.
        """
        options = options or IssueSyncOptions()
        homes, results = homes_of(self._access.document.ecosystem, options.repos)
        if not homes:
            raise PlanRefused(
                "the forge of no repository is known",
                "write `url` to a repository in the file, and `forge` where the url does not say it",
            )
        if not options.dry_run:
            self._access.authority.check("edit", frozenset().union(*(home.touched for home in homes)))
        not_pulled = 0
        with (
            self._access.reached() as connection,
            self._alone(connection, options) as check,
            opened_forges(connection, self._access.state) as access,
        ):
            for home in homes:
                done, waiting = self._sync(home, options, access, check)
                results, not_pulled = (*results, *done), not_pulled + waiting
        return IssueSyncReport(results=results, not_pulled=not_pulled)

    def _sync(
        self, home: Home, options: IssueSyncOptions, access: ForgeAccess, check: Callable[[], object]
    ) -> tuple[list[IssueResult], int]:
        """Return the results of a repository, and the number of issues that were not pulled."""
        manager = self._access.manager
        issues = manager.document.ecosystem.coordination.issues
        known = [one.forge.id for one in issues if one.forge and one.forge.id]
        try:
            forge = access.forge(home.repo, home.address)
            work = RepoIssues(home, forge, manager, options, known, check)
            return work.run(), work.not_pulled
        except CoordinationError as error:
            failed = IssueResult(
                repo=home.repo, action=IssueAction.FAILED, error=str(error), code=error.exit_code
            )
            return [failed], 0

    @contextmanager
    def _alone(self, connection: Connection, options: IssueSyncOptions) -> Iterator[Callable[[], object]]:
        """Hold the lock of the synchronisation, and yield its check. A dry run needs none."""
        if options.dry_run:
            yield lambda: None
            return
        try:
            lock = connection.locks.acquire(ISSUES, ttl=LOCK_TTL, wait=timedelta(0), owner=actor())
        except LockTimeout as error:
            by = f" ({', '.join(error.holders)})" if error.holders else ""
            raise Conflict(
                f"another `coord issue sync` is at work{by}; nothing was changed",
                "repeat the command when it has ended; see: coord lock list --all",
            ) from error
        with lock:
            yield lock.check
