"""The worker process: its command line, a Celery worker with threads, its signals, and the watch of the file.

Todos are child processes, so a thread that waits for one costs little, and Celery's time limits are not
needed. Celery's soft shutdown does nothing with threads. Here the first TERM (or Ctrl-C) stops consuming and
lets running todos finish; the second kills the children, hands their todos back, and ends the process.

The process follows repositories that the ecosystem file adds, moves or removes, without a restart. An invalid
file, for example one that is being edited, changes nothing. Only repositories and slots are followed;
settings take effect at the next start.
"""

from __future__ import annotations

import argparse
import faulthandler
import logging
import os
import re
import signal
import sys
import threading
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import repeat
from pathlib import Path
from types import FrameType
from typing import Any

import redis
from celery import signals
from celery.apps.worker import Worker as CeleryWorker
from celery.worker import state

from coordination.backend.client import reaching
from coordination.backend.server_check import refuse_unfit
from coordination.background import BackgroundService
from coordination.environment import hide_process, refuse_in_todo
from coordination.errors import Conflict, CoordinationError, Unreachable, Unusable
from coordination.files import close_to_others
from coordination.processes import DUMP_STACKS
from coordination.retry import retried
from coordination.terminal import protect
from workers.celery_worker import Consumer
from workers.config import WorkerConfig, argument_parser, ecosystem_file, read_config
from workers.container import Container

EXIT_HANDED_BACK = 143
"""128 + TERM: running todos were handed back, unfinished."""

REDIS_RETRY_S = 0.5
LOOK_S = 0.5
LOG_FORMAT = "%(asctime)s %(levelname)s %(threadName)s %(name)s: %(message)s"
REPEATED_AFTER_S = 60.0
REMEMBERED = 1000
_NUMBERED = ("celery.", "kombu.")
"""Loggers that put the number of a try into their lines."""
_NUMBER = re.compile(r"\d+")

Stamp = tuple[int, int, int]

logger = logging.getLogger(__name__)


def main(argv: Sequence[str] | None = None) -> int:
    """Serve the repositories that the arguments name; return the exit code."""
    protect()
    hide_process()
    arguments = argument_parser().parse_args(argv)
    logging.raiseExceptions = False  # after a full disk, the log would get a traceback for each line
    # Works in a process that hangs as well, and needs no thread of it.
    faulthandler.register(DUMP_STACKS, file=sys.stderr)
    log = logging.StreamHandler(sys.stderr)
    log.addFilter(RateLimitedLog())
    logging.basicConfig(level=logging.INFO, format=LOG_FORMAT, handlers=[log])
    # Celery's line for each delivery does not name the todo.
    logging.getLogger("celery.app.trace").setLevel(logging.WARNING)
    logging.getLogger("celery.worker.strategy").setLevel(logging.WARNING)
    # Celery's warning to root names an option of its own, which this program does not have.
    warnings.filterwarnings("ignore", message="You're running the worker with superuser privileges")
    try:
        refuse_in_todo("a worker")
        watch = _watch(arguments)
        config = read_config(arguments)
        _close_state(config.state)
        with reaching(config.redis_url):
            # The Redis user of a restricted worker fixes its repositories, so it does not follow the file.
            return WorkerProcess(make_container(config), None if config.settings.restricted else watch).run()
    except CoordinationError as error:
        print(f"coord worker: {error}", file=sys.stderr)  # noqa: T201 -- a program prints its errors
        return error.exit_code


def _close_state(state: Path) -> None:
    """Make files in the state folder private, and log those that other users could read."""
    if mended := close_to_others(state):
        shown = ", ".join(map(str, mended[:3]))
        logging.warning(
            "other users of this machine could read %d files in %s (%s …): closed", len(mended), state, shown
        )


def make_container(config: WorkerConfig) -> Container:
    if not config.settings.restricted:
        return Container(config)
    from workers.restricted import RestrictedContainer  # other workers send no requests to a leader

    return RestrictedContainer(config)


