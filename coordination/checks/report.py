"""Read the results of quality checks: of a run, with totals; and the newest result of each check of a plan.

The newest result of a plan's check counts for its commit, whichever run has made it. If the change set has
moved since in the repository of the check, or in one that it needs, the check has no result.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from coordination.errors import NotAllowed, NotFound, Unreadable
from coordination.frozen import FrozenModel
from coordination.models import Ecosystem, Plan, QaAction, generated_id
from coordination.planner.checks import BEFORE
from coordination.runs.change_sets.records import CheckResult, CheckVerdict, FailedTest, read_result
from coordination.runs.change_sets.store import ChangeSets
from coordination.runs.logs import last_lines
from coordination.runs.records import Descriptor, TodoSpec, TodoState
from coordination.runs.run_kinds import LAND, QA
from coordination.runs.signed.results import signed_results
from coordination.runs.views.records import RunView, Source, TodoView
from coordination.runs.views.run_list import RunFilters, newest
from coordination.text import counted
from coordination.tracker.completion import checked_repos
from coordination.tracker.records import CheckStanding
from coordination.trust.results import SUCCEEDED, digest

if TYPE_CHECKING:
    from coordination.runs.connection import Connection
    from coordination.trust.trust_file import TrustFile

Name = tuple[str, str]
"""A repository and its check."""
MOST_RUNS = 50
"""Runs of a plan that are read, the newest first."""
WORST = (
    CheckVerdict.COULD_NOT_RUN,
    CheckVerdict.TIMED_OUT,
    CheckVerdict.RED,
    CheckVerdict.SKIPPED,
    CheckVerdict.WAITING,
)
"""Verdicts that are not green, the most informative one first."""


class Totals(FrozenModel):
    """Tests of several checks; a check without a report counts none."""

    verdict: CheckVerdict
    checks: int
    green: int
    total: int
    passed: int
    failed: int
    skipped: int
    errors: int
    duration_s: float
    """Sum of the times of all commands, also of those whose results were reused."""


class CheckView(FrozenModel):
    """One check of a run."""

    todo: str
    repo: str
    check: str | None = None
    """None for a command that a todo names itself."""
    kind: str | None = None
    verdict: CheckVerdict
    why: str = ""
    """The reason of a verdict that is not green."""
    known: bool = False
    """True if all failures existed before the plan."""
    total: int | None = None
    """Number of tests; None without a report, like the following numbers."""
    passed: int | None = None
    failed: int | None = None
    skipped: int | None = None
    errors: int | None = None
    duration_s: float | None = None
    commit: str | None = None
    """The commit that was checked."""
    needs: Mapping[str, str] = {}
    """Needed repository → the commit that it was checked against."""
    cached: Source | None = None
    """Origin of a result that was reused: the trees are the same."""
    failures: tuple[FailedTest, ...] = ()
    """The first failed tests."""
    unnamed: int = 0
    """Number of further failed tests."""
    output: tuple[str, ...] = ()
    """The last lines of its output, where it is not green."""
    log: str
    """The command that prints its output."""


class QaReport(FrozenModel):
    """The checks of a run."""

    run_id: str
    plan_id: str
    status: str
    verdict: CheckVerdict
    """`green` only if every check is."""
    totals: Totals
    repos: Mapping[str, Totals]
    checks: tuple[CheckView, ...]
    unchecked: tuple[str, ...] = ()
    """Repositories that declare no check, so nothing is known about them."""


def read_report(connection: Connection, run_id: str, unchecked: Iterable[str] = ()) -> QaReport:
    """Return the checks of a run. Raises NotFound; Unreadable."""
    run = connection.reader.read(run_id)
    checks = [_with_output(connection, run, check) for check in read_checks(connection, run)]
    return report_of(run, checks, unchecked)


def _with_output(connection: Connection, run: RunView, check: CheckView) -> CheckView:
    if check.verdict in (CheckVerdict.GREEN, CheckVerdict.SKIPPED, CheckVerdict.WAITING):
        return check
    ran_in = next((todo.run for todo in run.todos if todo.id == check.todo), None) or run.run_id
    lines = last_lines(connection.reader.log_tail(ran_in, check.todo))
    return check.model_copy(update={"output": tuple(lines)})


def report_of(run: RunView, checks: Collection[CheckView], unchecked: Iterable[str] = ()) -> QaReport:
    repos = dict.fromkeys(check.repo for check in checks)
    totals = _totals(checks)
    return QaReport(
        run_id=run.run_id,
        plan_id=run.plan_id,
        status=run.status,
        verdict=totals.verdict,
        totals=totals,
        repos={repo: _totals([check for check in checks if check.repo == repo]) for repo in repos},
        checks=tuple(checks),
        unchecked=tuple(unchecked),
    )


def read_checks(connection: Connection, run: RunView) -> list[CheckView]:
    """Return the checks among the todos of a run, in its order."""
    keys, redis = connection.keys.run(run.run_id), connection.redis
    kinds = {name: Descriptor.parse(place).kind for name, place in redis.hgetall(keys.descriptor).items()}
    todos = [todo for todo in run.todos if kinds.get(todo.id, "").partition(":")[0] == QA]
    if not todos:
        return []
    names = [todo.id for todo in todos]
    with redis.pipeline(transaction=False) as pipeline:
        pipeline.hmget(keys.spec, names)
        pipeline.hmget(keys.checkpoint, names)
        pipeline.hmget(keys.facts, [f"{name} commit" for name in names])
        specs, checkpoints, commits = pipeline.execute()
    rows = zip(todos, specs, checkpoints, commits, strict=True)
    return [_view(run, todo, _action(spec), checkpoint, commit) for todo, spec, checkpoint, commit in rows]


def _action(spec: str | None) -> QaAction | None:
    try:
        action = TodoSpec.model_validate_json(spec or "").todo.action
    except ValueError:  # what is damaged in Redis is shown without its name
        return None
    return action if isinstance(action, QaAction) else None


def _view(
    run: RunView, todo: TodoView, action: QaAction | None, checkpoint: str | None, commit: str | None
) -> CheckView:
    result = _result(todo, checkpoint)
    fields: dict[str, Any] = {
        name: value
        for name, value in dict(result).items()
        if name in CheckView.model_fields and name not in ("check", "kind", "commit")
    }
    return CheckView(
        **fields,
        todo=todo.id,
        repo=todo.repo,
        check=action.check if action else None,
        kind=action.kind if action else None,
        commit=commit or result.commit or None,
        cached=todo.cached,
        log=f"coord logs {todo.run or run.run_id} {todo.id}",
    )


def _result(todo: TodoView, checkpoint: str | None) -> CheckResult:
    """Return the result of a check's todo. Only a todo that succeeded may be green."""
    if todo.state is TodoState.SUCCEEDED:
        result = read_result(todo.output)
        return result or _without(CheckVerdict.COULD_NOT_RUN, "its result cannot be read")
    if todo.state is TodoState.FAILED:
        result, why = read_result(checkpoint), todo.error or "it failed"
        if result and result.verdict is not CheckVerdict.GREEN and result.why in why:
            return result
        return _without(CheckVerdict.COULD_NOT_RUN, why)
    if todo.state.ended:
        return _without(CheckVerdict.SKIPPED, todo.error or str(todo.state))
    return _without(CheckVerdict.WAITING, todo.waits_for or str(todo.state))


