"""The log of a todo on a page: numbered lines, colours, errors, and parts that an open page adds."""

from __future__ import annotations

import html
import re
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordination.dashboard.logs import (
    FIRST_ERROR,
    LINE_SHOWN,
    LINES_ADDED,
    LINES_SHOWN,
    added,
    log_of,
    shown,
)


@dataclass(frozen=True)
class Piece:
    at: tuple[int, int]
    text: str
    attempt: int = 1


def pieces_of(texts: list[str]) -> list[Piece]:
    return [Piece((1000 + n, 0), text) for n, text in enumerate(texts)]


def lines(markup: str) -> list[tuple[int, str]]:
    found = re.findall(r'id="L(\d+)"><a [^>]*>\d+</a>(.*?)\n</span>', markup, re.S)
    return [(int(number), html.unescape(re.sub(r"<[^>]*>", "", text))) for number, text in found]


def test_a_colour_stays_on_over_lines_and_parts_and_ends_with_its_attempt():
    first, second = Piece((1, 0), "\x1b[31ma\nb\n"), Piece((2, 0), "c\n", attempt=2)
    log = log_of([first, second])

    one, other = shown(log, grows=False)
    rest = added(log, log.offset("1-0-2"), 2, grows=True)

    assert one.lines.count("ansi-31") == 2
    assert "ansi-31" not in other.lines
    assert rest.lines.count("ansi-31") == 1
    assert (other.attempt, other.first) == (2, 3)


@given(st.lists(st.text(alphabet="ab\n", max_size=6), min_size=1, max_size=12), st.data())
def test_a_page_that_follows_a_log_shows_each_line_once_even_if_redis_drops_pieces(
    texts: list[str], data: st.DataObject
):
    pieces = pieces_of(texts)
    seen, position, number = list[tuple[int, str]](), "", 1
    steps = sorted(data.draw(st.lists(st.integers(1, len(texts)), max_size=4)))
    for known in [*steps, len(texts)]:
        gone = data.draw(st.integers(0, known)) if position else 0
        gone = next((n for n in range(gone) if f"{1000 + n}-0-" in position), gone)
        log = log_of(pieces[gone:known])
        part = added(log, log.offset(position), number, grows=True)
        seen += lines(part.lines)
        begun = lines(part.begun)
        position, number = log.position(part.end), part.number

    *whole, rest = "".join(texts).split("\n")
    assert seen == list(enumerate(whole, 1))
    assert begun == ([(len(whole) + 1, rest)] if rest else [])


def test_a_log_that_is_longer_than_a_page_keeps_its_numbers():
    log = log_of(pieces_of(["x\n" * 30_000, "y" * 2 * LINE_SHOWN]))

    (part,) = shown(log, grows=False)

    found = lines(part.lines)
    assert len(found) == LINES_SHOWN
    assert found[-1] == (30_001, "y" * (LINE_SHOWN - 1) + "…")
    assert part.first == found[0][0]


def test_a_page_adds_a_long_output_in_steps():
    log, position, number, seen = log_of(pieces_of(["z\n" * 1220, "rest"])), "", 1, list[int]()
    while position != log.position(2440):
        part = added(log, log.offset(position), number, grows=True)
        assert len(lines(part.lines)) <= LINES_ADDED
        seen += [n for n, _ in lines(part.lines)]
        position, number = log.position(part.end), part.number

    assert seen == list(range(1, 1221))
    assert lines(part.begun) == [(1221, "rest")]


@pytest.mark.parametrize(
    ("line", "matches"),
    [
        ("error: no such file", True),
        ("src/a.c:3:1: ERROR: expected ';'", True),
        ("fatal: not a git repository", True),
        ("FAILED tests/test_a.py::test_b", True),
        ("--- FAIL: TestX (0.00s)", True),
        ("Traceback (most recent call last):", True),
        ("psycopg.errors.ValueError: no", True),
        ("0 errors, 2 warnings", False),
        ("compiling error_handler.o", False),
        ("failed over to b", False),
        ("cc -Werror -c error.c", False),
        ("checkout of fix/error", False),
    ],
)
def test_the_first_line_that_is_an_error_is_marked(line: str, matches: bool):
    (part,) = shown(log_of(pieces_of(["fine\n", f"\x1b[31m{line}\n", "error: the second\n"])), grows=False)

    assert bool(FIRST_ERROR.search(line)) == matches
    assert part.error == (2 if matches else 3)
    assert part.lines.count('"line error"') == 1
