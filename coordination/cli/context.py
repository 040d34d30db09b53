"""The object that every command gets: the options before the command, and the facade that they open."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:  # `coord --help` needs none of it
    from coordination.api.facade import Facade


class CliContext:
    """One call of `coord`. `close` gives back what it took."""

    def __init__(self) -> None:
        self.ecosystem: str | None = None
        """The value of `--ecosystem`."""
        self.redis: str | None = None
        """The value of `--redis`."""

    @cached_property
    def coord(self) -> Facade:
        from coordination.api.facade import Facade
        from coordination.settings import ecosystem_path_from_environment

        named = self.ecosystem or ecosystem_path_from_environment()
        return Facade(named or None, self.redis, warn=lambda text: click.echo(f"warning: {text}", err=True))

    def close(self) -> None:
        if "coord" in self.__dict__:
            self.coord.close()
