"""Pieces of logs as text: each attempt after the first is marked; of several todos, each line says whose it is."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

from coordination.runs.log_reader import Piece


def marked(pieces: Iterable[Piece]) -> Iterator[tuple[str, str]]:
    """Todo and text."""
    attempts: dict[str, int] = {}
    mid_line: dict[str, bool] = {}
    for piece in pieces:
        if piece.attempt != attempts.get(piece.todo, 1):
            yield piece.todo, ("\n" if mid_line.get(piece.todo) else "") + f"[coord] attempt {piece.attempt}\n"
        yield piece.todo, piece.text
        attempts[piece.todo] = piece.attempt
        mid_line[piece.todo] = not piece.text.endswith("\n")


def prefixed(texts: Iterable[tuple[str, str]], todos: Collection[str]) -> Iterator[str]:
    """`TODO-001 | its line`, each line as soon as it is whole."""
    width = max(map(len, todos), default=0)
    begun: dict[str, str] = {}
    for todo, text in texts:
        *lines, begun[todo] = (begun.get(todo, "") + text).split("\n")
        yield from (f"{todo:<{width}} | {line}\n" for line in lines)
    yield from (f"{todo:<{width}} | {line}\n" for todo, line in begun.items() if line)
