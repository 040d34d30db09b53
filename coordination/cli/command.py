"""A command whose help is the text of its operation."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import Any

import click

from coordination.cli.help_page import HelpfulCommand


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
