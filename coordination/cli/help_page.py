"""The help of a command in panels. rich-click, which draws it, is imported when help is shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import click

Panels = Mapping[str, Sequence[str]]
"""Heading → commands of a group."""


class HelpfulCommand(click.Command):
    """A command whose help is drawn in panels."""

    def get_help(self, ctx: click.Context) -> str:
        from rich_click import RichCommand

        return _drawn(RichCommand(**_shown(self)), ctx)


class HelpfulGroup(click.Group):
    """A group whose help is drawn in panels."""

    panels: Panels = MappingProxyType({})

    def get_help(self, ctx: click.Context) -> str:
        from rich_click import RichCommand, RichGroup
        from rich_click.rich_panel import RichCommandPanel

        lines = [
            RichCommand(name=name, help=one.help) for name, one in self.commands.items() if not one.hidden
        ]
        group = RichGroup(**_shown(self), commands=lines, subcommand_metavar=self.subcommand_metavar)
        for heading, names in self.panels.items():
            group.add_panel(RichCommandPanel(heading, commands=list(names)))
        return _drawn(group, ctx)

    def command(self, *args: Any, **kwargs: Any) -> Any:
        return super().command(*args, **{"cls": HelpfulCommand, **kwargs})


def _shown(command: click.Command) -> dict[str, Any]:
    return {
        "name": command.name,
        "params": command.params,
        "help": command.help,
        "epilog": command.epilog,
        "add_help_option": command.add_help_option,
        "options_metavar": command.options_metavar,
    }


def _drawn(command: Any, ctx: click.Context) -> str:
    from rich_click import RichContext

    return str(command.get_help(RichContext(command, info_name=ctx.info_name, parent=ctx.parent)))
