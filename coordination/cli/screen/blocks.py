"""Parts of a page: head, facts, folded text, sections; the style of each state."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime
from functools import cache

import click

from coordination.cli.screen.pager import paged
from coordination.cli.screen.tables import Cell, Column, Row, drawn, length, plain, styled, wrapped

STYLES: Mapping[str, str] = {
    "in_progress": "cyan",
    "active": "cyan",
    "running": "cyan",
    "dispatched": "cyan",
    "parked": "yellow",
    "retrying": "yellow",
    "rolling_back": "yellow",
    "compensating": "yellow",
    "compensated": "yellow",
    "rolled_back": "yellow",
    "rollback_failed": "red bold",
    "compensation_failed": "red bold",
    "blocked": "red",
    "unsatisfied": "red",
    "failed": "red",
    "critical": "red bold",
    "high": "yellow",
    "on_hold": "yellow",
    "unknown": "yellow",
    "deprecated": "yellow",
    "resolved": "green",
    "closed": "green",
    "completed": "green",
    "satisfied": "green",
    "succeeded": "green",
    "low": "dim",
    "draft": "dim",
    "cancelled": "dim",
}
"""Statuses, priorities and states in a run; others have no style."""


@cache
def status_cell(word: str | None) -> Cell:
    """Return the cell of a status, priority or severity."""
    return Cell(str(word or ""), STYLES.get(word or "", ""))


def due(target: date | datetime | None, today: date, *, over: bool) -> Cell:
    """Return the cell of a day, red where it has passed and the work is not `over`."""
    if target is None:
        return Cell("")
    day = target.date() if isinstance(target, datetime) else target
    return Cell(day.isoformat(), "red" if day < today and not over else "")


READABLE = 100
"""Largest width of text, whatever the width of the terminal."""

Lines = Iterable[str]
Facts = Iterable[tuple[str, Cell | str]]


def print_page(*parts: Lines) -> None:
    """Print the parts that are not empty, with a blank line between them."""
    said = ["\n".join(lines) for part in parts if (lines := list(part))]
    with paged():
        click.echo("\n\n".join(said))


def head(name: str, title: str, *states: Cell) -> Lines:
    first, *rest = wrapped(plain(title), max(page_width() - length(name) - 2, READABLE // 4))
    yield f"{styled(name, 'bold')}  {first}".rstrip()
    yield from (f"{' ' * length(name)}  {line}" for line in rest)
    if words := [styled(plain(state.text), state.style) for state in states if state.text]:
        yield " · ".join(words)


def facts(given: Facts) -> Lines:
    cells = [(name, fact if isinstance(fact, Cell) else Cell(fact)) for name, fact in given]
    shown = [(plain(name), cell) for name, cell in cells if cell.text]
    widest = max((length(name) for name, _ in shown), default=0)
    for name, cell in shown:
        first, *rest = _folded(str(cell.text), max(page_width() - widest - 2, READABLE // 4)) or [""]
        yield f"{styled(name, 'dim')}{' ' * (widest - length(name))}  {styled(first, cell.style)}"
        yield from (" " * (widest + 2) + styled(line, cell.style) for line in rest)


def text(said: str) -> Lines:
    return _folded(said, page_width())


def _folded(said: str, width: int) -> list[str]:
    """Fold long lines. Lines keep their indentation: they may be a script."""
    folded: list[str] = []
    for line in said.strip("\r\n").rstrip().splitlines():
        bare = line.expandtabs(4).lstrip()
        indent = " " * min(len(line.expandtabs(4)) - len(bare), width // 2)
        folded += [(indent + part).rstrip() for part in wrapped(plain(bare), width - len(indent))]
    return folded


def section(heading: str, lines: Iterable[str]) -> Lines:
    inside = list(lines)
    return [styled(heading, "bold"), *(f"  {line}" for line in inside)] if inside else []


def bullets(heading: str, items: Iterable[str]) -> Lines:
    return section(heading, [line for item in items for line in marked("·", "", item)])


def marked(mark: str, style: str, said: str) -> Lines:
    first, *rest = wrapped(plain(said), page_width() - 4)
    return [f"{styled(mark, style)} {first}", *(f"  {line}" for line in rest)]


def rows(table: Sequence[Row]) -> list[str]:
    """Return rows without a heading; the last column gives way."""
    if not table:
        return []
    columns = [Column(name="") for _ in table[0][:-1]] + [Column(name="", flexible=True)]
    _, *lines = drawn(columns, table, terminal_width(less=2), colour=True)
    return lines


def terminal_width(less: int = 0) -> int | None:
    return shutil.get_terminal_size().columns - less if sys.stdout.isatty() else None


def page_width() -> int:
    return min(terminal_width() or READABLE, READABLE)