def _without(verdict: CheckVerdict, why: str) -> CheckResult:
    return CheckResult(verdict=verdict, why=why)


def _totals(checks: Collection[CheckView]) -> Totals:
    verdicts = {check.verdict for check in checks}
    worst = next((verdict for verdict in WORST if verdict in verdicts), None)
    return Totals(
        verdict=worst or (CheckVerdict.GREEN if checks else CheckVerdict.COULD_NOT_RUN),
        checks=len(checks),
        green=sum(check.verdict is CheckVerdict.GREEN for check in checks),
        total=sum(check.total or 0 for check in checks),
        passed=sum(check.passed or 0 for check in checks),
        failed=sum(check.failed or 0 for check in checks),
        skipped=sum(check.skipped or 0 for check in checks),
        errors=sum(check.errors or 0 for check in checks),
        duration_s=round(sum(check.duration_s or 0.0 for check in checks), 3),
    )


def checks_in_words(totals: Totals) -> str:
    """Return `3 of 4 checks green, 120 of 122 tests passed`."""
    text = f"{totals.green:,} of {counted(totals.checks, 'check')} green"
    if not totals.total:
        return text
    return f"{text}, {totals.passed:,} of {counted(totals.total, 'test')} passed"


def recorded_checks(
    connection: Connection, ecosystem: Ecosystem, plan: Plan, trust: TrustFile | None = None
) -> dict[Name, CheckStanding]:
    """Return the newest results of the checks that count for the plan, of those that have one. `trust`:
    accept only results that a worker of this trust file has signed.
    """
    names = {(repo.name, check.name) for repo in checked_repos(ecosystem, plan) for check in repo.qa}
    newest = newest_checks(connection, plan.id, names)
    change_set = ChangeSets(connection.store).read(plan.id) if newest else None
    tips = {repo: change.tip for repo, change in change_set.open.items()} if change_set else {}
    standings = {name: _standing(plan, name, run, check, tips) for name, (run, check) in newest.items()}
    if trust is None:
        return standings
    return {
        name: _verified(connection, trust, newest[name][1].todo, standing)
        for name, standing in standings.items()
    }


