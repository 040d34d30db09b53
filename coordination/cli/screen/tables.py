"""Tables that fit the terminal, and whole lines in a pipe; parts of a page: head, facts, folded text; the
colour of each tone.

Rich takes 2.4 s for 10,000 rows; only its widths of characters are used.
"""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime
from enum import StrEnum
from functools import cache
from typing import Any

import click
from rich.cells import cell_len, chop_cells, set_cell_size

from coordination.cli.screen.pager import length, paged
from coordination.declared import Cell, Column
from coordination.states import Tone, tone_of
from coordination.terminal import CONTROLS
from coordination.text import listed

GAP = "  "
LEAST = 8
"""Least width of a flexible column."""
NARROWEST = 24
"""Width that a flexible column keeps as long as another column may leave."""
LONG_WORD = 21
"""Letters of a word that may be broken, such as a path; shorter ones, such as the id of a run, stay whole."""
_WIDE = "coord.wide"
"""The key in the data of a click context that says if the call has `--wide`."""
_UNSEEN = re.compile(f"[{CONTROLS}\t\n]+")
"""Characters that move the cursor or turn the direction: text from a file must not draw on the terminal."""


Row = Sequence[object]


def print_table(columns: Sequence[str | Column], rows: Iterable[Row]) -> None:
    """Print a table with headings in capitals. A last column that is given by its name is flexible and folds.
    A cell is a Cell or its text. Wide columns need `--wide`.
    """
    context = click.get_current_context(silent=True)
    wide = context is not None and context.meta.get(_WIDE, False)
    named = _columns(columns)
    shown = [i for i, column in enumerate(named) if wide or not column.wide]
    cells = [[row[i] for i in shown] for row in rows] if len(shown) < len(named) else list(rows)
    terminal = sys.stdout.isatty()
    width = shutil.get_terminal_size().columns if terminal else None
    lines = drawn([named[i] for i in shown], cells, width, colour=colourful())
    click.echo("".join(f"{line}\n" for line in lines), nl=False)


def print_records(columns: Sequence[Column], records: Iterable[object]) -> None:
    """Print records in a table without empty columns."""
    print_table(*filled(columns, [[_cell(column.value(one)) for column in columns] for one in records]))


def _cell(value: object) -> object:
    if isinstance(value, datetime):
        from coordination.cli.times import format_time  # zones, which help does not need

        return format_time(value)
    if isinstance(value, StrEnum):
        return status_cell(value)
    return str(value) if isinstance(value, int) else value  # 0 is no empty cell


