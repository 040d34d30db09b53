"""What a worker does besides todos: errands that a command has written for every worker, and the janitor's rounds.

In a thread of its own, for an errand may take minutes. Two workers that share a state folder take turns: the second finds
gone what the first has taken.
"""

from __future__ import annotations

import fcntl
import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

import redis
from pydantic import ValidationError

from coordination.errors import CoordinationError
from coordination.runs.cleaning import Answer, Errand, Remnant
from coordination.runs.presence import Worker
from coordination.runs.store import RunStore
from workers.janitor import Janitor
from workers.remains import Remains

if TYPE_CHECKING:
    from workers.app import Charge

LOOK_EVERY_S = 5.0
"""For an errand whose bell was missed."""
JANITOR_EVERY_S = 60.0
ANSWER_KEPT = timedelta(hours=1)

logger = logging.getLogger(__name__)


class Errands:
    def __init__(self, store: RunStore, reader: redis.Redis, worker: Worker, charge: Charge, janitor: Janitor) -> None:
        self._store = store
        self._reader = reader
        self._worker = worker
        self._charge = charge
        self._janitor = janitor
        self._next_round = time.monotonic() + JANITOR_EVERY_S
        self._answered: set[str] = set()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="errands", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()

    def run_once(self) -> list[Errand]:
        """The errands that are new; returns those that were carried out."""
        rows = self._store.redis.hgetall(self._store.keys.errands)
        self._answered &= rows.keys()
        errands = [_read(row) for errand_id, row in rows.items() if errand_id not in self._answered]
        self._answered |= rows.keys()
        due = [errand for errand in errands if errand and errand.until_ms > self._store.now_ms()]
        for errand in due:
            self._answer(errand, Answer(host=self._worker.host))
            self._answer(errand, self._carry_out(errand))
        return due

    def _carry_out(self, errand: Errand) -> Answer:
        try:
            with self._turn():
                found = tuple(self._found(errand))
        except (CoordinationError, OSError) as error:
            logger.exception("an errand failed")
            return Answer(host=self._worker.host, done=True, error=str(error))
        return Answer(host=self._worker.host, done=True, found=found)

    def _found(self, errand: Errand) -> Iterator[Remnant]:
        remains = Remains(self._charge.state, self._charge.places)
        runs = remains.runs() if errand.runs is None else errand.runs
        for run in runs:
            if run not in errand.spare:
                found = remains.of(run, errand.tips.get(run, {}), branches=errand.branches)
                yield from map(remains.remove, found) if errand.remove else found

    @contextmanager
    def _turn(self) -> Iterator[None]:
        self._charge.state.mkdir(parents=True, exist_ok=True)
        with (self._charge.state / "errands.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _answer(self, errand: Errand, answer: Answer) -> None:
        key = self._store.keys.errand(errand.id)
        with self._store.redis.pipeline() as pipeline:
            pipeline.hset(key, self._worker.id, answer.model_dump_json())
            pipeline.expire(key, ANSWER_KEPT)
            pipeline.execute()

    def _run(self) -> None:
        bell = self._reader.pubsub(ignore_subscribe_messages=True)
        while not self._stopping.is_set():
            try:
                if not bell.subscribed:
                    bell.subscribe(self._store.keys.bell)
                self.run_once()
                self._clear_up()
                bell.get_message(timeout=LOOK_EVERY_S)
            except redis.RedisError as error:
                logger.debug("Redis does not answer: %s", error)  # the heartbeat says so already
                bell.reset()
                self._stopping.wait(LOOK_EVERY_S)
            except Exception:
                # Nobody else does errands here.
                logger.exception("an errand failed; the next one follows")
                self._stopping.wait(LOOK_EVERY_S)
        bell.close()

    def _clear_up(self) -> None:
        if time.monotonic() >= self._next_round:
            self._next_round = time.monotonic() + JANITOR_EVERY_S
            self._janitor.run_once()


def _read(row: str) -> Errand | None:
    try:
        return Errand.model_validate_json(row)
    except ValidationError as error:  # of another version
        logger.warning("an errand cannot be read: %s", error)
        return None
