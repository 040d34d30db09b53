"""A page for each record, with its blockers, dependents and state in a run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date, datetime
from typing import TYPE_CHECKING

import click

from coordination.api import FINISHED, OPEN, effect_of_timeout
from coordination.cli.context import this_call
from coordination.cli.screen.tables import (
    Lines,
    bullets,
    due,
    facts,
    head,
    marked,
    plain,
    print_page,
    rows,
    section,
    status_cell,
    styled,
    text,
    toned,
)
from coordination.cli.times import with_local_times
from coordination.cli.tracker.lists import done, for_how_long, print_todos
from coordination.declared import Cell
from coordination.models import (
    OPEN_TODO,
    Action,
    AgentAction,
    Cache,
    Dependency,
    Gate,
    Issue,
    LandAction,
    Milestone,
    NoopAction,
    Plan,
    PythonAction,
    QaAction,
    RevertAction,
    RewriteAction,
    ShellAction,
    Todo,
    presentable,
    text_of,
)
from coordination.states import Tone, mark_of_check, tone_of
from coordination.text import format_hours

if TYPE_CHECKING:
    from coordination.api import Link, LiveTodo, MilestoneStanding
    from coordination.api.records import DependencyView, IssueView, LinkedView, PlanRecordView, TodoRecordView


SHOWN = 20
"""Links that are shown for each record."""


def issue_page(view: IssueView, today: date) -> Iterator[Lines]:
    issue = view.record
    yield head(
        issue.id, issue.title, status_cell(issue.status), status_cell(issue.priority), _severity(issue)
    )
    yield facts(
        [
            ("repos", ", ".join(issue.repos)),
            ("assignee", issue.assignee or ""),
            ("labels", ", ".join(issue.labels)),
            ("target", _due(issue.target, today, over=issue.status not in OPEN)),
            ("dates", _dates(issue)),
            ("forge", (issue.forge.id or "") if issue.forge else ""),
            *((str(name), str(value)) for name, value in issue.metadata.items()),
        ]
    )
    yield text(issue.description)
    yield from _chains(view)


def todo_page(view: TodoRecordView) -> Iterator[Lines]:
    todo, plan = view.record, view.plan
    yield head(todo.id, todo.task, status_cell(todo.status), status_cell(todo.priority))
    yield facts(
        [
            ("repo", todo.repo),
            ("plan", f"{plan.id}  {plan.title}" if plan else todo.plan or ""),
            ("assignee", todo.assignee or ""),
            ("labels", ", ".join(todo.labels)),
            ("hours", ", ".join(_hours(todo))),
            ("dates", _dates(todo)),
            ("action", _action(todo.action)),
            ("gate", _gate(todo.gate)),
            ("cache", _cache(todo.cache)),
            ("timeout", format_hours(todo.timeout.total_seconds() / 3600) if todo.timeout else ""),
            ("resources", ", ".join(map(str, todo.resources))),
            ("secrets", " ".join(todo.secrets)),
            ("env", " ".join(f"{name}={value}" for name, value in presentable(todo).env.items())),
            ("works in", "the repository's own folder" if todo.workspace == "in-place" else ""),
        ]
    )
    yield text(todo.description)
    yield bullets("is done when", map(text_of, todo.acceptance_criteria))
    yield from _chains(view)
    yield _at_present(todo, view.live)


def plan_page(view: PlanRecordView, milestones: Sequence[MilestoneStanding], today: date) -> Iterator[Lines]:
    plan, todos = view.record, view.todos
    progress = f"{done(todos)} todos done" if todos else "no todos"
    yield head(plan.id, plan.title, status_cell(plan.status), Cell(progress))
    yield facts(
        [
            ("repos", ", ".join(plan.repos)),
            ("target", _due(plan.target, today, over=plan.status not in OPEN)),
            ("dates", _dates(plan)),
            ("strategy", f"{plan.strategy}, on failure {plan.on_failure}" + _at_most(plan)),
            ("timeout", "" if plan.timeout is None else f"{plan.timeout.total_seconds():g} s"),
            ("recurring", "each sweep runs all its todos" if plan.recurring else ""),
            (
                "two persons",
                "another person than the one who ordered a run approves" if plan.two_persons else "",
            ),
        ]
    )
    yield text(plan.description)
    declared = {milestone.id: milestone for milestone in plan.milestones}
    yield section("milestones", [line for m in milestones for line in _milestone(m, declared[m.id])])
    yield from _chains(view)


def dependency_page(dependency: Dependency) -> Iterator[Lines]:
    check = dependency.validation
    title = (
        f"{dependency.consumer} needs {dependency.provider} {dependency.version_constraint or ''}".rstrip()
    )
    yield head(dependency.id, title, status_cell(dependency.status), Cell(dependency.type))
    yield facts(
        [
            ("dates", _dates(dependency)),
            ("checked", "" if check and (check.command or check.health_check) else _by_version(dependency)),
            ("command", _command(check.command) if check and check.command else ""),
            ("must print", check.expected_pattern or "" if check else ""),
            ("health", check.health_check or "" if check else ""),
            ("must answer", str(check.expected_status or "") if check else ""),
            (
                "timeout",
                format_hours(check.timeout.total_seconds() / 3600) if check and check.timeout else "",
            ),
        ]
    )
    yield text(dependency.notes)


def _by_version(dependency: Dependency) -> str:
    if dependency.version_constraint is None:
        return "none: no constraint, command or address"
    return f"by the version in {dependency.provider}'s checkout"


def _chains(view: LinkedView) -> Iterator[Lines]:
    finished = view.record.status in FINISHED
    yield section("waited for" if finished else "waits for", _tree(view.chains.waits_for))
    yield section("was needed by" if finished else "blocks", _tree(view.chains.holds_up))


def _tree(links: Sequence[Link]) -> Lines:
    lines = rows(list(_rows(links, "")))
    more = len(links) - SHOWN
    return [*lines, f"and {more} more"] if more > 0 else lines


def _rows(links: Sequence[Link], indent: str) -> Iterator[tuple[object, ...]]:
    for link in links[:SHOWN]:
        status = status_cell(link.status) if link.status else Cell("not declared", Tone.BAD)
        yield f"{indent}{link.id}", status, ", ".join(link.repos), link.title
        yield from _rows(link.behind, indent + "  ")


def _milestone(milestone: MilestoneStanding, declared: Milestone) -> Iterator[str]:
    overdue = " (overdue)" if milestone.overdue else ""
    when = f"due {milestone.due}{overdue}" if milestone.due else ""
    parts = [
        toned(str(milestone.status), tone_of(milestone.status)),
        toned(when, Tone.BAD if overdue else Tone.NEUTRAL),
    ]
    yield f"{styled(milestone.id, 'bold')}  {plain(milestone.name)}  {' · '.join(filter(None, parts))}"
    yield from (f"  {line}" for line in text(declared.description))
    if declared.gate and milestone.status in OPEN:
        yield f"  {_gate(declared.gate)}"
    for blocker in milestone.waits_for:
        yield f"  waits for {blocker.id} ({blocker.status or 'not declared'}) {plain(blocker.title)}".rstrip()
    for criterion in milestone.criteria:
        yield from (f"  {line}" for line in marked(*mark_of_check(criterion.met), criterion.text))
    for deliverable in milestone.deliverables:
        yield from (f"  {line}" for line in marked(*mark_of_check(deliverable.present), deliverable.text))


def _due(target: date | datetime | None, today: date, *, over: bool) -> Cell:
    cell = due(target, today, over=over)
    return Cell(f"{cell.text} (overdue)", cell.tone) if cell.tone is Tone.BAD else cell


def _dates(record: Issue | Todo | Plan | Dependency) -> str:
    dates = {"created": record.created, "updated": record.updated}
    return ", ".join(f"{name} {day.isoformat()[:10]}" for name, day in dates.items() if day)


def _severity(issue: Issue) -> Cell:
    return Cell(f"severity {issue.severity}", tone_of(issue.severity)) if issue.severity else Cell("")


def _hours(todo: Todo) -> Iterator[str]:
    if todo.estimated_hours is not None:
        yield f"{format_hours(todo.estimated_hours)} estimated"
    if todo.actual_hours is not None:
        yield f"{format_hours(todo.actual_hours)} taken"


def _action(action: Action | None) -> str:
    match action:
        case ShellAction():
            return _command(action.run)
        case PythonAction():
            return f"python {action.call}"
        case QaAction():
            return ": ".join(
                filter(None, ("check", action.check, _command(action.run) if action.run else ""))
            )
        case RewriteAction():
            return f"rewrite {action.lang}: {action.pattern} → {action.rewrite}"
        case AgentAction() if action.prompt:
            return f"an agent: {action.prompt}"
        case None | AgentAction():
            return "an agent, with this page as prompt"
        case NoopAction():
            return "nothing"
        case LandAction():
            return f"lands {action.change_set}"
        case RevertAction():
            return f"reverts {action.change_set}"
        case _:
            return "by hand; then: coord todo complete"


def _gate(gate: Gate | None) -> str:
    if gate is None:
        return ""
    effect = effect_of_timeout(gate)
    return "waits for an approval" + (f", {effect}" if effect else "")


def _cache(cache: Cache | None) -> str:
    if cache is None:
        return ""
    period = f", of the last {format_hours(cache.ttl.total_seconds() / 3600)}" if cache.ttl else ""
    inputs = f": {' '.join(cache.inputs)}" if cache.inputs else ""
    return f"reuses an earlier result{period} if nothing has changed{inputs}"


def _command(command: str | tuple[str, ...]) -> str:
    return command if isinstance(command, str) else " ".join(command)


def _at_most(plan: Plan) -> str:
    return f", {plan.max_parallel} at once" if plan.max_parallel else ""


def print_issue(view: IssueView) -> None:
    print_page(*issue_page(view, date.today()))


def print_todo(view: TodoRecordView) -> None:
    print_page(*todo_page(view))


def print_plan(view: PlanRecordView) -> None:
    standing = this_call().coord.plan.validate(view.record.id)
    print_page(*plan_page(view, standing.milestones, date.today()))
    if view.todos:
        click.echo()
        print_todos(view.todos)


def print_dependency(view: DependencyView) -> None:
    print_page(*dependency_page(view.record))


def _at_present(todo: Todo, live: LiveTodo | None) -> Iterator[str]:
    """Yield `running for 4 min, attempt 2, on w@host: run …`; nothing if no run has the todo."""
    if live is None:
        return
    parts = [toned(live.state, tone_of(live.state)) + _for_how_long(live)]
    if live.attempt > 1:
        parts.append(f"attempt {live.attempt}")
    if live.worker:
        parts.append(f"on {live.worker}")
    yield styled("in a run", "bold")
    yield f"  {', '.join(parts)}: run {live.run_id}, {live.run_status}"
    if why := live.error if live.state.ended else live.waits_for:
        yield f"  {plain(with_local_times(why.partition(chr(10))[0]))}"
    yield f"  log: coord logs {live.run_id} {todo.id}"
    if live.state == "succeeded" and live.run_status.ended and todo.status in OPEN_TODO:
        yield f"  not in the file yet: coord run sync {live.run_id}"


def _for_how_long(live: LiveTodo) -> str:
    duration = for_how_long(live.since)
    return f"{duration.removeprefix(' for')} ago" if duration and live.state.ended else duration
