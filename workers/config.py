"""The configuration of a worker process at its start, and the repositories that it serves now.

Repositories, their folders and the number of slots follow the ecosystem file. A repository that is removed or
moved takes no new todo, and is given up when its last todo here has ended. Only then is it served from its
new folder: todos of one repository never run in two folders of a host.
"""

from __future__ import annotations

import argparse
import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from coordination.branches import refuse_bases
from coordination.disk import shortage
from coordination.ecosystem import document
from coordination.environment import ecosystem_path_from_environment
from coordination.errors import NotFound, UsageError
from coordination.files import expanded, is_folder, is_there, real_path, why_no_folder
from coordination.git import why_unusable
from coordination.models import FILE_NAME, Ecosystem, Repo, Signatures
from coordination.runs.signed.orders import signatures_in_force
from coordination.settings import Settings, read_settings

LEAVES = "is leaving it: its running todos end first"


@dataclass(frozen=True, kw_only=True)
class WorkerConfig:
    redis_url: str
    settings: Settings
    places: Mapping[str, Path]
    """Repository → its folder on this machine, at the start. `ServedRepositories` has later changes."""
    jobs: int
    """Todos at once, at the start."""
    state: Path
    """Folder for worktrees and logs."""
    ecosystem_id: str = ""
    """`coordination.id` of the file; empty without one."""
    urls: Mapping[str, str] = field(default_factory=dict)
    """Repository → its `url` in the file."""
    file: Path | None = None
    """The ecosystem file; None without one."""

    @property
    def signatures(self) -> Signatures:
        """Return whether this worker requires signatures, warns of missing ones, or ignores them."""
        return signatures_in_force(self.settings, self.redis_url)

    @property
    def is_one_machine(self) -> bool:
        """Return whether Redis is reached by a socket: then there is no other host."""
        return self.redis_url.startswith("unix:")


def argument_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m workers", description="One process that serves repositories."
    )
    parser.add_argument("--repo", action="append", default=[], metavar="NAME[=PATH]")
    parser.add_argument("--all", action="store_true", help="every repository of the file")
    parser.add_argument("--keeper", action="store_true", help="serve no repository, keep runs going")
    parser.add_argument(
        "--jobs", type=int, metavar="N", help="at most N todos at once; default: the setting jobs"
    )
    parser.add_argument("--ecosystem", metavar="FILE")
    parser.add_argument("--redis", metavar="URL")
    parser.add_argument("--state", metavar="DIR", help="where worktrees and logs go (default: .coord)")
    return parser


def read_config(arguments: argparse.Namespace) -> WorkerConfig:
    """Return the configuration from the arguments and the ecosystem file. Raises UsageError, NotFound."""
    file = _file(arguments.ecosystem)
    ecosystem = file.ecosystem if file else Ecosystem()
    settings = read_settings(
        ecosystem.settings, {"redis_url": arguments.redis}, folder=file.path.parent if file else None
    )
    refuse_bases(settings.branch_prefix, ecosystem.repos)
    if settings.redis_url is None:
        raise UsageError(
            "a worker needs the address of Redis", "give --redis or COORD_REDIS_URL, or use: coord up"
        )
    declared = {repo.name: repo for repo in ecosystem.repos}
    base = file.path.parent if file else Path.cwd()
    named = dict(_named(text) for text in arguments.repo)
    for name, path in named.items():
        _refuse_unknown(name, path, declared if file else {name: None})
    places = {name: _place(name, path, declared.get(name), base) for name, path in named.items()}
    if arguments.all:  # a repository without a folder here is on another machine
        folders = {name: _folder(repo, name, base) for name, repo in declared.items()}
        places = {name: folder for name, folder in folders.items() if folder} | places
    if not places and not arguments.keeper:
        raise UsageError(
            "a worker serves repositories", "name them with --repo NAME[=PATH], or all of the file with --all"
        )
    refuse_shared(places)
    slots = sum(declared[name].slots if name in declared else 1 for name in places)
    return WorkerConfig(
        redis_url=settings.redis_url,
        settings=settings,
        places=places,
        jobs=max(1, min(slots, arguments.jobs or settings.worker_slots)),
        state=Path(arguments.state).resolve() if arguments.state else base / ".coord",
        ecosystem_id=ecosystem.coordination.id or "",
        urls={repo.name: repo.url for repo in ecosystem.repos if repo.url},
        file=file.path if file else None,
    )