def _verified(connection: Connection, trust: TrustFile, todo: str, standing: CheckStanding) -> CheckStanding:
    """Return the result of a check; without a signature, an accepted one becomes one that is not."""
    if not standing.accepted or standing.run_id is None:
        return standing
    run = connection.signed_run(standing.run_id, trust)
    output = connection.redis.hget(connection.keys.run(standing.run_id).output, todo)
    try:
        (result,) = signed_results(run, [todo])
        why = result.doubt.message if result.doubt else ""
        same = (result.outcome, result.output) == (SUCCEEDED, digest(output or ""))
    except NotAllowed as refused:
        why, same = refused.message, False
    if same:
        return standing
    reason = f"has no signed result{f': {why}' if why else ''}"
    return CheckStanding(repo=standing.repo, check=standing.check, why=reason, run_id=standing.run_id)


def newest_checks(
    connection: Connection, plan: str, names: Collection[Name]
) -> dict[Name, tuple[str, CheckView]]:
    """Return the newest of each of these checks, and its run: one of the plan, of `coord qa run --plan`, or a
    landing. A check before the todos of the plan does not count.
    """
    plans = frozenset({plan, f"{QA}:{plan}", f"{LAND}:{plan}"})
    found: dict[Name, tuple[str, CheckView]] = {}
    for run_id in newest(connection.redis, connection.keys, RunFilters(plans=plans), MOST_RUNS):
        if len(found) == len(names):
            break
        try:
            checks = read_checks(connection, connection.reader.read(run_id))
        except (NotFound, Unreadable):  # it was forgotten meanwhile, or is damaged
            continue
        for check in checks:
            name = (check.repo, check.check or "")
            before = generated_id(f"{plan}.{BEFORE}.{check.repo}.{check.check}")
            if name in names and check.todo != before:
                found.setdefault(name, (run_id, check))
    return found


def _standing(plan: Plan, name: Name, run: str, check: CheckView, tips: Mapping[str, str]) -> CheckStanding:
    repo, title = name
    needs = {} if check.cached else check.needs  # a reused result names the commits of the run that made it
    commits = {**needs, **({repo: check.commit} if check.commit else {})}
    moved = [other for other, commit in commits.items() if tips.get(other, commit) != commit]
    if moved:
        why = f"has no result for the newest commit of {', '.join(sorted(moved))}"
        return CheckStanding(repo=repo, check=title, why=why, run_id=run)
    known = check.verdict is CheckVerdict.RED and check.known and plan.qa.allow_red
    return CheckStanding(
        repo=repo,
        check=title,
        verdict=check.verdict,
        accepted=known or check.verdict is CheckVerdict.GREEN,
        why=check.why,
        run_id=run,
    )
