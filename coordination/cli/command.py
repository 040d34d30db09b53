"""Commands whose help is the text of their operation, in panels. rich-click, which draws it, is imported when
help is shown.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
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


class OperationCommand(HelpfulCommand):
    """A command that shows the text of its operation as help, then the docstring of its own function.

    The text is read when the help is shown: executing a command does not import it.
    """

    def __init__(
        self, *args: Any, operation: str = "", text: Callable[[], str] | None = None, **kwargs: Any
    ) -> None:
        """`text` returns the text of a declared operation."""
        self.operation, self.own_help, self.declared_text = operation, "", text
        super().__init__(*args, **kwargs)
        for one in self.params:
            if isinstance(one, click.Option) and one.multiple and one.help and "…" not in (one.metavar or ""):
                one.help = f"{one.help} May be repeated."

    @property
    def help(self) -> str | None:
        return "\n\n".join(filter(None, (self._shared_help(), self.own_help))) or None

    @help.setter
    def help(self, text: str | None) -> None:
        self.own_help = inspect.cleandoc(text or "")

    def _shared_help(self) -> str:
        """Return the text of the operation, with the parameters as this command spells them."""
        if self.declared_text:
            shared = self.declared_text()
        elif self.operation:
            from coordination.api.texts import operation_text

            shared = operation_text(self.operation)
        else:
            return ""
        spelled = {one.name: _spelled(one) for one in self.params}
        return re.sub(r"`(\w+)`", lambda found: spelled.get(found[1], found[0]), shared)


def _spelled(parameter: click.Parameter) -> str:
    if isinstance(parameter, click.Argument):
        return parameter.human_readable_name.strip("[].")
    return f"`{max(parameter.opts, key=len)}`"


def command(
    operation: str = "", *, name: str | None = None, group: click.Group | None = None, **attributes: Any
) -> Callable[[Callable[..., Any]], click.Command]:
    """Make a command of `coord`, or of a group. `operation`: its operation, such as `runs.sweep`; without one
    the docstring is the whole help.
    """
    make = click.command if group is None else group.command
    made: Callable[[Callable[..., Any]], click.Command] = make(
        name, cls=OperationCommand, operation=operation, **attributes
    )
    return made


def made_by(option: Callable[..., Any]) -> click.Parameter:
    """Return the option that a decorator adds."""

    def nothing() -> None: ...

    made: click.Parameter = option(nothing).__click_params__[0]
    return made