def _file(explicit: str | None) -> document.Document | None:
    path = ecosystem_file(explicit)
    return document.load(path) if path else None


def ecosystem_file(explicit: str | None) -> Path | None:
    named = explicit or ecosystem_path_from_environment()
    try:
        return document.find(Path.cwd(), Path(named) if named else None)
    except NotFound:
        if named:
            raise
        return None


def _named(text: str) -> tuple[str, str | None]:
    """Split NAME[=PATH]."""
    name, _, path = text.partition("=")
    return name, path or None


def _refuse_unknown(name: str, path: str | None, declared: Collection[str]) -> None:
    if path is None and name not in declared:
        raise NotFound(
            f"there is no repository {name!r}", f"the file declares: {', '.join(sorted(declared))}"
        )


def _place(name: str, path: str | None, repo: Repo | None, base: Path) -> Path:
    if place := real_path(Path(path)) if path is not None else _folder(repo, name, base):
        return place
    raise UsageError(
        f"no folder is known for repository {name!r}: there is no {base / name}",
        f"name its folder: coord worker --repo {name}=PATH",
    )


def _folder(repo: Repo | None, name: str, base: Path) -> Path | None:
    """Return the folder that the file names, else the folder with the repository's name; None if there is
    neither.
    """
    if repo is not None and repo.path is not None:
        return real_path(base / expanded(repo.path))
    return real_path(base / name) if is_folder(base / name) else None


def refuse_shared(places: Mapping[str, Path]) -> None:
    """Refuse two repositories in one folder, or one inside another without a `.git` of its own.

    `places`: repository → absolute path without symbolic links. Raises UsageError.
    """
    named: dict[Path, str] = {}
    for name, path in places.items():
        _refuse_shared(name, path, named.setdefault(path, name), path)
    for name, path in places.items():
        outer = next((folder for folder in path.parents if folder in named), None)
        if outer and not is_there(path / ".git"):
            _refuse_shared(name, path, named[outer], outer)


def _refuse_shared(name: str, path: Path, other: str, its_path: Path) -> None:
    if name != other:
        where = str(path) if path == its_path else f"{path} is in {its_path}"
        raise UsageError(
            f"repositories {other} and {name} share a folder: {where}",
            f"give each a folder of its own: --repo {name}=PATH, or `path` in {FILE_NAME}",
        )


class ServedRepositories(Mapping[str, Path]):
    """Repository → its folder, as served at this moment. Any thread may call it."""

    def __init__(self, config: WorkerConfig) -> None:
        self.jobs = config.jobs
        """Todos at once."""
        self._host = config.settings.this_host
        self._state = config.state
        self._disk_min = config.settings.disk_min
        self._folders = dict(config.places)  # never changed, only replaced: other threads may be iterating
        self._wanted = dict(config.places)
        self._running: Counter[str] = Counter()
        self._was_usable = {repo for repo, path in config.places.items() if not why_unusable(path)}
        """Repositories whose folder was one of git; todos in place also work in others."""
        self._guard = threading.Lock()

    def __getitem__(self, repo: str) -> Path:
        return self._folders[repo]

    def __iter__(self) -> Iterator[str]:
        return iter(self._folders)

    def __len__(self) -> int:
        return len(self._folders)

    def unfit(self, repo: str) -> str:
        """Return why no todo of the repository can begin here; empty if one can."""
        folder = self.get(repo)
        if folder is None:
            return "this worker does not serve it"
        if self._is_leaving(repo):
            return f"the worker {LEAVES}"
        why = why_no_folder(folder)
        return why and f"{why}: clone it there, or name its folder to the worker"

    def awaited(self, repo: str) -> str:
        """Return what a todo of the repository waits for; empty if it can begin here."""
        why = self.unfit(repo) or self._broken(repo)
        return f"a worker for {repo}: on host {self._host} {why}" if why else ""

    def _broken(self, repo: str) -> str:
        """Return why git cannot use the folder any more."""
        if not (why := why_unusable(self._folders[repo])):
            self._was_usable.add(repo)
        return why if repo in self._was_usable else ""

    def disk_shortage(self) -> str:
        """Return which disk has too little space for any todo to begin; empty if all have enough."""
        return shortage((self._state, *self._folders.values()), self._disk_min)

    @contextmanager
    def in_use(self, repo: str) -> Iterator[None]:
        """Keep the repository's folder for a todo. Call `unfit` within the block."""
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
