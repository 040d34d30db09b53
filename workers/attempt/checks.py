"""A quality check: its execution, and its verdict by the end of its command and by its JUnit report.

A quality check judges the repository, and changes nothing in it. Files that it leaves are removed, and
commits that it makes do not count: its todo settles with the commit at which it began. A green result is kept
for the trees of the repository and of those that it needs; any other result is made anew. The result of a
check that is not green goes to the checkpoint of its todo.

Only a command that ended with exit code 0, whose report names at least one test that ran and none that
failed, is green. A check without a report is judged by its exit code.

A report is hostile input, so it is bounded in every direction. expat parses the files as streams. A document
type, and so every entity, is refused. A report is a regular file inside the worktree, whose path leads
through no link to another place, and which the command has written or changed.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any
from xml.parsers import expat

from coordination.errors import CoordinationError
from coordination.models import Cache, LandCheck, QaAction, Retry, Todo
from coordination.models import Workspace as WorkspaceKind
from coordination.runs.attempt_store import Grant
from coordination.runs.change_sets.records import (
    MOST_FAILURES,
    CheckResult,
    CheckVerdict,
    FailedTest,
    read_result,
)
from coordination.text import counted
from workers.attempt.actions import RunTodo
from workers.outcome import AttemptOutcome, OutcomeKind, describe_exit
from workers.process.child import Exit
from workers.workspace.base import Workspace

CANNOT_START = (126, 127)
"""A shell's exit codes for a command that it cannot execute, or find."""

MOST_FILES = 1000
LARGEST = 64 * 1024 * 1024
"""Bytes of all files of a report."""
DEEPEST = 50
MOST_ELEMENTS = 1_000_000
CHUNK = 64 * 1024
NAME_LENGTH, MESSAGE_LENGTH = 300, 500
OUTCOMES = ("failure", "error", "skipped")

Stamp = tuple[int, int, int, int]


@dataclass(frozen=True, kw_only=True)
class RunCheck(RunTodo):
    context: Callable[[], Mapping[str, Any]]
    _before: dict[Path, Stamp] = field(default_factory=dict)
    """Files of the report that were there before the command."""

    @property
    def action(self) -> QaAction:
        action = self.grant.spec.todo.action
        assert isinstance(action, QaAction)
        return action

    def needs_command(self) -> bool:
        return True

    def cached(self, workspace: Workspace, start: str) -> AttemptOutcome | None:
        found = super().cached(workspace, start)
        if found is None or found.kind is not OutcomeKind.SUCCEEDED:
            return found
        return replace(found, check=self._check_field(CheckVerdict.GREEN, start))

    def _check_field(self, verdict: CheckVerdict, commit: str) -> str:
        return f"{self.action.check or self.grant.todo_id} {verdict} {commit}"

    def before_command(self, workspace: Workspace) -> None:
        if self.action.report:
            self._before.update(stamps(workspace.path, self.action.report))

    def outcome_of(
        self, outcome: AttemptOutcome | None, ended: Exit, workspace: Workspace, start: str
    ) -> AttemptOutcome | None:
        """Return the outcome by the verdict. `outcome`: of a command that failed."""
        if outcome is not None and outcome.kind is not OutcomeKind.FAILED:
            return outcome
        result = self._result(ended, workspace, start)
        counts = f"{result.passed:,} of {result.total:,} tests passed" if result.total is not None else ""
        self.log.line(": ".join(filter(None, (f"check: {result.verdict}", result.why or counts))))
        output = json.dumps(self.log.masked_json(json.loads(result.written())), separators=(",", ":"))
        green = result.verdict is CheckVerdict.GREEN
        if green or self._is_allowed(result):
            if workspace.discard_changes():
                self.log.line("check: it has left changes, which are not kept: a check changes nothing")
            accepted = AttemptOutcome(
                kind=OutcomeKind.SUCCEEDED, exit_code=ended.exit_code, output=output, tip=start, began=start,
                check=self._check_field(result.verdict, start),
            )  # fmt: skip
            if green and self.cache:
                self.cache.note(accepted, workspace)
            return accepted
        return AttemptOutcome(
            kind=OutcomeKind.FAILED if result.verdict is CheckVerdict.RED else OutcomeKind.REFUSED,
            error=f"{result.verdict}: {result.why}",
            exit_code=ended.exit_code,
            failure=outcome.failure if outcome else None,
            output=output,
            check=self._check_field(result.verdict, start),
        )

    def _result(self, ended: Exit, workspace: Workspace, start: str) -> CheckResult:
        how = describe_exit(ended, self.grant.spec.timeout)
        context = self.context()
        result = judge(
            self.action, ended, how, report_of(workspace.path, self.action.report, self._before), start
        )
        before = next(
            (one["output"] for one in context.get("predecessors", ()) if one["todo"] == self.action.before),
            None,
        )
        needed = self.action.needs
        needs = {
            repo: commit
            for repo, commit in context.get("commits", {}).items()
            if repo != self.grant.spec.repo.name and (needed is None or repo in needed)
        }
        known = before is not None and is_known(result, read_result(before))
        return result.model_copy(update={"known": known, "needs": needs})

    def _is_allowed(self, result: CheckResult) -> bool:
        """Return whether a red check is accepted: with an earlier result, only if it has no new failures."""
        red = result.verdict is CheckVerdict.RED and self.action.allow_red
        return red and (self.action.before is None or result.known)


