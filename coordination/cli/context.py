"""What a command works with, found when it is asked for: the file, the settings, what runs on this machine."""

from __future__ import annotations

import gc
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:  # each of these is imported by the commands that need it
    from coordination.ecosystem.document import Document
    from coordination.operations.local import Local
    from coordination.planner.graph import PlanGraph
    from coordination.settings import Settings
    from coordination.tracker.manager import CoordinationManager


class CliContext:
    """One call of `coord`. `close` gives back what it took."""

    def __init__(self) -> None:
        self.ecosystem: str | None = None
        """What `--ecosystem` says."""
        self.redis: str | None = None
        """What `--redis` says."""

    @cached_property
    def path(self) -> Path:
        """The ecosystem file; raises NotFound."""
        from coordination.ecosystem.document import find
        from coordination.settings import ecosystem_path_from_environment

        named = self.ecosystem or ecosystem_path_from_environment()
        return find(Path.cwd(), Path(named) if named else None)

    @cached_property
    def document(self) -> Document:
        """The file, read and judged; raises InvalidFile."""
        from coordination.ecosystem.document import load

        document = load(self.path)
        gc.freeze()  # 10,000 todos stay until the end: looking through them for garbage took 0.1 s of a call
        return document

    @cached_property
    def manager(self) -> CoordinationManager:
        from coordination.cli.live import executing
        from coordination.tracker.manager import CoordinationManager

        return CoordinationManager(self.document, executing=lambda: executing(self))

    @cached_property
    def settings(self) -> Settings:
        """From the file where there is one: whoever names a Redis needs none.

        A file that is being edited takes nobody's runs out of hand: whoever needs only the settings goes on without them.
        """
        from coordination.errors import InvalidFile, NotFound
        from coordination.settings import ecosystem_path_from_environment, read_settings

        flags = {"redis_url": self.redis}
        try:
            return read_settings(self.document.ecosystem.settings, flags, folder=self.path.parent)
        except InvalidFile:
            click.echo(f"warning: {self.path} is invalid, so its settings are not read; see: coord validate", err=True)
            return read_settings({}, flags, folder=self.path.parent)
        except NotFound:
            settings = read_settings({}, flags)
            if self.ecosystem or ecosystem_path_from_environment() or not settings.redis_url:
                raise
            return settings

    @property
    def ecosystem_id(self) -> str:
        """`coordination.id` of the file; empty where there is none, or no file that can be read."""
        from coordination.errors import InvalidFile, NotFound

        try:
            return self.document.ecosystem.coordination.id or ""
        except (InvalidFile, NotFound):
            return ""

    @cached_property
    def local(self) -> Local:
        """What runs on this machine for the file."""
        from coordination.operations.local import Local

        return Local(self.path, self.settings)

    @property
    def has_file(self) -> bool:
        """Whoever names a Redis may look at a run from anywhere."""
        from coordination.errors import NotFound

        try:
            return bool(self.path)
        except NotFound:
            return False

    @property
    def state(self) -> Path:
        """Where a worker of this machine keeps worktrees and logs."""
        from coordination.operations.folder import STATE_FOLDER

        return self.local.state if self.has_file else Path(STATE_FOLDER)

    def redis_url(self) -> str:
        """The Redis to read from; the embedded server is started for it if need be."""
        return self.settings.redis_url or self.local.ensure_server()

    def running_redis(self) -> str | None:
        """Without starting anything."""
        from coordination.operations.glance import running_redis

        return running_redis(self.path, self.settings)

    def knowing(self, graph: PlanGraph) -> PlanGraph:
        """With what was learned in earlier runs, if a Redis that is there says so at once."""
        from coordination.operations.glance import knowing

        return knowing(self.path, self.settings, graph)

    def news(self) -> list[str]:
        """What was started again here since the last call. Raises Unreachable where something is not started any more."""
        return self.local.news() if "local" in self.__dict__ else []

    def detach(self) -> None:
        """What was started here for this call goes on without it."""
        if "local" in self.__dict__:
            self.local.detach()

    def close(self) -> None:
        if "local" in self.__dict__:
            self.local.leave()