@contextmanager
def refusals_explained(config: WorkerConfig) -> Iterator[None]:
    """Explain which rights are missing where Redis refuses the start."""
    try:
        yield
    except redis.exceptions.NoPermissionError as error:
        names = " ".join(f"--repo {repo}" for repo in sorted(config.places))
        if config.settings.restricted:
            hint = (
                "a restricted worker serves exactly the repositories of its user: "
                f"coord acl --role worker {names}"
            )
        else:
            hint = (
                "if its user is for these repositories alone (coord acl --role worker), say so: "
                "COORD_RESTRICTED=true"
            )
        raise Unusable(f"Redis does not permit it: {error}", hint) from error


def _watch(arguments: argparse.Namespace) -> FileWatch | None:
    """Return the watch of the ecosystem file; None without a file, and for a keeper, which serves none."""
    path = ecosystem_file(arguments.ecosystem)
    return FileWatch(path, partial(read_config, arguments)) if path and not arguments.keeper else None


class WorkerProcess:
    def __init__(self, container: Container, watch: FileWatch | None = None) -> None:
        self._container = container
        self._watch = watch
        self._stop_signals = 0
        self._services: Sequence[BackgroundService] = ()

    def run(self) -> int:
        """Serve until a signal stops this process; return the exit code."""
        container = self._container
        self._handle_signals()
        if not self._signed_on():
            return os.EX_OK
        app = container.registered()
        # Made now: Celery logs an error of `_ready` and goes on, a worker without its services.
        self._services = container.services
        # Celery's worker would install its own handlers when it starts.
        app.Worker = app.subclass_with_self(
            CeleryWorker, name="Worker", install_platform_tweaks=self._handle_signals
        )
        signals.setup_logging.connect(_keep_our_logging, weak=False)
        signals.worker_ready.connect(self._ready, weak=False)
        signals.worker_shutdown.connect(self._stopped, weak=False)
        worker = app.Worker(
            hostname=container.worker.id,
            pool_cls="workers.celery_worker:Threads",
            consumer_cls="workers.celery_worker:Consumer",
            concurrency=container.config.jobs,
            queues=container.queues,
            quiet=True,
            without_gossip=True,
            without_mingle=True,
        )
        worker.start()
        return int(worker.exitcode or 0)

    def _signed_on(self) -> bool:
        """Sign on before the worker consumes messages; return False if a signal came first. Wait for a Redis
        that does not answer yet. Raises Unusable.
        """
        for repo in self._container.served:
            if why := self._container.served.unfit(repo):
                logger.warning("%s: %s; its todos wait", repo, why)
        logged = ""

        def passes(error: Exception, _pause_s: float) -> bool:
            nonlocal logged
            if self._stop_signals or isinstance(error, Unusable) or not isinstance(error, Unreachable):
                return False
            if logged != error.message:  # once for each cause, not twice a second
                logger.warning("%s; asking again until it does", error.message)
            logged = error.message
            return True

        try:
            retried(self._sign_on, repeat(REDIS_RETRY_S), passes)
        except Unreachable as error:
            if isinstance(error, Unusable) or not self._stop_signals:
                raise
            return False
        return True

    def _sign_on(self) -> None:
        url = self._container.config.redis_url
        with reaching(url):
            for finding in refuse_unfit(self._container.redis, url):
                logger.warning("Redis: %s; %s", finding.what, finding.hint)
            with refusals_explained(self._container.config):
                self._container.sign_on()

    def _ready(self, sender: Consumer, **_: Any) -> None:
        for service in self._services:
            service.start()
        if self._watch is not None:
            self._watch.follow(self._container, sender)
        logger.info("serving %s", ", ".join(self._container.served))

    def _stopped(self, **_: Any) -> None:
        if self._watch is not None:
            self._watch.stop()
        for service in (*self._container.waits, *reversed(self._services)):
            service.stop()
        self._container.leases.leave()

    def _handle_signals(self, _worker: object = None) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        self._stop_signals += 1
        state.should_stop = os.EX_OK
        if self._stop_signals == 1:
            logger.info(
                "stopping when running todos have finished; a second signal returns them to the queue"
            )
        else:
            # Not in the handler: it may have interrupted a thread that holds a lock which this needs.
            threading.Thread(target=self._hand_back, name="hand-back").start()

    def _hand_back(self) -> None:
        self._container.hand_back_all()
        self._stopped()
        os._exit(EXIT_HANDED_BACK)