def check_grant(grant: Grant, check: LandCheck, commit: str) -> Grant:
    """Return the grant of a check at a commit, which runs as a part of the todo that lands. It has the lease
    and the fence of that todo, and not its record.
    """
    todo = Todo(
        id=check.todo,
        task=f"Check {grant.spec.repo.name}: {check.action.check}",
        repo=grant.spec.repo.name,
        action=check.action,
        workspace=WorkspaceKind.WORKTREE,
        cache=Cache(),
    )
    fields = {"todo": todo, "retry": Retry(attempts=1), "timeout": check.timeout or grant.spec.timeout}
    spec = grant.spec.model_copy(update=fields)
    return replace(grant, spec_json=spec.model_dump_json(exclude_defaults=True), tip=commit, checkpoint="")


def judge(
    action: QaAction, ended: Exit, how: str, report: Report | ReportUnreadable | None, commit: str
) -> CheckResult:
    """Return the verdict. `how`: a text on how the command ended; `report`: None if the check has none."""
    verdict, why = _verdict(ended, how, report)
    found = CheckResult(
        verdict=verdict,
        why=why,
        check=action.check,
        kind=action.kind,
        duration_s=round(ended.duration_s, 3),
        exit_code=ended.exit_code,
        commit=commit,
    )
    if not isinstance(report, Report):
        return found
    return found.model_copy(
        update={
            "total": report.total,
            "passed": report.passed,
            "failed": report.failed,
            "skipped": report.skipped,
            "errors": report.errors,
            "failures": tuple(report.failures),
            "unnamed": max(0, report.failed + report.errors - MOST_FAILURES),
        }
    )


def _verdict(ended: Exit, how: str, report: Report | ReportUnreadable | None) -> tuple[CheckVerdict, str]:
    if ended.reason == "timeout":
        return CheckVerdict.TIMED_OUT, how
    if ended.reason != "exited" or ended.signal is not None or ended.exit_code in CANNOT_START:
        return CheckVerdict.COULD_NOT_RUN, f"it could not run: {how}"
    if isinstance(report, ReportUnreadable):
        code = "" if ended.ok else f" ({how})"
        return CheckVerdict.COULD_NOT_RUN, f"{report.message}{code}"
    if report is None:
        return (CheckVerdict.GREEN, "") if ended.ok else (CheckVerdict.RED, how)
    if bad := report.failed + report.errors:
        return CheckVerdict.RED, f"{bad:,} of {counted(report.total, 'test')} failed"
    if not report.ran:
        return CheckVerdict.RED, "no test ran"
    return (
        (CheckVerdict.GREEN, "")
        if ended.ok
        else (CheckVerdict.RED, f"no test failed, and the command did: {how}")
    )


def is_known(now: CheckResult, before: CheckResult | None) -> bool:
    """Return whether all failures are known from before. Without reports the verdicts are compared."""
    if now.verdict is not CheckVerdict.RED or before is None or before.verdict is not CheckVerdict.RED:
        return False
    if now.total is None or before.total is None:
        return now.total is None and before.total is None
    if not now.failures:
        return not before.failures
    return not now.unnamed and _names(now.failures) <= _names(before.failures)


def _names(failures: Iterable[FailedTest]) -> set[str]:
    return {failure.name for failure in failures}


class ReportUnreadable(CoordinationError):
    """The report is missing, too large, or no JUnit XML."""


@dataclass(kw_only=True)
class Report:
    """The tests in a report, counted."""

    total: int = 0
    failed: int = 0
    skipped: int = 0
    errors: int = 0
    failures: list[FailedTest] = field(default_factory=list)

    @property
    def passed(self) -> int:
        return self.total - self.failed - self.skipped - self.errors

    @property
    def ran(self) -> int:
        return self.total - self.skipped


def stamps(root: Path, pattern: str) -> Mapping[Path, Stamp]:
    """Return the report's files before the command runs."""
    return {path: stamp for path in _files(root, pattern) if (stamp := _stamp(path))}


