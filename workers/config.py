"""The configuration of a worker process at its start, and the repositories that it serves now.

Repositories, their folders and the number of slots follow the file. A repository that leaves or moves takes
no new todo, and leaves when its last todo here has ended. Only then is it served from its new folder: todos
of one repository never run in two folders of a host.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from coordination.disk import shortage
from coordination.models import Signatures
from coordination.runs.signed.orders import signatures_in_force
from coordination.settings import Settings

LEAVES = "is leaving it: its running todos end first"


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


class ServedRepositories(Mapping[str, Path]):
    """Repository → its folder, as served at this moment. Any thread may ask."""

    def __init__(self, config: WorkerConfig) -> None:
        self.jobs = config.jobs
        """Todos at once."""
        self._state = config.state
        self._disk_min = config.settings.disk_min
        self._folders = dict(config.places)  # never changed, only replaced: other threads may be iterating
        self._wanted = dict(config.places)
        self._running: Counter[str] = Counter()
        self._guard = threading.Lock()

    def __getitem__(self, repo: str) -> Path:
        return self._folders[repo]

    def __iter__(self) -> Iterator[str]:
        return iter(self._folders)

    def __len__(self) -> int:
        return len(self._folders)

    def unfit(self, repo: str) -> str:
        """Return why no todo of the repository can begin here; empty if it can."""
        folder = self.get(repo)
        if folder is None:
            return "this worker does not serve it"
        if self._is_leaving(repo):
            return f"the worker {LEAVES}"
        return (
            ""
            if folder.is_dir()
            else f"there is no folder {folder}: clone it there, or name its folder to the worker"
        )

    def disk_shortage(self) -> str:
        """Return which disk has too little space for any todo to begin; empty if all have enough."""
        return shortage((self._state, *self._folders.values()), self._disk_min)

    @contextmanager
    def in_use(self, repo: str) -> Iterator[None]:
        """Keep the repository's folder for a todo. Ask `unfit` within."""
        with self._guard:
            self._running[repo] += 1
        try:
            yield
        finally:
            with self._guard:
                self._running[repo] -= 1
                self._running += Counter()  # removes those that are 0

    def serve_from_now_on(self, folders: Mapping[str, Path]) -> None:
        """Set the folders to serve; `leave` and `join` apply the change as todos end."""
        with self._guard:
            self._wanted = dict(folders)

    def leave(self) -> tuple[str, ...]:
        """Stop serving repositories that are to leave or move and have no todo here; return them."""
        with self._guard:
            gone = tuple(repo for repo in self._folders if self._is_leaving(repo) and not self._running[repo])
            self._folders = {repo: path for repo, path in self._folders.items() if repo not in gone}
            return gone

    def join(self, permitted: Callable[[str, Path], bool]) -> tuple[str, ...]:
        """Serve wanted repositories that are permitted; return the new ones."""
        new = {
            repo: path
            for repo, path in self._wanted.items()
            if repo not in self._folders and permitted(repo, path)
        }
        with self._guard:
            self._folders = {**self._folders, **new}
        return tuple(new)

    def _is_leaving(self, repo: str) -> bool:
        return repo in self._folders and self._wanted.get(repo) != self._folders[repo]