def _keep_our_logging(**_: Any) -> None:
    """Do nothing: Celery configures no logging if this signal has a receiver."""


class FileWatch(BackgroundService):
    """Look at the file twice a second, and read it when it has changed and is the same at two looks."""

    name = "file-watch"
    interval_s = LOOK_S
    join_s = 0.0

    def __init__(self, file: Path, read: Callable[[], WorkerConfig]) -> None:
        """`read` returns the configuration from the file and the arguments. Make the watch before the first
        read: a change between the two is then seen.
        """
        super().__init__()
        self._file = file
        self._read = read
        self._before = self._known = self._stamp()
        self._conflict = ""

    def follow(self, container: Container, consumer: Consumer) -> None:
        """Start to follow the file, for the worker with this container and consumer."""
        self._container, self._consumer = container, consumer
        self._settings = container.config.settings
        self.start()

    def run_once(self) -> None:
        stamp, before = self._stamp(), self._before
        self._before = stamp
        if stamp not in (None, self._known) and stamp == before:
            self._known = stamp
            self._take_over()
        self._serve()

    def failed(self, error: Exception) -> float:
        if not isinstance(error, redis.RedisError):
            return super().failed(error)
        logger.debug("the file is followed when Redis is back: %s", error)
        return self.interval_s

    def _stamp(self) -> Stamp | None:
        try:
            found = self._file.stat()
        except OSError:  # between two writes of an editor
            return None
        return found.st_ino, found.st_mtime_ns, found.st_size

    def _take_over(self) -> None:
        """Read the file, and set the repositories and slots of this worker."""
        try:
            config = self._read()
        except (CoordinationError, OSError) as error:
            logger.warning("%s cannot be used, so the served repositories stay: %s", self._file, error)
            return
        if config.settings != self._settings:
            logger.info("settings have changed: they apply from the next start of this worker")
        served = self._container.served
        served.serve_from_now_on(config.places)
        if config.jobs != served.jobs:
            self._consumer.resize(config.jobs - served.jobs)
            served.jobs = config.jobs
            self._container.leases.wake()

    def _serve(self) -> None:
        """Leave repositories that the file no longer names, and announce that, before serving new ones."""
        container, served = self._container, self._container.served
        if gone := served.leave():
            self._consumer.cancel(container.queues_of(gone))
            container.leases.announce()
            logger.info("no longer served where it was: %s", ", ".join(gone))
        if new := served.join(self._permitted):
            container.leases.announce()
            self._consumer.serve(container.queues_of(new))
            for repo in new:
                logger.info("serving %s at %s", repo, served[repo])
                if why := served.unfit(repo):
                    logger.warning("%s: %s; its todos wait", repo, why)

    def _permitted(self, repo: str, path: Path) -> bool:
        """Return whether no other worker of this host serves the repository from another folder."""
        moved = self._container.worker.model_copy(
            update={"repos": (repo,), "places": {repo: os.fspath(path)}}
        )
        try:
            self._container.registry.refuse_clash(moved)
        except Conflict as conflict:
            if self._conflict != conflict.message:
                logger.warning("%s is not served at %s yet: %s", repo, path, conflict.message)
            self._conflict = conflict.message
            return False
        return True


class RateLimitedLog(logging.Filter):
    """Drop a warning that the same logger has written within the last minute; the next one that is written
    says how many were dropped.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._logged: dict[tuple[str, str], float] = {}
        self._dropped: Counter[tuple[str, str]] = Counter()

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno < logging.WARNING:
            return True
        now, line = self._clock(), (record.name, _without_numbers(record))
        if now - self._logged.get(line, -REPEATED_AFTER_S) < REPEATED_AFTER_S:
            self._dropped[line] += 1
            return False
        if len(self._logged) >= REMEMBERED:
            self._logged.clear()
            self._dropped.clear()
        self._logged[line] = now
        if dropped := self._dropped.pop(line, 0):
            record.msg, record.args = f"{record.getMessage()} (and {dropped} times before)", None
        return True


def _without_numbers(record: logging.LogRecord) -> str:
    """Return the message, without numbers if its logger counts tries. In messages of other loggers a number
    names a todo, run or process.
    """
    line = record.getMessage()
    return _NUMBER.sub("#", line) if record.name.startswith(_NUMBERED) else line
