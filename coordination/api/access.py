"""Access to one ecosystem: the file, its settings, the processes of this machine and Redis."""

from __future__ import annotations

import gc
import logging
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from coordination.background import lock_of, opened_once
from coordination.environment import actor
from coordination.errors import Conflict, CoordinationError, InvalidFile, NotFound
from coordination.models import FILE_NAME

if TYPE_CHECKING:  # each of these is imported by the operations that need it
    from redis import Redis

    from coordination.api.authority import Authority
    from coordination.api.events import Events, Subscribers
    from coordination.backend.client import Profile
    from coordination.backend.steps.namespace import AppendEvent
    from coordination.dependencies.records import Outcome
    from coordination.ecosystem.document import Document
    from coordination.history.memory import Memory
    from coordination.history.store import HistoryStore
    from coordination.models import Plan
    from coordination.operations.local import Local
    from coordination.runs.connection import Connection
    from coordination.runs.views.live import Live
    from coordination.runs.views.todos_in_runs import Asked, LiveTodo
    from coordination.settings import Settings
    from coordination.tracker.completion import Results
    from coordination.tracker.manager import CoordinationManager

A = TypeVar("A")
logger = logging.getLogger(__name__)


class EcosystemAccess:
    """Opens each part when it is first used, so that a command pays only for the parts it needs. `close`
    closes them.

    The file is read once; `Coord`, which lives longer, reads it anew. A Redis that is named needs no file.
    """

    def __init__(
        self,
        ecosystem: str | Path | None = None,
        redis_url: str | None = None,
        *,
        warn: Callable[[str], object] = logger.warning,
    ) -> None:
        """`ecosystem`: the file; else the one of this folder, or of a folder above. `redis_url` precedes
        all settings.
        """
        self._named = None if ecosystem is None else Path(ecosystem)
        self._flags = {"redis_url": redis_url}
        self.warn = warn
        self._url: str | None = None
        self._connection: Connection | None = None
        self.handles: set[str] = set()
        """The runs that were started or looked up."""

    # The file

    @opened_once
    def path(self) -> Path:
        """Return the ecosystem file. Raises NotFound."""
        from coordination.ecosystem.document import find

        found = find(Path.cwd(), self._named)
        logger.info("ecosystem file %s", found)
        return found

    @property
    def redis_is_named(self) -> bool:
        """Return whether the caller names the Redis, before all settings."""
        return self._flags["redis_url"] is not None

    @property
    def has_file(self) -> bool:
        try:
            return bool(self.path)
        except NotFound:
            return False

    def refuse_replacing(self, path: Path) -> None:
        """Raise Conflict for an ecosystem file, which no other content may replace."""
        if path.exists() and (path.name == FILE_NAME or (self.has_file and path.samefile(self.path))):
            raise Conflict(f"{path} is an ecosystem file", "name another file")

    @property
    def document(self) -> Document:
        """Return the file, parsed and validated. Raises NotFound, InvalidFile."""
        return self._document

    @opened_once
    def _document(self) -> Document:
        from coordination.ecosystem.document import load

        began = time.perf_counter()
        document = load(self.path)
        logger.debug("read %s in %.3f s", self.path, time.perf_counter() - began)
        # 10,000 todos stay until the end: looking through them for garbage took 0.1 s of a command
        gc.freeze()
        return document

    @property
    def manager(self) -> CoordinationManager:
        """Return the records of the file, with the todos that runs execute in progress."""
        return self._manager

    @opened_once
    def _manager(self) -> CoordinationManager:
        return self._manage(self.document)

    def _manage(self, document: Document) -> CoordinationManager:
        from coordination.tracker.manager import CoordinationManager

        def recorded(plan: Plan) -> Results | None:
            if not self.may_have_runs():
                return None
            from coordination.checks.report import recorded_checks  # takes 100 ms, for few commands

            with self.answering() as connection:
                trust = connection.trust_with_worker(self.state) if self.authority.required else None
                return recorded_checks(connection, document.ecosystem, plan, trust)

        manager = CoordinationManager(document, executing=self.executing, recorded=recorded)
        manager.on_checked = self.announce_checks
        manager.may_edit = self.authority.check_edit
        manager.may_execute = lambda repos: self.authority.check("edit", repos or None)
        manager.used_ids = self._used_ids
        manager.unlanded = self._unlanded
        return manager

    def _used_ids(self) -> Collection[str]:
        from coordination.operations.used_ids import used_ids

        return used_ids(self.path, self.settings, self._checkouts())

    def _unlanded(self, names: Collection[str]) -> Collection[str]:
        from coordination.operations.used_ids import unlanded

        return unlanded(self.document, self.settings, names)

    def _checkouts(self) -> tuple[Path, ...]:
        """Return the checkouts of this machine."""
        document = self.document
        places = (document.repo_path(repo) for repo in document.ecosystem.repos)
        return tuple(dict.fromkeys(place for place in places if place is not None))

    @opened_once
    def settings(self) -> Settings:
        """Return the settings of the file and the environment.

        Without a file they are those of the environment, if it names a Redis. A broken file is passed over
        with a warning: while it is edited, people still steer their runs.
        """
        from coordination.branches import refuse_bases
        from coordination.settings import read_settings

        try:
            ecosystem = self.document.ecosystem
            settings = read_settings(ecosystem.settings, self._flags, folder=self.path.parent)
            refuse_bases(settings.branch_prefix, ecosystem.repos)
            return settings
        except InvalidFile:
            self.warn(f"{self.path} is invalid, so its settings are not read; see: coord validate")
            return read_settings({}, self._flags, folder=self.path.parent)
        except NotFound:
            settings = read_settings({}, self._flags)
            if self._named or not settings.redis_url:
                raise
            return settings

    @opened_once
    def ecosystem_id(self) -> str:
        """Return `coordination.id` of the file; empty without a file that can be read."""
        try:
            return self.document.ecosystem.coordination.id or ""
        except (InvalidFile, NotFound):
            return ""

    def changed_folders(self) -> list[Path]:
        """Return the folders that todos change: checkouts and worktrees. Without a file there are none."""
        from coordination.operations.state import STATE_FOLDER

        if not self.has_file:
            return []
        try:
            document = self.document
        except CoordinationError:  # a broken file declares no repositories that anything could work on
            return [self.path.parent / STATE_FOLDER]
        paths = (document.repo_path(repo) for repo in document.ecosystem.repos)
        return [*(path for path in paths if path is not None), self.path.parent / STATE_FOLDER]

    # This machine and Redis

    @opened_once
    def local(self) -> Local:
        """Return the processes of this machine that belong to the file."""
        from coordination.operations.local import Local

        return Local(self.path, self.settings)

    @opened_once
    def memory(self) -> Memory:
        """Return the history of the file: search, trends, export. Raises NotFound without a file."""
        from coordination.history.memory import Memory

        return Memory(self.path.resolve(), self.state, self.warn, self.settings, self._collect_stream)

    def _collect_stream(self, store: HistoryStore) -> None:
        """Keep the events of Redis, if it runs, in the history."""
        settings = self.settings
        if settings.history_host not in (None, settings.this_host):
            self.warn(
                f"{settings.history_host} has the whole history; this is what {settings.this_host} knows"
            )
        if self.running_redis() is None:
            return
        from coordination.history.collect import collect_stream
        from coordination.runs.views.history_figures import stream_source

        with self.reached() as connection:
            source = stream_source(connection.redis, connection.keys, self.settings)
            collect_stream(store, source, datetime.now(UTC))

    @property
    def state(self) -> Path:
        """Return the folder where a worker of this machine keeps worktrees and logs."""
        from coordination.operations.state import STATE_FOLDER

        return self.local.state if self.has_file else Path(STATE_FOLDER)

    @property
    def redis_url(self) -> str:
        """Return the URL of Redis; start the embedded server if none is configured."""
        if self._url is None:
            self._url = self.settings.redis_url or self.local.ensure_server()
        return self._url

    def running_redis(self) -> str | None:
        """Return the URL of the configured Redis, or of the embedded server if it runs. Start nothing."""
        from coordination.operations.quick_queries import running_redis

        return running_redis(self.path, self.settings)

    @property
    def connection(self) -> Connection:
        """Return the connection; the same for as long as Redis has the same address."""
        url = self.redis_url
        with lock_of(self):
            if self._connection is None or self._connection.url != url:
                from coordination.backend.address import hide_password
                from coordination.runs.connection import Connection

                namespace = self.settings.namespace
                logger.info("Redis %s, namespace %s", hide_password(url), namespace)
                path = self.path if self.has_file else None
                self._connection = Connection(
                    url, self.settings, self.ecosystem_id, path, self.changed_folders
                )
            return self._connection

    @contextmanager
    def reached(self) -> Iterator[Connection]:
        """Open Redis for the block; its errors become Unreachable."""
        from coordination.backend.client import reaching

        connection = self.connection
        with reaching(connection.url):
            yield connection

    @contextmanager
    def answering(self) -> Iterator[Connection]:
        """Open Redis as `reached` does, and check first that it answers: managers wait until an outage ends,
        and a person would have to wait with them.
        """
        with self.reached() as connection:
            connection.redis.ping()
            yield connection

    def start_worker(self, repos: Collection[str]) -> None:
        """Start the embedded server and its worker; with a configured Redis, others start workers.

        Raises PlanRefused where the checkout of a repository is missing.
        """
        if self.has_file and not self.settings.redis_url:
            self.manager.check_paths(repos)
            self.ensure_worker()

    def ensure_worker(self) -> None:
        # Celery's client takes 0.2 s to import, the worker longer to start.
        self._url = self.local.ensure_worker(meanwhile=lambda: import_module("coordination.runs.dispatch"))

    def restarted(self) -> list[str]:
        """Return the processes of this machine that were restarted since the last call. Raises Unreachable
        for one that was given up.
        """
        return self.local.news() if "local" in self.__dict__ else []

    def detach(self) -> None:
        """Keep the processes that were started here running until `coord down`."""
        if "local" in self.__dict__:
            self.local.detach()

    @opened_once
    def subscribers(self) -> Subscribers:
        """Return the functions to call with events."""
        from coordination.api.events import Subscribers

        return Subscribers(self._running_client, lambda: self.settings.namespace, self.handles)

    @opened_once
    def authority(self) -> Authority:
        """Return the checks of what this user may do."""
        from coordination.api.authority import Authority

        return Authority(self.changed_folders, self.append_events, lambda: self.settings)

    @opened_once
    def events(self) -> Events:
        """Return the events of the namespace: listed and followed."""
        from coordination.api.events import Events

        return Events(self._running_client, self.settings.namespace, self._repo_names)

    def _repo_names(self) -> tuple[str, ...]:
        return tuple(repo.name for repo in self.manager.list_repos()) if self.has_file else ()

    def _running_client(self, profile: Profile) -> Redis | None:
        """Return a new client of the server, if one runs; start none."""
        from coordination.backend.client import connect

        if (url := self.running_redis()) is None:
            return None
        return connect(url, profile, self.settings.connect_timeout)

    def ask_live(self, question: Callable[[Live], A], nothing: A) -> A:
        """Return the answer to a question about the present state of runs, or `nothing` where Redis is slow.
        Starts no server.
        """
        from coordination.operations.quick_queries import query_quickly

        try:
            seen = query_quickly(self.path, self.settings, question)
        except (CoordinationError, OSError):  # wrong settings are reported by the commands that need them
            return nothing
        return seen.answer if seen else nothing

    def live_asking(self) -> Sequence[Asked]:
        """Return the todos that wait for a person, the longest first."""
        return self.ask_live(lambda live: live.todos.asking(), ())

    def at_once(self, repos: Collection[str], limit: int | None) -> int | None:
        """Return how many todos of these repositories can execute at once: `limit`, and at most the slots of
        their living workers; where none lives, those of the worker that the embedded server gets.
        """
        living = self.ask_live(lambda live: live.slots(repos), 0)
        return min(limit or living, living) if living else self.settings.slots_beside(limit)

    def announce(self, command: str, subject: str = "", **fields: Any) -> None:
        """Write the event of an executed command, with the fields of `EventStream.append` that are not empty.
        A failure is only a warning: the command itself has succeeded.
        """
        from redis import RedisError

        from coordination.events.records import append_step, one_line

        data = {name: one_line(value) for name, value in fields.pop("data", {}).items() if value}
        events = [append_step(f"command.{command}", subject, actor=actor(), data=data, **fields)]
        granted = self.authority.granted(command, subject, fields.get("repos", ()), fields.get("run", ""))
        try:
            self.connection.events.append_all(events if granted is None else [*events, granted])
        except (CoordinationError, RedisError) as error:
            self.warn(f"the command is missing from the events: {error}")

    def announce_checks(self, outcomes: Sequence[Outcome]) -> None:
        """Write an event for each checked dependency, if a server runs; start none."""
        from coordination.events.records import append_step, one_line

        repos = {d.id: (d.consumer, d.provider) for d in self.manager.list_dependencies()}
        self.append_events(
            [
                append_step(
                    "dependency.checked",
                    outcome.id,
                    actor=actor(),
                    repos=repos.get(outcome.id, ()),
                    title=one_line(outcome.why),
                    data={"result": outcome.status, "found": one_line(outcome.found or "")},
                )
                for outcome in outcomes
            ]
        )

    def append_events(self, events: Sequence[AppendEvent]) -> None:
        """Write events if a server runs; start none."""
        from redis import RedisError

        from coordination.backend.client import Profile, connect
        from coordination.events.stream import EventStream

        try:
            if (url := self.running_redis()) is None:
                return
            with connect(url, Profile.COMMAND, self.settings.connect_timeout) as client:
                EventStream(client, self.settings.namespace).append_all(events)
        except (CoordinationError, RedisError, OSError) as error:
            logger.info("%d events are missing from the stream: %s", len(events), error)

    def executing(self) -> Mapping[str, LiveTodo] | None:
        """Return the todos of live runs by id; None if there is a Redis that gives no answer at once."""
        if not self.may_have_runs():
            return {}
        return self.ask_live(lambda live: live.todos.executing(self.ecosystem_id), None)

    def may_have_runs(self) -> bool:
        """Return whether there is a Redis to ask, without starting one."""
        try:
            return self.running_redis() is not None
        except (CoordinationError, OSError):  # wrong settings are reported by the commands that need them
            return False

    def close(self) -> None:
        """Give back what was started for this process; a run that continues waits for the next worker."""
        with ExitStack() as closing:  # each part is closed, also where another cannot be; the first one last
            if "local" in self.__dict__:
                closing.callback(self.local.leave)
            if "memory" in self.__dict__:
                closing.callback(self.memory.close)
            if self._connection:
                closing.callback(self._connection.close)
            if "subscribers" in self.__dict__:
                closing.callback(self.subscribers.stop)
