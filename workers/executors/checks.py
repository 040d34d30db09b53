"""Run a quality check, and judge it: from the end of its command, and its report, to a verdict.

Only a command that ended with exit code 0, whose report names at least one test that ran and none that
failed, is green. A check without a report is judged by its exit code.
"""

from __future__ import annotations

from collections.abc import Iterable

from coordination.models import QaAction, argv_of
from coordination.runs.change_sets.check_results import MOST_FAILURES, CheckResult, CheckVerdict, FailedTest
from coordination.text import counted
from workers.executors.job import Command, Job
from workers.executors.junit import Report, ReportUnreadable
from workers.process.child import Exit

CANNOT_START = (126, 127)
"""A shell's exit codes for a command that it cannot execute, or find."""


def check_command(job: Job) -> Command:
    assert isinstance(job.action, QaAction)
    assert job.action.run is not None, "the graph refuses a check that is not declared"
    return Command(argv=argv_of(job.action.run))


def judge(
    action: QaAction, ended: Exit, how: str, report: Report | ReportUnreadable | None, commit: str
) -> CheckResult:
    """Return the verdict. `how` the command ended, for people; `report`: None if the check has none."""
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
    """Return whether nothing failed that had not failed before. Without reports the verdicts are compared."""
    if now.verdict is not CheckVerdict.RED or before is None or before.verdict is not CheckVerdict.RED:
        return False
    if now.total is None or before.total is None:
        return now.total is None and before.total is None
    if not now.failures:
        return not before.failures
    return not now.unnamed and _names(now.failures) <= _names(before.failures)


def _names(failures: Iterable[FailedTest]) -> set[str]:
    return {failure.name for failure in failures}
