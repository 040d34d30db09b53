"""Tools on quality checks: run, and their results."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from coordination.api import LAST, CheckOptions, QaReport
from coordination.mcp.answers import Cut, cut
from coordination.mcp.declaration import AnyOf, Items, Most, RunName, Wait, executes, reads
from coordination.mcp.session import Session
from coordination.models import CheckKind

SHOWN = 200


class CutQaReport(QaReport, Cut):
    """The checks of a run; `totals` and `repos` are complete."""


@executes("Run quality checks")
def coord_run_qa(
    session: Session,
    repos: Annotated[
        Items,
        Field(description="Default: those of the plan or run, else all that declare checks."),
    ] = None,
    plan: Annotated[str | None, Field(description="Check the change set of this plan.")] = None,
    run: Annotated[str | None, Field(description="Check the commits of this run.")] = None,
    base: Annotated[
        bool, Field(description="Check the base branches of the repositories of the plan or run.")
    ] = False,
    kinds: AnyOf[CheckKind] = (),
    no_cache: Annotated[bool, Field(description="Run checks that are known to be green, too.")] = False,
    wait_s: Wait = 0,
) -> CutQaReport:
    """Start a run of the checks that repositories declare, in dependency order, and return its results as far
    as they are known. Without plan or run, the base branches are checked.

    Only `green` is good. A check is `skipped` if one that it waits for is not green. Read the results with
    coord_get_qa(run=…) once coord_get_run(run=…, wait_s=60) says that the run has ended.
    """
    checks = session.coord.checks
    options = CheckOptions(
        repos=tuple(repos or ()), plan=plan, run=run, base=base, kinds=tuple(kinds), no_cache=no_cache
    )
    prepared = checks.make_ready(checks.prepare(options))
    started = checks.start(prepared)
    session.detached(started, wait_s)
    report = checks.report(started.id).model_copy(update={"unchecked": prepared.unchecked})
    return cut(CutQaReport, report, SHOWN)


@reads("Get quality checks")
def coord_get_qa(session: Session, run: RunName = LAST, limit: Most = SHOWN) -> CutQaReport:
    """Return the checks of a run with verdict, numbers of tests and failed tests; also those of a plan's run,
    and of one that goes on.
    """
    return cut(CutQaReport, session.coord.checks.report(run), limit)
