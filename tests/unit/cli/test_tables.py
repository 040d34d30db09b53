"""Tables: as wide as the terminal, whole in a pipe, aligned whatever is written in them."""

from __future__ import annotations

import click
import pytest
from rich.cells import cell_len

from coordination.cli.screen.tables import COLOURS, drawn, plain, wrapped
from coordination.declared import Cell, Column
from coordination.states import Tone

ID, STATUS = Column("TODO"), Column("STATUS")
LABELS, TASK = Column("LABELS", flexible=True), Column("TASK", flexible=True)
WHY = Column("WHY", flexible=True, folds=True)
LONG = "Raise the floor of every repository that still says 3.9, and tell whoever uses it"


def lines(
    columns: list[Column], rows: list[tuple[object, ...]], width: int | None, *, colour: bool = False
) -> list[str]:
    return list(drawn(columns, rows, width, colour=colour))


def test_a_pipe_gets_one_whole_line_for_each_row() -> None:
    table = lines(
        [ID, STATUS, TASK],
        [("T-1", "pending", LONG), ("TODO-22", "blocked", "short\nwith a second line")],
        None,
    )

    assert table == [
        "TODO     STATUS   TASK",
        f"T-1      pending  {LONG}",
        "TODO-22  blocked  short with a second line",
    ]


@pytest.mark.parametrize("width", [34, 40, 80])
@pytest.mark.parametrize("last", [TASK, WHY])
def test_no_line_is_wider_than_the_terminal(width: int, last: Column) -> None:
    rows = [("TODO-00001", "in_progress", LONG), ("T", "pending", "日本語" * 30)]

    assert max(map(cell_len, lines([ID, STATUS, last], rows, width))) <= width


def test_what_gives_way_is_cut_or_folded_and_the_rest_stays_whole() -> None:
    cut = lines([ID, LABELS, TASK], [("TODO-00001", "core,api,web,later", LONG)], 50)
    folded = lines([ID, WHY], [("TODO-00001", LONG)], 30)

    assert len(cut) == 2
    assert cut[1].startswith("TODO-00001  core,api,web,later  Raise")
    assert cut[1].endswith("…")
    assert " ".join(line[12:] for line in folded[1:]) == LONG
    assert all(line.startswith((" " * 12, "TODO")) for line in folded)


def test_a_row_that_is_too_wide_becomes_a_block() -> None:
    rows = [("TODO-00001", "in_progress", LONG), ("TODO-2", "", "short")]

    table = lines([ID, STATUS, TASK], rows, 30)

    assert table[:3] == ["TODO    TODO-00001", "STATUS  in_progress", "TASK    Raise the floor of"]
    assert table[-3:] == ["", "TODO    TODO-2", "TASK    short"]
    assert max(map(cell_len, table)) <= 30


def test_columns_leave_by_rank_before_words_break() -> None:
    target = Column("TARGET", leaves=1)
    kind = Column("KIND", leaves=2)
    rows = [("TODO-00001", "maintenance", "2026-03-31", LONG)]

    def heads(width: int) -> list[str]:
        return lines([ID, kind, target, TASK], rows, width)[0].split()

    assert heads(80) == ["TODO", "KIND", "TARGET", "TASK"]
    assert heads(60) == ["TODO", "TARGET", "TASK"]
    assert heads(40) == heads(30) == ["TODO", "TASK"]


@pytest.mark.parametrize("width", [80, 100, 120, 200])
def test_names_of_60_characters_fit_or_fold(width: int) -> None:
    name = "a-repository-with-a-name-of-sixty-characters-as-some-have-it"
    rows = [("TODO-00001", name, "in_progress", LONG), ("TODO-2", "b", "pending", "short")]

    table = lines([ID, Column("REPO"), STATUS, TASK], rows, width)

    start, end = table[0].index("REPO"), table[0].index("STATUS")
    assert max(map(cell_len, table)) <= width
    assert "".join(line[start:end].strip() for line in table[1:-1]) == name


def test_columns_stand_below_each_other_whatever_is_written_in_them() -> None:
    rows = [(text, "x") for text in ("abc", "日本", "café", "cafe\u0301", "👩\u200d🚀", "🇩🇪")]

    table = lines([TASK, STATUS], rows, None)

    assert len({cell_len(line) for line in table[1:]}) == 1


def test_each_tone_has_a_colour() -> None:
    assert set(COLOURS) == set(Tone)


def test_colours_change_nothing_but_colours() -> None:
    rows = [("T-1", Cell("failed", Tone.BAD), LONG), ("T-2", Cell("", Tone.GOOD), "日本")]
    uncoloured = lines([ID, STATUS, TASK], rows, 40)

    coloured = lines([ID, STATUS, TASK], rows, 40, colour=True)

    assert "\x1b[31mfailed\x1b[0m" in coloured[1]
    assert [click.unstyle(line) for line in coloured] == uncoloured


def test_text_from_the_file_cannot_draw_on_the_terminal() -> None:
    assert plain("a\x1b[2Jb\x07\r\nc\u202ed") == "a [2Jb c d"


def test_a_word_longer_than_the_line_is_broken() -> None:
    assert wrapped("ab abcdefghij c", 4) == ["ab", "abcd", "efgh", "ij c"]
    assert wrapped("", 4) == [""]
