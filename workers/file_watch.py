"""Follow the ecosystem file: what it adds, moves or removes is served so, without a restart.

A file that cannot be used, for it is being edited, changes nothing. Only repositories and slots are followed; settings hold from the
next start.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import redis

from coordination.errors import Conflict, CoordinationError

if TYPE_CHECKING:
    from workers.app import Container, WorkerConfig
    from workers.pool import Consumer

LOOK_S = 0.5

Stamp = tuple[int, int, int]
logger = logging.getLogger(__name__)


class FileWatch:
    """A service: looks at the file twice a second, and reads it when it has changed and stays as it is for a look."""

    def __init__(self, file: Path, read: Callable[[], WorkerConfig]) -> None:
        """`read`: what the file, and the words with which the worker was started, ask for. Make it before they are read first."""
        self._file = file
        self._read = read
        self._before = self._known = self._stamp()
        self._told = ""
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="file", daemon=True)

    def start(self, parts: Container, consumer: Consumer) -> None:
        self._parts, self._consumer = parts, consumer
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()

    def run_once(self) -> None:
        stamp, before = self._stamp(), self._before
        self._before = stamp
        if stamp not in (None, self._known) and stamp == before:
            self._known = stamp
            self._follow()
        self._serve()

    def _stamp(self) -> Stamp | None:
        try:
            found = self._file.stat()
        except OSError:  # between two writes of an editor
            return None
        return found.st_ino, found.st_mtime_ns, found.st_size

    def _follow(self) -> None:
        try:
            asked = self._read()
        except (CoordinationError, OSError) as error:
            logger.warning("%s cannot be used, so what is served stays as it is: %s", self._file, error)
            return
        config = self._parts.config
        if asked.settings != config.settings:
            logger.info("settings have changed: they hold from the next start of this worker")
        config.served.want(asked.places)
        if asked.jobs != config.jobs:
            self._consumer.resize(asked.jobs - config.jobs)
            config.jobs = asked.jobs
            self._parts.leases.beat()

    def _serve(self) -> None:
        """Take the next step towards what is wanted: leave first, and tell the others before anything is served elsewhere."""
        parts, served = self._parts, self._parts.config.served
        if gone := served.leave():
            self._consumer.cancel(parts.queues_of(gone))
            parts.leases.say()
            logger.info("serving no more where it was: %s", ", ".join(gone))
        if new := served.take_up(self._permitted):
            parts.leases.say()
            self._consumer.serve(parts.queues_of(new))
            for repo in new:
                logger.info("serving %s at %s", repo, served[repo])
                if why := parts.config.unfit(repo):
                    logger.warning("%s: %s; its todos wait", repo, why)

    def _permitted(self, repo: str, path: Path) -> bool:
        """Whether no other worker of this host serves it from elsewhere."""
        moved = self._parts.worker.model_copy(update={"repos": (repo,), "places": {repo: os.fspath(path)}})
        try:
            self._parts.presence.refuse_clash(moved)
        except Conflict as conflict:
            if self._told != conflict.message:
                logger.warning("%s is not served at %s yet: %s", repo, path, conflict.message)
            self._told = conflict.message
            return False
        return True

    def _run(self) -> None:
        while not self._stopping.wait(LOOK_S):
            try:
                self.run_once()
            except redis.RedisError as error:
                logger.debug("the file is followed when Redis is back: %s", error)
            except Exception:
                logger.exception("following %s failed; it goes on", self._file)
