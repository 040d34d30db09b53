"""Circuit breakers, for reading."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from coordination.cli.screen import times
from coordination.cli.screen.blocks import Lines, rows, section
from coordination.cli.screen.tables import Cell

if TYPE_CHECKING:
    from coordination.breakers.records import Breaker, Reset

STYLES = {"open": "red", "half-open": "yellow", "closed": ""}


def breaker_line(breaker: Breaker) -> Cell:
    """`open after 5 failures in 300 s, last: TODO-3 exit code 7; probe at …`"""
    return Cell(f"{breaker.state} after {_told(breaker)}", STYLES[breaker.state])


def breakers_shown(breakers: Sequence[Breaker]) -> Lines:
    table = [(one.name, _state(one), f"{one.behind} behind it" if one.behind else "", _told(one)) for one in breakers]
    hint = ["to close one now: coord reset-breaker NAME"] if any(one.tripped for one in breakers) else []
    return section("circuit breakers", [*rows(table), *hint])


def breakers_named(breakers: Sequence[Breaker]) -> Lines:
    hint = ["why: coord status"] if breakers else []
    return section("circuit breakers", [*rows([(one.name, _state(one), one.outlook) for one in breakers]), *hint])


def resets_shown(resets: Sequence[Reset]) -> Lines:
    table = [(one.name, times.shown(one.at), f"by {one.by}", f"it was {one.state}") for one in resets]
    return section(times.heading("circuit breakers closed by hand"), rows(table))


def _state(breaker: Breaker) -> Cell:
    return Cell(breaker.state, STYLES[breaker.state])


def _told(breaker: Breaker) -> str:
    return f"{breaker.reason}; {breaker.outlook}" if breaker.outlook else breaker.reason
