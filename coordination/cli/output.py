"""Data on standard output: as JSON, or as a table that fits the width."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from coordination.fleet.flower import Access
    from coordination.settings import Settings

NOT_A_TERMINAL_WIDTH = 10_000
"""Whoever reads a pipe wants whole lines."""


def print_json(data: Any) -> None:
    click.echo(json.dumps(data, indent=2, ensure_ascii=False))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """The last column takes what is left of the width. A cell may be a Rich Text, for its colour."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = NOT_A_TERMINAL_WIDTH
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for name in columns:
        table.add_column(name, no_wrap=name != columns[-1], overflow="fold")
    for row in rows:
        table.add_row(*(cell if isinstance(cell, Text) else Text(_one_line(cell)) for cell in row))
    console.print(table)


def print_flower(access: Access, settings: Settings) -> None:
    """A password that somebody has set is theirs to know, and stays out of logs."""
    password = "as in flower_auth" if settings.flower_auth else access.password
    click.echo(f"Flower  {access.url}  user {access.user}  password {password}")


def _one_line(cell: object) -> str:
    return " ".join(str("" if cell is None else cell).split())


def print_facts(facts: Mapping[str, Any]) -> None:
    """One record, a line for each field that says something."""
    shown = {name: value for name, value in facts.items() if value not in (None, "", [], {})}
    width = max(map(len, shown), default=0)
    for name, value in shown.items():
        click.echo(f"{name:<{width}}  {_words(value, width + 2)}")


def _words(value: Any, indent: int) -> str:
    if isinstance(value, list):
        plain = all(isinstance(item, str) and " " not in item for item in value)
        return ", ".join(value) if plain else ("\n" + " " * indent).join(_words(item, indent) for item in value)
    if isinstance(value, dict):
        return ", ".join(
            f"{name}: {_words(item, indent)}" for name, item in value.items() if item not in (None, "", [])
        )
    return str(value).strip().replace("\n", "\n" + " " * indent)
