"""Synchronise the issues of one repository with those at its forge.

An issue is created at the forge in three steps: a random marker is written into the file, the issue is
created with this marker in its text, and its id is written into the file. After a crash between two steps,
the next synchronisation finds the marker at the forge. The file is written in one edit, even if a call to
the forge fails midway; a change that could not be written is found equal on both sides the next time.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Collection, Mapping
from typing import Any, Protocol

from coordination.changes.issues.rules import (
    Decision,
    Home,
    IssueAction,
    IssueResult,
    IssueSyncOptions,
    Side,
    Value,
    changes_at_forge,
    decide,
    digest,
    fields_of_file,
    has_priorities,
    marker_of,
    new_issue,
    number_of,
    rejected_fields,
    values_of_file,
    values_of_forge,
)
from coordination.errors import Conflict, CoordinationError, LockError, NotAllowed, NotFound
from coordination.forges.errors import LIMITS, ForgeError, ForgeProblem
from coordination.forges.forge import Forge
from coordination.forges.models import ForgeIssue
from coordination.models import Issue

ENDING = LIMITS | {
    ForgeProblem.UNAUTHORIZED,
    ForgeProblem.ARCHIVED,
    ForgeProblem.SERVER,
    ForgeProblem.UNREACHABLE,
}
"""Problems after which the remaining issues of a repository are not tried."""
Changes = Callable[[Issue], Mapping[str, Any]]


class IssueFile(Protocol):
    """The file, as `tracker.manager.CoordinationManager` edits it."""

    def write_issues(self, changes: Mapping[str, Changes], new: Any = ()) -> Any: ...


class RepoIssues:
    """The synchronisation of one repository."""

    def __init__(
        self,
        home: Home,
        forge: Forge,
        file: IssueFile,
        options: IssueSyncOptions,
        known: Collection[str],
        check: Callable[[], object],
    ) -> None:
        """`known`: the ids at forges of all issues of the file.

        `check` raises if the lock of this synchronisation is lost; it is called before each change.
        """
        self._home = home
        self._forge = forge
        self._file = file
        self._options = options
        self._known = {one.casefold() for one in known}
        self._check = check
        self._remote: dict[int, ForgeIssue] = {}
        self._priorities = False
        self._results: list[IssueResult] = []
        self._changes: dict[str, Changes] = {}
        self._new: list[tuple[int, dict[str, Any]]] = []
        """Index of the result, and the fields, of each issue that the file gets."""
        self.not_pulled = 0

    def run(self) -> list[IssueResult]:
        """Return the result of each issue. Raises if nothing could be started."""
        self._remote = {one.number: one for one in self._forge.list_issues()}
        self._priorities = has_priorities(self._forge.labels())
        markers = self._write_markers()
        ended: CoordinationError | None = None
        taken: set[int] = set()
        try:
            for issue in self._home.issues:
                try:
                    if ended is not None:
                        raise ended
                    self._sync(issue, markers.get(issue.id, ""), taken)
                except CoordinationError as error:
                    self._fail(issue, error)
                    ended = error if _stops_all(error) else None
            self._pull_others(taken)
        finally:
            self._write()
        return self._results

    def _write_markers(self) -> dict[str, str]:
        """Write a marker into the file for each issue to be created; return issue → marker."""
        begun = [issue for issue in self._home.issues if number_of(issue) is None]
        words = {one.id: one.forge.marker for one in begun if one.forge and one.forge.marker}
        missing = {one.id: secrets.token_hex(8) for one in begun if one.id not in words}
        if missing and not self._options.dry_run:
            self._check()
            self._file.write_issues({name: _set_marker(word) for name, word in missing.items()})
        return words | missing

    def _sync(self, issue: Issue, marker: str, taken: set[int]) -> None:
        number, action = number_of(issue), IssueAction.UPDATED
        if number is None:
            number = min(
                (one.number for one in self._remote.values() if marker_of(one.body) == marker), default=None
            )
            action = IssueAction.LINKED
        if number is None:
            self._create(issue, marker, taken)
            return
        if number in taken:
            raise Conflict(
                f"{self._home.reference(number)} belongs to another issue of the file as well",
                f"remove `forge` from one of the two, such as {issue.id}",
            )
        taken.add(number)
        if number not in self._remote:
            raise NotFound(
                f"{self._home.reference(number)} no longer exists, or the token may not see it",
                f"remove `forge` from {issue.id} in the file to create it again, or close {issue.id}",
            )
        self._reconcile(issue, self._remote[number], action)

    def _reconcile(self, issue: Issue, found: ForgeIssue, action: IssueAction) -> None:
        base = dict(issue.forge.synced) if issue.forge else {}
        mine = values_of_file(issue, priorities=self._priorities)
        theirs = values_of_forge(found, mine, base, priorities=self._priorities)
        linked = action is IssueAction.LINKED
        decision = decide(mine, theirs, base, Side.FILE if linked else self._options.prefer)
        fields = fields_of_file(decision.to_file)
        missing: tuple[str, ...] = ()
        if decision.to_forge and not self._options.dry_run:
            self._check()
            found = self._forge.update_issue(found.number, changes_at_forge(decision, found, theirs))
            after = values_of_forge(found, {**mine, **decision.to_forge}, {}, priorities=self._priorities)
            missing = rejected_fields(decision.to_forge, after)
        agreed = {name: word for name, word in decision.agreed.items() if name not in missing}
        if linked or fields or agreed.items() - base.items():
            self._changes[issue.id] = self._file_changes(found.number, mine, decision, fields, agreed)
        if not (linked or decision.to_forge or decision.to_file):
            action = IssueAction.UNCHANGED
        self._add_result(issue, found, action, decision, missing)

    def _file_changes(
        self,
        number: int,
        read: Mapping[str, Value],
        decision: Decision,
        fields: Mapping[str, Any],
        agreed: Mapping[str, str],
    ) -> Changes:
        """Return the changes of an issue of the file. A field that a person has edited since it was read
        is not changed: the next synchronisation sees the conflict.
        """

        def changes(now: Issue) -> Mapping[str, Any]:
            values = values_of_file(now, priorities=self._priorities)
            edited = {name for name in decision.to_file if digest(values[name]) != digest(read[name])}
            kept = {name: word for name, word in agreed.items() if name not in edited}
            before = now.forge.synced if now.forge else {}
            link = {"id": self._home.reference(number), "synced": {**before, **kept}}
            return {name: value for name, value in fields.items() if name not in edited} | {"forge": link}

        return changes

    def _create(self, issue: Issue, marker: str, taken: set[int]) -> None:
        values = values_of_file(issue, priorities=self._priorities)
        if self._options.dry_run:
            self._results.append(self._result(issue, IssueAction.WOULD_CREATE, to_forge=tuple(values)))
            return
        self._check()
        made = self._forge.create_issue(new_issue(values, marker))
        taken.add(made.number)
        self._remote[made.number] = made
        theirs = values_of_forge(made, values, {}, priorities=self._priorities)
        decision = Decision(to_forge=values, to_file={}, equal={}, conflicts=())
        missing = rejected_fields(values, theirs)
        agreed = {name: word for name, word in decision.agreed.items() if name not in missing}
        self._changes[issue.id] = self._file_changes(made.number, values, decision, {}, agreed)
        self._add_result(issue, made, IssueAction.CREATED, decision, missing)

    def _pull_others(self, taken: set[int]) -> None:
        """Create the open issues of the forge that the file lacks, or only count them."""
        others = [
            one
            for one in self._remote.values()
            if one.is_open
            and one.number not in taken
            and self._home.reference(one.number).casefold() not in self._known
        ]
        if not self._options.pull:
            self.not_pulled = len(others)
            return
        for found in others:
            reference = self._home.reference(found.number)
            theirs = values_of_forge(found, {"assignee": ()}, {}, priorities=self._priorities)
            result = IssueResult(
                repo=self._home.repo,
                forge=reference,
                url=found.url,
                title=str(theirs["title"]),
                action=IssueAction.WOULD_PULL if self._options.dry_run else IssueAction.PULLED,
                to_file=tuple(theirs),
            )
            try:
                fields = fields_of_file(theirs)
            except CoordinationError as error:
                self._results.append(result.failed(error))
                continue
            synced = {name: digest(value) for name, value in theirs.items()}
            fields |= {"repos": [self._home.repo], "forge": {"id": reference, "synced": synced}}
            self._new.append((len(self._results), fields))
            self._results.append(result)

    def _write(self) -> None:
        """Write the agreed values and the new issues into the file."""
        if self._options.dry_run or not (self._changes or self._new):
            return
        try:
            edited = self._file.write_issues(self._changes, [fields for _, fields in self._new])
        except CoordinationError as error:
            self._results = [
                one.failed(error) if one.issue in self._changes or one.action is IssueAction.PULLED else one
                for one in self._results
            ]
            return
        made = edited[len(edited) - len(self._new) :]
        for (at, _), one in zip(self._new, made, strict=True):
            self._results[at] = self._results[at].model_copy(update={"issue": one.record.id})

    def _add_result(
        self,
        issue: Issue,
        found: ForgeIssue,
        action: IssueAction,
        decision: Decision,
        missing: tuple[str, ...],
    ) -> None:
        would = {
            IssueAction.UPDATED: IssueAction.WOULD_UPDATE,
            IssueAction.LINKED: IssueAction.WOULD_LINK,
        }
        failure: dict[str, Any] = {}
        if missing:
            failure = {
                "error": f"the forge rejected: {', '.join(missing)}\n"
                "give the token the right to set them, or use values that the forge knows",
                "code": NotAllowed.exit_code,
            }
        self._results.append(
            self._result(
                issue,
                would.get(action, action) if self._options.dry_run else action,
                forge=self._home.reference(found.number),
                url=found.url,
                to_forge=tuple(name for name in decision.to_forge if name not in missing),
                to_file=tuple(decision.to_file),
                conflicts=decision.conflicts,
                **failure,
            )
        )

    def _fail(self, issue: Issue, error: CoordinationError) -> None:
        known = issue.forge.id if issue.forge and issue.forge.id else ""
        self._results.append(self._result(issue, IssueAction.FAILED, forge=known).failed(error))

    def _result(self, issue: Issue, action: IssueAction, **more: Any) -> IssueResult:
        return IssueResult(issue=issue.id, repo=self._home.repo, title=issue.title, action=action, **more)


def _stops_all(error: CoordinationError) -> bool:
    """Return whether the remaining issues of a repository are not tried after this error."""
    return isinstance(error, LockError) or (isinstance(error, ForgeError) and error.problem in ENDING)


def _set_marker(word: str) -> Changes:
    def changes(now: Issue) -> Mapping[str, Any]:
        return {} if now.forge else {"forge": {"marker": word}}

    return changes
