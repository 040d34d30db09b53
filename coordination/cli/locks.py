"""Output of `lock list`, `lock release` and `breaker reset` for people."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import click

from coordination.api import Breaker, Held, Holder
from coordination.cli.screen.tables import filled, print_table
from coordination.declared import Cell
from coordination.states import Tone
from coordination.text import counted, listed


def print_locks(found: Sequence[Held]) -> None:
    print_table(*filled(Held.shown.columns, [row for held in found for row in _rows(held)]))


def _rows(held: Held) -> Iterator[Sequence[object]]:
    """Yield a row for each holder; the first one names the waiters."""
    waiting = listed([waiter.who for waiter in held.waiters])
    if not held.holders:
        yield (held.title, Cell("none", Tone.LEFT), "", "", "", "", waiting)
    for i, holder in enumerate(held.holders):
        amount = f"{holder.amount}/{held.capacity}" if held.capacity else ""
        first = i == 0
        yield (
            held.title if first else "",
            _whose(holder),
            amount,
            f"{holder.age_s:.1f} s",
            "" if holder.ttl_left_s is None else f"{holder.ttl_left_s:.1f} s",
            holder.fence,
            waiting if first else "",
        )


def _whose(holder: Holder) -> Cell:
    return Cell(f"{holder.who}, gone", Tone.BAD) if holder.alive is False else Cell(holder.who)


def print_released(found: Sequence[Held]) -> None:
    for held in found:
        following = f"; next: {held.waiters[0].who}" if held.waiters else ""
        holders = listed([holder.who for holder in held.holders])
        click.echo(f"{held.title} was taken from {holders}{following}", err=True)


def print_reset(was: Breaker) -> None:
    behind = f"; {counted(was.behind, 'todo')} behind it can continue" if was.behind else ""
    click.echo(f"{was.name} is closed; it was {was.state} after {was.reason}{behind}", err=True)
