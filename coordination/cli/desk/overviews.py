"""What the desk says about a repository, or about everything, for reading."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from coordination.cli.desk.breakers import breaker_line
from coordination.cli.screen.blocks import Lines, facts, head, rows, section, terminal_width
from coordination.cli.screen.colours import told
from coordination.cli.screen.tables import Cell, Column, drawn, filled
from coordination.models import Dependency, Todo
from coordination.phrases import counted

if TYPE_CHECKING:
    from coordination.breakers.records import Breaker
    from coordination.runs.live import Asked
    from coordination.tracker.records import BlockedTodo, BlockingIssue, EcosystemStatus, Overdue, RepoLine, RepoStatus

SHOWN = 10
"""Of a long list of todos the most urgent: the rest is a `coord list-todos` away."""


def repo_overview(status: RepoStatus, messages: int, breaker: Breaker | None) -> Iterator[Lines]:
    """`messages`: how many wait for the repository; `breaker`: its own, unless that is at rest."""
    where = Cell(status.path or "no path is declared", "" if status.present else "red")
    yield head(status.repo.name, status.repo.role or "")
    yield facts(
        [
            ("path", where if status.present or not status.path else Cell(f"{status.path} is not there", "red")),
            ("branch", status.repo.branch),
            ("tags", ", ".join(status.repo.tags)),
            *((kind, _counts(counts)) for kind, counts in status.counts.items()),
            ("breaker", breaker_line(breaker) if breaker else ""),
            ("messages", f"{messages}: coord list-messages {status.repo.name}" if messages else ""),
        ]
    )
    yield section("in progress", _todos(status.in_progress, with_repo=False))
    yield section("ready", _todos(status.ready, with_repo=False))
    yield section("blocked", _blocked(status.blocked, with_repo=False))
    yield section("open issues", rows([(i.id, told(i.status), told(i.priority), i.title) for i in status.issues]))
    yield section("plans", rows([(p.id, told(p.status), p.title) for p in status.plans]))
    yield section("needs", rows([_dependency(d, d.provider) for d in status.needs]))
    yield section("is needed by", rows([_dependency(d, d.consumer) for d in status.needed_by]))


def blocking_overview(issues: Sequence[BlockingIssue]) -> Iterator[Lines]:
    for found in issues:
        issue = found.issue
        yield [
            *head(issue.id, issue.title, told(issue.status), told(issue.priority)),
            *section(
                "holds up",
                rows([(h.work.id, told(h.work.status), _by_way_of(h.chain), h.work.title) for h in found.holds_up]),
            ),
        ]


def ecosystem_overview(status: EcosystemStatus, asked: Sequence[Asked] = ()) -> Iterator[Lines]:
    """`asked`: what waits for a person in a run."""
    yield section("waits for a person", rows([(one.todo, one.waits_for, f"run {one.run_id}") for one in asked]))
    yield facts((kind, _counts(counts)) for kind, counts in status.counts.items())
    yield _repos(status.repos)
    yield section("overdue", rows([_overdue(late) for late in status.overdue]))
    yield section(
        "holds up most",
        rows([(h.work.id, told(h.work.status), f"{h.holds_up} behind it", h.work.title) for h in status.most_blocking]),
    )
    yield section("ready", _todos(status.ready))
    yield section("blocked", _blocked(status.blocked))


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{number} {status}" for status, number in counts.items()) or "none"


def _todos(todos: Sequence[Todo], *, with_repo: bool = True) -> list[str]:
    lines = rows([(t.id, told(t.priority), *_repo(t, with_repo), t.task) for t in todos[:SHOWN]])
    return _and_more(lines, len(todos))


def _blocked(found: Sequence[BlockedTodo], *, with_repo: bool = True) -> list[str]:
    lines = rows(
        [(b.todo.id, told(b.todo.priority), *_repo(b.todo, with_repo), _waits(b), b.todo.task) for b in found[:SHOWN]]
    )
    return _and_more(lines, len(found))


def _repo(todo: Todo, wanted: bool) -> Iterable[str]:
    return (todo.repo,) if wanted else ()


def _waits(blocked: BlockedTodo) -> str:
    by = [tie.id for tie in blocked.by]
    more = f" and {len(by) - 2} more" if len(by) > 2 else ""
    return f"waits for {', '.join(by[:2])}{more}" if by else "set to blocked by hand"


def _and_more(lines: list[str], number: int) -> list[str]:
    return [*lines, f"and {number - SHOWN} more: coord list-todos"] if number > SHOWN else lines


def _dependency(dependency: Dependency, other: str) -> tuple[object, ...]:
    return dependency.id, told(dependency.status), other, dependency.version_constraint or "", dependency.type


def _by_way_of(chain: Sequence[str]) -> str:
    between = chain[1:-1]
    return f"by way of {', '.join(between)}" if between else ""


def _overdue(late: Overdue) -> tuple[object, ...]:
    whose = f"{late.kind} of {late.plan}" if late.plan else late.kind
    return late.id, whose, Cell(f"{late.due} ({counted(late.days, 'day')})", "red"), late.title


def _repos(lines: Sequence[RepoLine]) -> Lines:
    names = ("REPOSITORY", "", "ISSUES", "IN PROGRESS", "READY", "BLOCKED", "DONE", "UNSATISFIED")
    table = [
        (
            line.name,
            Cell("" if line.present else "not here", "yellow"),
            line.open_issues or "",
            Cell(line.in_progress or "", "cyan"),
            line.ready or "",
            Cell(line.blocked or "", "red"),
            Cell(line.done or "", "green"),
            Cell(line.unsatisfied or "", "red"),
        )
        for line in lines
    ]
    if not table:
        return []
    return drawn(*filled([Column(name=name) for name in names], table), terminal_width(), colour=True)
