"""What a record waits for and what it holds up, each with what stands behind it in turn."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from coordination.tracker.records import Answer, Relation
from coordination.tracker.ties import Relations

DEPTH = 4
"""Further than that a chain is asked for where it goes on."""


class Link(Relation):
    behind: tuple[Link, ...] = ()
    """Going on in the same direction, as long as it is open; what stands elsewhere already is not gone into again."""


class Chains(Answer):
    waits_for: tuple[Link, ...]
    holds_up: tuple[Link, ...]


def chains_of(ties: Relations, name: str) -> Chains:
    """The direct ones all; further away only what is open."""
    return Chains(
        waits_for=_links(ties, ties.waits_for(name), ties.held_by, {name}, DEPTH),
        holds_up=_links(ties, ties.dependents(name), lambda other: _open(ties, ties.dependents(other)), {name}, DEPTH),
    )


def _open(ties: Relations, names: Iterable[str]) -> tuple[str, ...]:
    return tuple(name for name in names if ties.is_open(name))


def _links(
    ties: Relations, names: Iterable[str], further: Callable[[str], Iterable[str]], seen: set[str], depth: int
) -> tuple[Link, ...]:
    there = list(names)
    new = [name for name in there if name not in seen and ties.is_open(name)]
    seen.update(new)
    behind = {name: _links(ties, further(name), further, seen, depth - 1) for name in new} if depth > 1 else {}
    return tuple(Link(**dict(ties.tie(name)), behind=behind.get(name, ())) for name in there)
