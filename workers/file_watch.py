"""Follow the ecosystem file: serve what it adds, moves or removes without a restart.

A file that cannot be used, for it is being edited, changes nothing. Only repositories and slots are followed;
settings hold from the next start.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path

import redis

from coordination.background import BackgroundService
from coordination.errors import Conflict, CoordinationError
from workers.app import Container
from workers.config import WorkerConfig
from workers.consumer import Consumer

LOOK_S = 0.5

Stamp = tuple[int, int, int]
logger = logging.getLogger(__name__)


class FileWatch(BackgroundService):
    """Look at the file twice a second, and read it when it has changed and stayed as it is for a look."""

    name = "file-watch"
    interval_s = LOOK_S
    join_s = 0.0

    def __init__(self, file: Path, read: Callable[[], WorkerConfig]) -> None:
        """`read` returns the configuration that file and arguments ask for.

        Make the watch before the first read.
        """
        super().__init__()
        self._file = file
        self._read = read
        self._before = self._known = self._stamp()
        self._conflict = ""

    def follow(self, container: Container, consumer: Consumer) -> None:
        """Start, for the worker of this container and consumer."""
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
        """Read the file, and want what it says."""
        try:
            wanted = self._read()
        except (CoordinationError, OSError) as error:
            logger.warning("%s cannot be used, so the served repositories stay: %s", self._file, error)
            return
        if wanted.settings != self._settings:
            logger.info("settings have changed: they apply from the next start of this worker")
        served = self._container.served
        served.want(wanted.places)
        if wanted.jobs != served.jobs:
            self._consumer.resize(wanted.jobs - served.jobs)
            served.jobs = wanted.jobs
            self._container.leases.wake()

    def _serve(self) -> None:
        """Take a step towards the wanted repositories: leave and announce that before serving others."""
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
            self._container.presence.refuse_clash(moved)
        except Conflict as conflict:
            if self._conflict != conflict.message:
                logger.warning("%s is not served at %s yet: %s", repo, path, conflict.message)
            self._conflict = conflict.message
            return False
        return True
