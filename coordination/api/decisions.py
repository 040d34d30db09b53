"""Decisions of a person about todos of runs: approved, rejected, done by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING

from coordination.api.run import Run
from coordination.models import Verdict

if TYPE_CHECKING:
    from coordination.api.access import EcosystemAccess
    from coordination.runs.control.approvals import Decision
    from coordination.runs.control.signing import Subject


class Decisions:
    """The part of `coord.runs` by which people decide. Names of runs are those of `Runs`."""

    def __init__(self, access: EcosystemAccess) -> None:
        self._access = access

    def complete(self, todo: str, run: str | None = None) -> Run:
        """Complete a manual todo that a person has done; return its run, which continues."""
        from coordination.runs.control import approvals

        with self._access.reached() as connection:
            named = connection.reader.resolve(run) if run else None
            self._access.authority.check("complete", lambda: self._repos_of(todo, named))
            run_id = approvals.complete(connection, todo, named)
        self._access.announce("complete", todo, run=run_id)
        return Run(self._access, run_id)

    def approve(self, todo: str, run: str | None = None, comment: str = "") -> Run:
        """Approve a todo or milestone that waits at a gate, or a manual todo that a person has done.

        Raises NotFound; Conflict; UsageError where nothing waits for approval, or several runs do and none is
        named.
        """
        return Run(self._access, self.decide(Verdict.APPROVE, todo, run, comment).run_id)

    def reject(self, todo: str, run: str | None = None, comment: str = "") -> Run:
        """Reject a todo or milestone that waits at a gate. It fails without another attempt, and the run
        follows its `on_failure`.

        Raises as `approve` does.
        """
        return Run(self._access, self.decide(Verdict.REJECT, todo, run, comment).run_id)

    def review(self, todo: str, run: str | None = None) -> tuple[str, Subject | None]:
        """Return the run, and what an approval of the todo would sign: task, order and commits, from bytes
        that were verified here; None in a process without an identity. Raises as `approve` does; NotTrusted
        where somebody has changed the run.
        """
        from coordination.runs.control import approvals

        with self._access.reached() as connection:
            self._access.authority.check("read")
            return approvals.review(connection, todo, connection.reader.resolve(run) if run else None)

    def decide(
        self,
        verdict: Verdict,
        todo: str,
        run: str | None = None,
        comment: str = "",
        *,
        reviewed: Subject | None = None,
    ) -> Decision:
        """Approve or reject; return who decided what in which run. Raises as `approve` does, and Conflict
        where the todo is not as it was `reviewed` any more.
        """
        from coordination.runs.control import approvals

        with self._access.reached() as connection:
            named = connection.reader.resolve(run) if run else None
            self._access.authority.check(verdict.value, lambda: self._repos_of(todo, named))
            decision = approvals.decide(connection, verdict, todo, named, comment, reviewed=reviewed)
        self._access.announce(verdict.value, todo, run=decision.run_id, data={"comment": comment})
        return decision

    def _repos_of(self, todo: str, run_id: str | None) -> set[str]:
        """Return the repository of a todo in a run, or all of the run for a milestone; empty if unknown."""
        asking = () if run_id else self._access.live_asking()
        names = [run_id] if run_id else [one.run_id for one in asking if one.todo == todo]
        rows = [row for name in names for row in Run(self._access, name).view().todos if row.repo]
        return {row.repo for row in rows if row.id == todo} or {row.repo for row in rows}