def wide_option(columns: Iterable[Column]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return the option that shows the wide ones of these columns, too; `print_table` obeys it."""
    names = listed([column.name.capitalize() for column in columns if column.wide])

    def remember(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
        ctx.meta[_WIDE] = wanted

    return click.option(
        "--wide",
        is_flag=True,
        expose_value=False,
        callback=remember,
        help=f"Show also: {names.lower()}.",
    )


def print_none(text: str, next_step: str) -> None:
    """Print, in place of an empty table, why it is empty and the next command, on standard error."""
    click.echo(f"{text}; {next_step}", err=True)


def colourful() -> bool:
    """Return whether standard output gets colours; click has read `NO_COLOR` and the like."""
    context = click.get_current_context(silent=True)
    wanted = context.color if context else None
    return sys.stdout.isatty() if wanted is None else wanted


def filled(columns: Sequence[Column], rows: Sequence[Row]) -> tuple[list[Column], list[Row]]:
    """Return columns and rows without empty columns; the first column stays."""
    kept = [i for i in range(len(columns)) if i == 0 or any(_has_text(row[i]) for row in rows)]
    return [columns[i] for i in kept], [[row[i] for i in kept] for row in rows]


def drawn(
    columns: Sequence[Column], rows: Sequence[Row], width: int | None, *, colour: bool
) -> Iterator[str]:
    """Return the lines. `width` None: lines have their full length."""
    texts = [[_text(row[i]) for row in rows] for i in range(len(columns))]
    widths = [max(map(length, [column.name, *cells])) for column, cells in zip(columns, texts, strict=True)]
    if width is None and not colour:
        return _padded(columns, texts, widths)
    if width is None:
        return _coloured(columns, rows, texts, widths, colour=colour)
    kept = list(range(len(columns)))
    while (fitted := _fitted([columns[i] for i in kept], [texts[i] for i in kept], width)) is None:
        if (leaves := _leaves(columns, kept)) is None:
            return _blocks(columns, rows, texts, width, colour=colour)
        kept.remove(leaves)
    some = [[row[i] for i in kept] for row in rows]
    return _coloured([columns[i] for i in kept], some, [texts[i] for i in kept], fitted, colour=colour)


def _padded(
    columns: Sequence[Column], texts: Sequence[Sequence[str]], widths: Sequence[int]
) -> Iterator[str]:
    """Pad column by column: a pipe gets 10,000 rows in 15 ms, ten times as fast as row by row."""
    padded = [
        [_pad(cell, width) for cell in (column.name, *cells)]
        for column, cells, width in zip(columns, texts, widths, strict=True)
    ]
    return map(str.rstrip, map(GAP.join, zip(*padded, strict=True)))


def _coloured(
    columns: Sequence[Column],
    rows: Sequence[Row],
    texts: Sequence[Sequence[str]],
    widths: Sequence[int],
    *,
    colour: bool,
) -> Iterator[str]:
    yield _line([column.name for column in columns], widths, ["bold" if colour else ""] * len(columns))
    unstyled = [""] * len(columns)
    for row, cells in zip(rows, zip(*texts, strict=True), strict=True):
        styles = [COLOURS[_tone(cell)] for cell in row] if colour else unstyled
        for part in _parts(columns, cells, widths):
            yield _line(part, widths, styles)


def _tone(cell: object) -> Tone:
    return cell.tone if isinstance(cell, Cell) else Tone.NEUTRAL


def _has_text(cell: object) -> bool:
    return bool(cell.text if type(cell) is Cell else cell)


def _text(cell: object) -> str:
    value = cell.text if type(cell) is Cell else cell
    return value if type(value) is str and value.isprintable() else plain(value)


def plain(value: object) -> str:
    """Return the value on one line, without control characters."""
    text = "" if value is None else str(value)
    return text if text.isprintable() else " ".join(_UNSEEN.sub(" ", text).split())


def wrapped(text: str, width: int) -> list[str]:
    """Wrap at blanks where there are some; return at least one line."""
    lines, line = [], ""
    for word in text.split(" "):
        joined = f"{line} {word}" if line else word
        if length(joined) <= width:
            line = joined
            continue
        if line:
            lines.append(line)
        *full, line = chop_cells(word, width) or [""]
        lines += full
    return [*lines, line]


def _columns(columns: Sequence[str | Column]) -> list[Column]:
    *first, last = columns
    made = [Column(column.upper()) if isinstance(column, str) else column for column in first]
    return [*made, Column(last.upper(), flexible=True, folds=True) if isinstance(last, str) else last]


def _fitted(columns: Sequence[Column], texts: Sequence[Sequence[str]], width: int) -> list[int] | None:
    """Return the widths after shrinking the widest columns as far as their words allow: the flexible ones,
    then, where no column may leave, the others, which fold. None if that is too wide.
    """
    fitted = [max(map(length, [column.name, *cells])) for column, cells in zip(columns, texts, strict=True)]
    least = [_least(column, cells) for column, cells in zip(columns, texts, strict=True)]
    may_leave = any(column.leaves for column in columns)
    excess = sum(fitted) + len(GAP) * (len(fitted) - 1) - width
    for flexible in (True, False):
        if flexible or not may_leave:
            these = (i for i, column in enumerate(columns) if column.flexible is flexible)
            floor = NARROWEST if may_leave else 0
            excess = _shrink(fitted, {i: min(max(least[i], floor), fitted[i]) for i in these}, excess)
    return fitted if excess <= 0 else None


def _leaves(columns: Sequence[Column], kept: Sequence[int]) -> int | None:
    """Return the column that leaves next; None if all stay."""
    some = [i for i in kept if columns[i].leaves]
    return max(some, key=lambda i: columns[i].leaves, default=None)


def _blocks(
    columns: Sequence[Column],
    rows: Sequence[Row],
    texts: Sequence[Sequence[str]],
    width: int,
    *,
    colour: bool,
) -> Iterator[str]:
    """Yield a block of lines for each row, a column below the other: a row is too wide for the terminal."""
    names = max(length(column.name) for column in columns)
    room = max(LONG_WORD, width - names - len(GAP))
    for number, (row, cells) in enumerate(zip(rows, zip(*texts, strict=True), strict=True)):
        if number:
            yield ""
        for column, cell, text in zip(columns, row, cells, strict=True):
            style = COLOURS[_tone(cell)] if colour else ""
            for i, part in enumerate(wrapped(text, room) if text else ()):
                heading = "" if i else column.name
                yield _line([heading, part], [names, room], ["bold" if colour else "", style])


def _least(column: Column, cells: Iterable[str]) -> int:
    """Return the least width in which no word has to be broken that is not long."""
    whole = (length(word) for cell in cells for word in cell.split(" "))
    mark = 0 if column.folds else 1
    return max(LEAST, length(column.name), *(size + mark for size in whole if size < LONG_WORD))


def _shrink(widths: list[int], least: Mapping[int, int], excess: int) -> int:
    """Take the excess from the widest columns, which keep their least width; return the rest of it."""
    while excess > 0:
        shrinkable = [i for i, size in least.items() if widths[i] > size]
        if not shrinkable:
            break
        widest = max(shrinkable, key=lambda i: widths[i])
        next_widest = max((widths[i] for i in shrinkable if widths[i] < widths[widest]), default=0)
        taken = min(excess, widths[widest] - max(least[widest], next_widest))
        widths[widest] -= taken
        excess -= taken
    return excess


def _parts(columns: Sequence[Column], cells: Sequence[str], widths: Sequence[int]) -> Iterator[list[str]]:
    """Yield the lines of a row: several where a cell folds."""
    folded = [
        [cut(cell, width)] if column.flexible and not column.folds else wrapped(cell, width)
        for column, cell, width in zip(columns, cells, widths, strict=True)
    ]
    for i in range(max(map(len, folded))):
        yield [lines[i] if i < len(lines) else "" for lines in folded]


def cut(text: str, width: int) -> str:
    """Return a text that fits, with `…` in place of the rest; only a long word is broken."""
    if length(text) <= width:
        return text
    kept = set_cell_size(text, width - 1)
    whole, _, broken = kept.rpartition(" ")
    rest = text[len(kept) :].partition(" ")[0]
    is_short = broken and rest and length(broken + rest) < LONG_WORD
    return (whole if whole.strip() and is_short else kept).rstrip() + "…"


def _line(cells: Sequence[str], widths: Sequence[int], styles: Sequence[str]) -> str:
    """Return a line; cells are coloured after they are measured."""
    return GAP.join(
        styled(cell, style) + " " * (width - length(cell))
        for cell, width, style in zip(cells, widths, styles, strict=True)
    ).rstrip()


def _pad(text: str, width: int) -> str:
    return text.ljust(width) if text.isascii() else text + " " * (width - cell_len(text))


def styled(text: str, style: str) -> str:
    if not style or not text:
        return text
    styles = style.split()
    colour = next((word for word in styles if word not in ("bold", "dim")), None)
    return click.style(text, fg=colour, bold="bold" in styles or None, dim="dim" in styles or None)


COLOURS: Mapping[Tone, str] = {
    Tone.NEUTRAL: "",
    Tone.ACTIVE: "cyan",
    Tone.GOOD: "green",
    Tone.GIVEN: "green",
    Tone.BAD: "red",
    Tone.HELD: "yellow",
    Tone.BACK: "yellow",
    Tone.LEFT: "dim",
}


def toned(text: str, tone: Tone) -> str:
    return styled(text, COLOURS[tone])


@cache
def status_cell(word: str | None) -> Cell:
    """Return the cell of a status, priority or severity."""
    return Cell(str(word or ""), tone_of(word))


def due(target: date | datetime | None, today: date, *, over: bool) -> Cell:
    """Return the cell of a day; it is red if the day has passed and the work is not `over`."""
    if target is None:
        return Cell("")
    day = target.date() if isinstance(target, datetime) else target
    return Cell(day.isoformat(), Tone.BAD if day < today and not over else Tone.NEUTRAL)


READABLE = 100
"""Largest width of text, whatever the width of the terminal."""

Lines = Iterable[str]
Facts = Iterable[tuple[str, Cell | str]]


def page(*parts: Lines) -> str:
    """Return the parts that are not empty, with a blank line between them."""
    return "\n\n".join("\n".join(lines) for part in parts if (lines := list(part)))


def print_page(*parts: Lines) -> None:
    text = page(*parts)
    with paged():
        click.echo(text)


def head(name: str, title: str, *states: Cell) -> Lines:
    first, *rest = wrapped(plain(title), max(page_width() - length(name) - 2, READABLE // 4))
    yield f"{styled(name, 'bold')}  {first}".rstrip()
    yield from (f"{' ' * length(name)}  {line}" for line in rest)
    if words := [toned(plain(state.text), state.tone) for state in states if state.text]:
        yield " · ".join(words)


def facts(pairs: Facts) -> Lines:
    cells = [(name, fact if isinstance(fact, Cell) else Cell(fact)) for name, fact in pairs]
    shown = [(plain(name), cell) for name, cell in cells if cell.text]
    widest = max((length(name) for name, _ in shown), default=0)
    for name, cell in shown:
        first, *rest = _folded(str(cell.text), max(page_width() - widest - 2, READABLE // 4)) or [""]
        yield f"{styled(name, 'dim')}{' ' * (widest - length(name))}  {toned(first, cell.tone)}"
        yield from (" " * (widest + 2) + toned(line, cell.tone) for line in rest)


def text(content: str) -> Lines:
    return _folded(content, page_width())


def _folded(content: str, width: int) -> list[str]:
    """Fold long lines. Lines keep their indentation: they may be a script."""
    folded: list[str] = []
    for line in content.strip("\r\n").rstrip().splitlines():
        bare = line.expandtabs(4).lstrip()
        indent = " " * min(len(line.expandtabs(4)) - len(bare), width // 2)
        folded += [(indent + part).rstrip() for part in wrapped(plain(bare), width - len(indent))]
    return folded


def section(heading: str, lines: Iterable[str]) -> Lines:
    inside = list(lines)
    return [styled(heading, "bold"), *(f"  {line}" for line in inside)] if inside else []


def bullets(heading: str, items: Iterable[str]) -> Lines:
    return section(heading, [line for item in items for line in marked("·", Tone.NEUTRAL, item)])


def marked(mark: str, tone: Tone, content: str) -> Lines:
    first, *rest = wrapped(plain(content), page_width() - 4)
    return [f"{toned(mark, tone)} {first}", *(f"  {line}" for line in rest)]


def rows(table: Sequence[Row], *, folds: bool = False) -> list[str]:
    """Return the lines of a table without a heading; the last column is cut to the width, or `folds`."""
    if not table:
        return []
    columns = [Column("") for _ in table[0][:-1]] + [Column("", flexible=True, folds=folds)]
    _, *lines = drawn(columns, table, terminal_width(less=2), colour=True)
    return lines


def terminal_width(less: int = 0) -> int | None:
    return shutil.get_terminal_size().columns - less if sys.stdout.isatty() else None


def page_width() -> int:
    return min(terminal_width() or READABLE, READABLE)
