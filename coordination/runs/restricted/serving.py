"""The keeper that leads hears the requests of restricted workers, and answers them."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

import redis
from pydantic_core import from_json, to_json

from coordination.errors import NotAllowed
from coordination.runs.restricted.deeds import Deeds
from coordination.runs.restricted.proxy import REFUSALS
from coordination.wire.keys import Keys
from coordination.wire.trouble import cannot_write

TICK_S = 0.2
ANSWER_KEPT_S = 60

logger = logging.getLogger(__name__)


class Serving:
    """A thread beside each keeper. One that does not lead is not subscribed: a request is heard once, and never by nobody
    without its sender knowing.
    """

    def __init__(
        self, client: redis.Redis, ears: redis.Redis, keys: Keys, deeds: Deeds, leads: Callable[[], bool]
    ) -> None:
        """`ears` must answer in bytes: what somebody publishes may be no text."""
        self._redis = client
        self._keys = keys
        self._deeds = deeds
        self._leads = leads
        self._ears = ears.pubsub(ignore_subscribe_messages=True)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="serving", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(timeout=5)

    def run_once(self) -> bool:
        """Waits a moment for a request; returns whether there was one."""
        if not self._leads():
            self._ears.reset()
            self._stopping.wait(TICK_S)
            return False
        if not self._ears.subscribed:
            self._ears.psubscribe(self._keys.all_requests)
        message = self._ears.get_message(timeout=TICK_S)
        if message is None:
            return False
        self._serve(message["channel"].decode(), message["data"])
        return True

    def _serve(self, channel: str, data: bytes) -> None:
        repos = self._keys.asking(channel)
        try:
            asked = from_json(data)
            request, deed, given = str(asked["id"]), str(asked["deed"]), dict(asked["given"])
        except (ValueError, KeyError, TypeError) as error:
            logger.warning("a request for %s cannot be read: %s", ", ".join(sorted(repos)), error)
            return
        reply = self._keys.restricted(repos).reply(request)
        if self._redis.exists(reply):  # asked again, and answered in the meantime
            return
        with self._redis.pipeline(transaction=True) as pipeline:
            pipeline.rpush(reply, to_json(self._answer(repos, deed, given)))
            pipeline.expire(reply, ANSWER_KEPT_S)
            pipeline.execute()

    def _answer(self, repos: frozenset[str], deed: str, given: dict[str, Any]) -> dict[str, Any]:
        try:
            return {"done": self._deeds.do(repos, deed, given)}
        except REFUSALS as refused:
            logger.warning("refused to a worker of %s: %s", ", ".join(sorted(repos)), refused.message)
            kind = next(kind for kind in REFUSALS if isinstance(refused, kind))
            return {"refused": [kind.__name__, refused.message, refused.hint]}
        except (redis.ResponseError, ValueError) as error:
            if isinstance(error, redis.ResponseError) and cannot_write(error):
                raise  # that may pass
            logger.error("%s for a worker of %s cannot be done: %s", deed, ", ".join(sorted(repos)), error)
            return {"refused": [NotAllowed.__name__, f"the records of the run are damaged: {error}", ""]}

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self.run_once()
            except redis.RedisError as error:
                logger.warning("Redis does not answer, restricted workers wait: %s", error)
                self._ears.reset()
                self._stopping.wait(TICK_S)
            except Exception:
                # Else every restricted worker would wait for ever. This one asks again, and is heard again.
                logger.exception("a request failed")
        self._ears.close()