def report_of(
    root: Path, pattern: str | None, before: Mapping[Path, Stamp]
) -> Report | ReportUnreadable | None:
    """Return the report of a check, or why it cannot be read; None if the check has none."""
    if not pattern:
        return None
    try:
        return read_report(root, pattern, before)
    except ReportUnreadable as unreadable:
        return unreadable


def read_report(root: Path, pattern: str, before: Mapping[Path, Stamp]) -> Report:
    """Return the tests in the files that the command has written. Raises ReportUnreadable."""
    written = [path for path in _files(root, pattern) if _stamp(path) != before.get(path)]
    if not written:
        old = ", only an older one" if before else ""
        raise ReportUnreadable(
            f"it has written no report {pattern}{old}", "correct its command, or its field report"
        )
    if len(written) > MOST_FILES:
        raise ReportUnreadable(f"its report has more than {MOST_FILES:,} files", "narrow its field report")
    report, parsed = Report(), _Budget()
    for path in sorted(written):
        _read(path, root, report, parsed)
    return report


def _files(root: Path, pattern: str) -> Iterator[Path]:
    """Yield the paths of the report, at most one more than allowed."""
    return islice((path for path in root.glob(pattern) if path.is_file()), MOST_FILES + 1)


def _stamp(path: Path) -> Stamp | None:
    try:
        found = path.lstat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_ctime_ns, found.st_size


@dataclass
class _Budget:
    bytes: int = 0
    elements: int = 0


def _read(path: Path, root: Path, report: Report, budget: _Budget) -> None:
    name = path.relative_to(root)
    try:
        if not path.resolve(strict=True).is_relative_to(root.resolve()):
            raise ReportUnreadable(f"its report {name} is a link to a file outside of the worktree")
        opened = os.open(path.resolve(), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(opened, "rb") as file:
            if not stat.S_ISREG(os.fstat(opened).st_mode):
                raise ReportUnreadable(f"its report {name} is not a file")
            parser = _Parser(report, budget)
            while data := file.read(CHUNK):
                budget.bytes += len(data)
                if budget.bytes > LARGEST:
                    raise ReportUnreadable(f"its report has more than {LARGEST:,} bytes")
                parser.feed(data)
            parser.feed(b"", last=True)
    except (expat.ExpatError, LookupError, ValueError) as error:
        raise ReportUnreadable(f"its report {name} is not XML: {error}") from error
    except OSError as error:
        raise ReportUnreadable(f"its report {name} cannot be read: {error.strerror}") from error


class _Parser:
    def __init__(self, report: Report, budget: _Budget) -> None:
        self._report = report
        self._budget = budget
        self._depth = 0
        self._test = ""
        self._outcome = ""
        self._message = ""
        self._expat = expat.ParserCreate()
        self._expat.StartElementHandler = self._start
        self._expat.EndElementHandler = self._end
        self._expat.StartDoctypeDeclHandler = self._refuse
        self._expat.EntityDeclHandler = self._refuse

    def feed(self, data: bytes, *, last: bool = False) -> None:
        self._expat.Parse(data, last)

    def _refuse(self, *_: object) -> None:
        raise ReportUnreadable("its report declares a document type or entities, which are not read")

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        self._depth += 1
        self._budget.elements += 1
        if self._depth > DEEPEST or self._budget.elements > MOST_ELEMENTS:
            raise ReportUnreadable(
                f"its report is nested deeper than {DEEPEST}, or has more than {MOST_ELEMENTS:,} elements"
            )
        if self._depth == 1 and name not in ("testsuites", "testsuite"):
            raise ReportUnreadable(f"its report is no JUnit XML: it begins with {name[:NAME_LENGTH]!r}")
        if name == "testcase":
            self._test = ".".join(filter(None, (attributes.get("classname"), attributes.get("name"))))
            self._outcome = self._message = ""
        elif name in OUTCOMES and not (self._outcome and name == "skipped"):
            self._outcome = name
            self._message = attributes.get("message", "")

    def _end(self, name: str) -> None:
        self._depth -= 1
        if name != "testcase":
            return
        report = self._report
        report.total += 1
        report.failed += self._outcome == "failure"
        report.errors += self._outcome == "error"
        report.skipped += self._outcome == "skipped"
        if self._outcome in ("failure", "error") and len(report.failures) < MOST_FAILURES:
            report.failures.append(
                FailedTest(
                    name=_plain(self._test, NAME_LENGTH), message=_plain(self._message, MESSAGE_LENGTH)
                )
            )
        self._outcome = ""


def _plain(text: str, length: int) -> str:
    """Return the beginning of a text on one line."""
    return " ".join(text[: 4 * length].split())[:length]
