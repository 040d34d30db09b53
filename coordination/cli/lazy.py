"""A group of commands that lists itself without importing them."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

import click
from rich_click import RichCommand, RichGroup
from rich_click.rich_panel import RichCommandPanel

Families = Mapping[str, Mapping[str, tuple[str, str]]]
"""Heading → command → (`module:function` from this folder on, its one line of help)."""


class LazyGroup(RichGroup):
    """Its commands are stubs with a line of help; the real one is imported when it is called."""

    def __init__(self, *args: Any, families: Families, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.places = {name: place for family in families.values() for name, (place, _) in family.items()}
        for heading, family in families.items():
            self.add_panel(RichCommandPanel(heading, commands=list(family)))
            for name, (_, help_) in family.items():
                self.add_command(RichCommand(name=name, help=help_))

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.places)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name, stub, rest = super().resolve_command(ctx, args)
        return name, self._load(name) if name else stub, rest

    def _load(self, name: str) -> click.Command:
        module, _, function = self.places[name].partition(":")
        command: click.Command = getattr(import_module(f"coordination.cli.{module}"), function)
        # What may stand before the command may stand behind it: nobody remembers which way round it was.
        for one in (command, *getattr(command, "commands", {}).values()):
            taken = {parameter.name for parameter in one.params}
            one.params += [p for p in self.params if p.name not in taken and not p.is_eager]
        return command
