"""Pieces of logs as text."""

from __future__ import annotations

from coordination.runs.logs import Piece, marked, prefixed


def piece(text: str, todo: str = "A", attempt: int = 1) -> Piece:
    return Piece(at=(0, 0), todo=todo, attempt=attempt, text=text)


def test_a_single_attempt_is_what_was_written_and_nothing_else() -> None:
    assert list(marked([piece("one\ntw"), piece("o\n")])) == [("A", "one\ntw"), ("A", "o\n")]


def test_later_attempts_are_marked_on_a_line_of_their_own() -> None:
    text = "".join(
        text for _, text in marked([piece("no"), piece("yes\n", attempt=2), piece("on\n", attempt=2)])
    )

    assert text == "no\n[coord] attempt 2\nyes\non\n"


def test_lines_of_several_todos_are_whole_and_say_whose_they_are() -> None:
    texts = [("A", "o"), ("TODO", "two\n"), ("A", "ne\nrest")]

    assert list(prefixed(texts, ["A", "TODO"])) == ["TODO | two\n", "A    | one\n", "A    | rest\n"]
