"""Data on standard output: as JSON, or one record as its fields."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click
from pydantic_core import to_json

from coordination.cli.screen.tables import plain
from coordination.terminal import spelled

if TYPE_CHECKING:
    from coordination.operations.flower import Access
    from coordination.settings import Settings


def print_json(data: Any) -> None:
    """Plain values, records, or both in each other."""
    click.echo(to_json(data, indent=2))


def print_flower(access: Access, settings: Settings) -> None:
    """A password that somebody has set is theirs to know, and stays out of logs."""
    password = "as in flower_auth" if settings.flower_auth else access.password
    click.echo(f"Flower  {access.url}  user {access.user}  password {password}")


def print_facts(facts: Mapping[str, Any]) -> None:
    """One record, a line for each field that says something."""
    shown = {name: value for name, value in facts.items() if value not in (None, "", [], {})}
    width = max(map(len, shown), default=0)
    for name, value in shown.items():
        click.echo(f"{plain(name):<{width}}  {spelled(_words(value, width + 2))}")


def _words(value: Any, indent: int) -> str:
    if isinstance(value, list):
        plain = all(isinstance(item, str) and " " not in item for item in value)
        return ", ".join(value) if plain else ("\n" + " " * indent).join(_words(item, indent) for item in value)
    if isinstance(value, dict):
        return ", ".join(
            f"{name}: {_words(item, indent)}" for name, item in value.items() if item not in (None, "", [])
        )
    return str(value).strip().replace("\n", "\n" + " " * indent)
