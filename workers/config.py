"""The configuration of a worker process, as its arguments, the ecosystem file and the environment give it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from coordination.models import Signatures
from coordination.runs.signed.orders import signatures_in_force
from coordination.settings import Settings


@dataclass(frozen=True, kw_only=True)
class WorkerConfig:
    redis_url: str
    settings: Settings
    places: Mapping[str, Path]
    """Repository → its folder on this machine, at the start.

    `ServedRepositories` follows the file from there.
    """
    jobs: int
    """Todos at once, at the start."""
    state: Path
    """Folder for worktrees and logs."""
    ecosystem_id: str = ""
    """`coordination.id` of the file; empty without one."""

    file: Path | None = None
    """The ecosystem file; None without one."""

    @property
    def signatures(self) -> Signatures:
        """Return what this worker demands of signatures."""
        return signatures_in_force(self.settings, self.redis_url)

    @property
    def is_one_machine(self) -> bool:
        """Return whether Redis is reached by a socket: then there is no other host."""
        return self.redis_url.startswith("unix:")
