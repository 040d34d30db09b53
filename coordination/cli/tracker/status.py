"""Pages on the state of a repository and of everything."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from coordination.api.records import EcosystemView, RepoView
from coordination.cli.context import CliContext, this_call
from coordination.cli.screen.output import Form, output_options
from coordination.cli.screen.tables import (
    Lines,
    drawn,
    facts,
    filled,
    head,
    plain,
    print_none,
    print_page,
    rows,
    section,
    status_cell,
    terminal_width,
)
from coordination.cli.times import format_time, with_local_times
from coordination.cli.tracker.lists import state_in_run
from coordination.declared import Cell, Column
from coordination.models import Dependency, Issue, Todo
from coordination.states import Tone, tone_of
from coordination.text import counted

if TYPE_CHECKING:
    from coordination.api import (
        Asked,
        BlockedTodo,
        BlockingIssue,
        Breaker,
        Overdue,
        RepoLine,
        Reset,
        TodoInView,
        ToLand,
    )

SHOWN = 10
"""Todos shown of a long list; `coord todo list` has the rest."""
RESETS_SHOWN = 5
"""Latest circuit breakers that were closed by hand."""


def repo_overview(view: RepoView, messages: int) -> Iterator[Lines]:
    """Yield the parts of a page. `messages`: number of waiting messages."""
    status = view.status
    yield head(status.repo.name, status.repo.role or "")
    yield facts(
        [
            ("path", _path(view)),
            ("branch", status.repo.branch),
            ("tags", ", ".join(status.repo.tags)),
            *((kind, _counts(counts)) for kind, counts in status.counts.items()),
            ("breaker", breaker_line(view.breaker) if view.breaker else ""),
            ("messages", f"{messages}: coord message list {status.repo.name}" if messages else ""),
        ]
    )
    yield section("in progress", _in_progress(status.in_progress, with_repo=False))
    yield section("ready", _todos(status.ready, with_repo=False))
    yield section("blocked", _blocked(status.blocked, with_repo=False))
    yield section(
        "open issues",
        rows([(i.id, status_cell(i.status), status_cell(i.priority), i.title) for i in status.issues]),
    )
    yield section("plans", rows([(p.id, status_cell(p.status), p.title) for p in status.plans]))
    yield section("needs", rows([_dependency(d, d.provider) for d in status.needs]))
    yield section("is needed by", rows([_dependency(d, d.consumer) for d in status.needed_by]))


def _path(view: RepoView) -> Cell:
    status = view.status
    if status.present:
        return Cell(status.path)
    return Cell(f"{status.path} is not there" if status.path else "no path is declared", Tone.BAD)


def blocking_overview(issues: Sequence[BlockingIssue]) -> Iterator[Lines]:
    for found in issues:
        issue = found.issue
        yield [
            *head(issue.id, issue.title, status_cell(issue.status), status_cell(issue.priority)),
            *section(
                "blocks",
                rows(
                    [
                        (h.work.id, status_cell(h.work.status), _through(h.chain), h.work.title)
                        for h in found.holds_up
                    ]
                ),
            ),
        ]


def ecosystem_overview(view: EcosystemView, asked: Sequence[Asked] = ()) -> Iterator[Lines]:
    """Yield the parts of a page. `asked`: todos that wait for a person."""
    status = view.status
    yield section(
        "waiting for approval", rows([(one.todo, one.waits_for, f"run {one.run_id}") for one in asked])
    )
    yield section("landing now", [_landing(one) for one in view.to_land if one.run])
    yield section(
        "ready to land",
        rows(
            [
                (one.plan, counted(len(one.repos), "repository"), f"coord land {one.plan}")
                for one in view.to_land
                if not one.run
            ]
        ),
    )
    yield facts((kind, _counts(counts)) for kind, counts in status.counts.items())
    yield _repos(status.repos)
    yield section("overdue", rows([_overdue(late) for late in status.overdue]))
    yield section(
        "blocks most",
        rows(
            [
                (h.work.id, status_cell(h.work.status), f"{h.holds_up} wait for it", h.work.title)
                for h in status.most_blocking
            ]
        ),
    )
    yield section("in progress", _in_progress(status.in_progress))
    yield section("ready", _todos(status.ready))
    yield section("blocked", _blocked(status.blocked))


def _landing(one: ToLand) -> str:
    waits = f", waits for {with_local_times(one.waits_for)}" if one.waits_for else ""
    return plain(f"{one.plan}  {counted(len(one.repos), 'repository')} left in run {one.run}{waits}")


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{number} {status}" for status, number in counts.items()) or "none"


def _todos(todos: Sequence[Todo], *, with_repo: bool = True) -> list[str]:
    lines = rows([(t.id, status_cell(t.priority), *_repo(t, with_repo), t.task) for t in todos[:SHOWN]])
    return _and_more(lines, len(todos))


def _in_progress(todos: Sequence[TodoInView], *, with_repo: bool = True) -> list[str]:
    lines = rows(
        [
            (t.id, status_cell(t.priority), *_repo(t, with_repo), _in_run(t), t.worker or "", t.task)
            for t in todos[:SHOWN]
        ]
    )
    return _and_more(lines, len(todos), "coord todo list --status in_progress")


def _in_run(todo: TodoInView) -> str:
    """Return `running for 4 min in run …`, and the wait reason of a todo that waits there."""
    if todo.run_id is None:
        return "by hand"
    waits = f": {with_local_times(todo.run_waits_for)}" if todo.run_waits_for else ""
    return f"{state_in_run(todo)} in run {todo.run_id}{waits}"


def _blocked(found: Sequence[BlockedTodo], *, with_repo: bool = True) -> list[str]:
    lines = rows(
        [
            (b.todo.id, status_cell(b.todo.priority), *_repo(b.todo, with_repo), _waits(b), b.todo.task)
            for b in found[:SHOWN]
        ]
    )
    return _and_more(lines, len(found))


def _repo(todo: Todo, wanted: bool) -> Iterable[str]:
    return (todo.repo,) if wanted else ()


def _waits(blocked: BlockedTodo) -> str:
    by = [blocker.id for blocker in blocked.by]
    if not by and blocked.run_id:
        return f"waits in run {blocked.run_id}"
    more = f" and {len(by) - 2} more" if len(by) > 2 else ""
    return f"waits for {', '.join(by[:2])}{more}" if by else "set to blocked by hand"


def _and_more(lines: list[str], number: int, command: str = "coord todo list") -> list[str]:
    return [*lines, f"and {number - SHOWN} more: {command}"] if number > SHOWN else lines


def _dependency(dependency: Dependency, other: str) -> tuple[object, ...]:
    return (
        dependency.id,
        status_cell(dependency.status),
        other,
        dependency.version_constraint or "",
        dependency.type,
    )


def _through(chain: Sequence[str]) -> str:
    between = chain[1:-1]
    return f"through {', '.join(between)}" if between else ""


def _overdue(late: Overdue) -> tuple[object, ...]:
    kind = f"{late.kind} of {late.plan}" if late.plan else late.kind
    return late.id, kind, Cell(f"{late.due} ({counted(late.days, 'day')})", Tone.BAD), late.title


def _repos(lines: Sequence[RepoLine]) -> Lines:
    names = ("REPOSITORY", "", "ISSUES", "IN PROGRESS", "READY", "BLOCKED", "DONE", "UNSATISFIED")
    table = [
        (
            line.name,
            Cell("" if line.present else "not here", Tone.HELD),
            line.open_issues or "",
            Cell(line.in_progress or "", tone_of("in_progress")),
            line.ready or "",
            Cell(line.blocked or "", tone_of("blocked")),
            Cell(line.done or "", tone_of("completed")),
            Cell(line.unsatisfied or "", tone_of("unsatisfied")),
        )
        for line in lines
    ]
    if not table:
        return []
    return drawn(*filled([Column(name) for name in names], table), terminal_width(), colour=True)


class BlockingLine(Issue):
    """A line of `blocking --format`: an issue with the ids of the work behind it."""

    holds_up: tuple[str, ...] = ()


def print_status(view: RepoView | EcosystemView) -> None:
    live = this_call().coord.live
    if isinstance(view, RepoView):
        print_page(*repo_overview(view, live.messages_for(view.status.repo.name)))
        return
    resets = live.breaker_resets(RESETS_SHOWN)
    page = ecosystem_overview(view, live.asking())
    print_page(breakers_section(view.breakers), *page, resets_section(resets))


def print_ecosystem(view: EcosystemView) -> None:
    tripped = [one for one in view.breakers if one.tripped]
    page = ecosystem_overview(view, this_call().coord.live.asking())
    print_page(breakers_summary(tripped), *page)


@output_options(BlockingLine)
def blocking(call: CliContext, values: Mapping[str, Any], *, form: Form) -> None:
    repo = values["repo"]
    found = call.coord.repo.blocking(repo)
    if not found and not form.wanted:
        print_none(f"no open issue blocks work in {repo}", f"see its state: coord status {repo}")
        return
    lines = [
        BlockingLine.model_construct(**dict(one.issue), holds_up=tuple(held.work.id for held in one.holds_up))
        for one in found
    ]
    form.records(lines, lambda: print_page(*blocking_overview(found)), data=found)


def breaker_line(breaker: Breaker) -> Cell:
    """Return `open after 5 failures in 300 s, last: TODO-3 exit code 7; probe at …`."""
    return Cell(f"{breaker.state} after {_reason(breaker)}", tone_of(f"breaker {breaker.state}"))


def breakers_section(breakers: Sequence[Breaker]) -> Lines:
    table = [
        (one.name, _state(one), f"{one.behind} behind it" if one.behind else "", _reason(one))
        for one in breakers
    ]
    hint = ["to close one now: coord breaker reset NAME"] if any(one.tripped for one in breakers) else []
    return section("circuit breakers", [*rows(table), *hint])


def breakers_summary(breakers: Sequence[Breaker]) -> Lines:
    hint = ["why: coord status"] if breakers else []
    return section(
        "circuit breakers", [*rows([(one.name, _state(one), _outlook(one)) for one in breakers]), *hint]
    )


def resets_section(resets: Sequence[Reset]) -> Lines:
    table = [(one.name, format_time(one.at), f"by {one.by}", f"it was {one.state}") for one in resets]
    return section("circuit breakers closed by hand", rows(table))


def _state(breaker: Breaker) -> Cell:
    return Cell(breaker.state, tone_of(f"breaker {breaker.state}"))


def _reason(breaker: Breaker) -> str:
    return f"{breaker.reason}; {_outlook(breaker)}" if breaker.outlook else breaker.reason


def _outlook(breaker: Breaker) -> str:
    return with_local_times(breaker.outlook)
