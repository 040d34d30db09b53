"""Command line of a worker process: its configuration, its log, its errors."""

from __future__ import annotations

import argparse
import logging
import re
import sys
import time
import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from pathlib import Path

from coordination.backend.client import reaching
from coordination.ecosystem import document
from coordination.environment import (
    ecosystem_path_from_environment,
    failpoints_from_environment,
    hide_process,
    refuse_in_todo,
)
from coordination.errors import CoordinationError, NotFound, UsageError
from coordination.files import close_to_others
from coordination.models import FILE_NAME, Ecosystem, Repo
from coordination.settings import read_settings
from coordination.terminal import protect
from workers.config import WorkerConfig
from workers.restricted import make_container
from workers.worker_process import FileWatch, WorkerProcess

LOG_FORMAT = "%(asctime)s %(levelname)s %(threadName)s %(name)s: %(message)s"


def main(argv: Sequence[str] | None = None) -> int:
    protect()
    hide_process()
    arguments = _parser().parse_args(argv)
    logging.raiseExceptions = False  # after a full disk, the log would get a traceback for each line
    log = logging.StreamHandler(sys.stderr)
    log.addFilter(RateLimitedLog())
    logging.basicConfig(level=logging.INFO, format=LOG_FORMAT, handlers=[log])
    # Celery's line for each delivery does not name the todo.
    logging.getLogger("celery.app.trace").setLevel(logging.WARNING)
    logging.getLogger("celery.worker.strategy").setLevel(logging.WARNING)
    # Celery's warning to root names an option of its own, which this program does not have.
    warnings.filterwarnings("ignore", message="You're running the worker with superuser privileges")
    try:
        _switch_failpoints_on()
        refuse_in_todo("a worker")
        watch = _watch(arguments)
        asked = config(arguments)
        _close_state(asked.state)
        with reaching(asked.redis_url):
            # The Redis user of a restricted worker fixes its repositories, so it does not follow the file.
            return WorkerProcess(make_container(asked), None if asked.settings.restricted else watch).run()
    except CoordinationError as error:
        print(f"coord worker: {error}", file=sys.stderr)  # noqa: T201 -- a program prints its errors
        return error.exit_code


def _close_state(state: Path) -> None:
    if mended := close_to_others(state):
        shown = ", ".join(map(str, mended[:3]))
        logging.warning(
            "other users of this machine could read %d files in %s (%s …): closed", len(mended), state, shown
        )


def _switch_failpoints_on() -> None:
    if words := failpoints_from_environment():
        from coordination.broker import failpoints
        from workers.attempt.actions import FAILPOINTS
        from workers.landing import land, land_request, revert_request

        seams = (*land.FAILPOINTS, *land_request.FAILPOINTS, *revert_request.FAILPOINTS)
        failpoints.switch_on(words, (*FAILPOINTS, *seams))


def _watch(arguments: argparse.Namespace) -> FileWatch | None:
    """Return the watch of the file; None where no file says what is served."""
    path = _path(arguments.ecosystem)
    return FileWatch(path, partial(config, arguments)) if path and not arguments.keeper else None


def config(arguments: argparse.Namespace) -> WorkerConfig:
    """Return the configuration that arguments and file ask for. Raises UsageError, NotFound."""
    file = _file(arguments.ecosystem)
    ecosystem = file.ecosystem if file else Ecosystem()
    settings = read_settings(
        ecosystem.settings, {"redis_url": arguments.redis}, folder=file.path.parent if file else None
    )
    if settings.redis_url is None:
        raise UsageError(
            "a worker needs the address of Redis", "give --redis or COORD_REDIS_URL, or use: coord up"
        )
    declared = {repo.name: repo for repo in ecosystem.repos}
    base = file.path.parent if file else Path.cwd()
    asked = dict(_named(text) for text in arguments.repo)
    for name, path in asked.items():
        _check(name, path, declared if file else {name: None})
    places = {name: _place(name, path, declared.get(name), base) for name, path in asked.items()}
    if arguments.all:  # one that names no folder lies on another machine
        found = {name: _folder(repo, name, base) for name, repo in declared.items()}
        places = {name: place for name, place in found.items() if place} | places
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
        file=file.path if file else None,
    )


def _file(explicit: str | None) -> document.Document | None:
    path = _path(explicit)
    return document.load(path) if path else None


def _path(explicit: str | None) -> Path | None:
    named = explicit or ecosystem_path_from_environment()
    try:
        return document.find(Path.cwd(), Path(named) if named else None)
    except NotFound:
        if named:
            raise
        return None


def _named(text: str) -> tuple[str, str | None]:
    name, _, path = text.partition("=")
    return name, path or None


def _check(name: str, path: str | None, declared: Collection[str]) -> None:
    if path is None and name not in declared:
        raise NotFound(
            f"there is no repository {name!r}", f"the file declares: {', '.join(sorted(declared))}"
        )


def _place(name: str, path: str | None, repo: Repo | None, base: Path) -> Path:
    if place := Path(path).resolve() if path is not None else _folder(repo, name, base):
        return place
    raise UsageError(
        f"no folder is known for repository {name!r}: there is no {base / name}",
        f"name its folder: coord worker --repo {name}=PATH",
    )


def _folder(repo: Repo | None, name: str, base: Path) -> Path | None:
    """Return the folder that the file names, else the folder of the repository's name.

    None where there is neither.
    """
    if repo is not None and repo.path is not None:
        return (base / repo.path).resolve()
    return (base / name).resolve() if (base / name).is_dir() else None


def refuse_shared(places: Mapping[str, Path]) -> None:
    """Refuse two repositories in one folder, or one inside another without a `.git` of its own.

    Raises UsageError.

    `places`: absolute, without symbolic links.
    """
    named: dict[Path, str] = {}
    for name, path in places.items():
        _refuse_shared(name, path, named.setdefault(path, name), path)
    for name, path in places.items():
        outer = next((folder for folder in path.parents if folder in named), None)
        if outer and not (path / ".git").exists():
            _refuse_shared(name, path, named[outer], outer)


def _refuse_shared(name: str, path: Path, other: str, its_path: Path) -> None:
    if name != other:
        where = str(path) if path == its_path else f"{path} is in {its_path}"
        raise UsageError(
            f"repositories {other} and {name} share a folder: {where}",
            f"give each a folder of its own: --repo {name}=PATH, or `path` in {FILE_NAME}",
        )


def _parser() -> argparse.ArgumentParser:
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


REPEATED_AFTER_S = 60.0
REMEMBERED = 1000
_NUMBERED = ("celery.", "kombu.")
"""Loggers that put the number of a try into their lines."""
_NUMBER = re.compile(r"\d+")


class RateLimitedLog(logging.Filter):
    """Drop a warning that the same logger has given within the last minute."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._logged: dict[tuple[str, str], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno < logging.WARNING:
            return True
        now, line = self._clock(), (record.name, _without_numbers(record))
        if now - self._logged.get(line, -REPEATED_AFTER_S) < REPEATED_AFTER_S:
            return False
        if len(self._logged) >= REMEMBERED:
            self._logged.clear()
        self._logged[line] = now
        return True


def _without_numbers(record: logging.LogRecord) -> str:
    """Return the line, without numbers if its logger counts tries.

    Elsewhere a number names a todo, run or process.
    """
    line = record.getMessage()
    return _NUMBER.sub("#", line) if record.name.startswith(_NUMBERED) else line
