"""The maintenance leader's receiver: it takes requests of restricted workers in turn, has them executed and
replies.
"""

from __future__ import annotations

import logging
import re
from collections import deque
from typing import Any

import redis
from pydantic_core import from_json, to_json

from coordination.backend.error_messages import cannot_write
from coordination.backend.keys import Keys
from coordination.background import BackgroundService
from coordination.cache.names import check_request
from coordination.errors import NotAllowed, UsageError
from coordination.runs.remote_steps.calls import REFUSALS
from coordination.runs.remote_steps.handlers import StepHandlers

TICK_S = 0.2
ANSWER_KEPT_S = 60
READ_AT_ONCE = 1000
"""Greatest number of messages that are read before the next request is served."""
WAITING = 1000
WAITING_BYTES = 32 * 1024 * 1024
"""Limits of the waiting requests of one sender, in number and bytes. Further requests are dropped: a worker
sends its request again, and a flood is harmless.
"""
_HEAD = re.compile(rb'\{"id":"(?P<id>[0-9a-f]{32})","step":"(?P<step>[a-z_]{1,32})"')
"""Beginning of a request as coord writes it; it is read before the request is parsed."""

logger = logging.getLogger(__name__)


class CallQueue:
    """Queue of received requests: senders take turns, so that none delays the others, and a sender's lease
    renewals come first.
    """

    def __init__(self) -> None:
        self._turns: dict[str, deque[bytes]] = {}

    def __bool__(self) -> bool:
        return any(self._turns.values())

    def add(self, channel: str, data: bytes) -> None:
        waiting = self._turns.setdefault(channel, deque())
        if len(waiting) == WAITING or sum(map(len, waiting)) + len(data) > WAITING_BYTES:
            logger.warning("a request on %s is dropped: %d wait", channel, len(waiting))
        elif (head := _HEAD.match(data)) and head["step"] == b"renew":
            waiting.appendleft(data)
        else:
            waiting.append(data)

    def take(self) -> tuple[str, bytes] | None:
        """Return the next request; its sender is then the last in turn."""
        for channel in tuple(self._turns):
            waiting = self._turns.pop(channel)
            if waiting:
                data = waiting.popleft()
                self._turns[channel] = waiting
                return channel, data
        return None


class StepServer(BackgroundService):
    """Background service of the maintenance leader.

    Only the leader is subscribed, so one process receives a request, and its sender learns if none did.
    """

    name = "serving"
    interval_s = 0.0
    """A round waits for a request itself."""
    first_at_once = True

    def __init__(
        self,
        client: redis.Redis,
        pubsub_redis: redis.Redis,
        keys: Keys,
        handlers: StepHandlers,
    ) -> None:
        """`pubsub_redis` must return bytes: published data may not be text."""
        super().__init__()
        self._redis = client
        self._keys = keys
        self._handlers = handlers
        self._waiting = CallQueue()
        self._pubsub_redis = pubsub_redis.pubsub(ignore_subscribe_messages=True)

    def run_once(self) -> bool:
        """Wait a moment for a request; return whether there was one."""
        if not self._pubsub_redis.subscribed:
            self._pubsub_redis.psubscribe(self._keys.all_requests)
        if (request := self._next_request()) is None:
            return False
        self._serve(*request)
        return True

    def _next_request(self) -> tuple[str, bytes] | None:
        """Read all pending messages; return the request to serve next."""
        timeout = 0.0 if self._waiting else TICK_S
        for _ in range(READ_AT_ONCE):
            if (message := self._pubsub_redis.get_message(timeout=timeout)) is None:
                break
            self._waiting.add(message["channel"].decode(), message["data"])
            timeout = 0.0
        return self._waiting.take()

    def _serve(self, channel: str, data: bytes) -> None:
        repos = self._keys.asking(channel)
        try:
            check_request(data, self._handlers.value_bytes)
        except UsageError as error:
            logger.warning("refused a request of a worker of %s: %s", ", ".join(sorted(repos)), error.message)
            if head := _HEAD.match(data):
                refused = [UsageError.__name__, error.message, error.hint]
                self._reply(repos, head["id"].decode(), {"refused": refused})
            return
        try:
            fields = from_json(data)
            request, step, arguments = str(fields["id"]), str(fields["step"]), dict(fields["given"])
        except (ValueError, KeyError, TypeError) as error:
            logger.warning("a request for %s cannot be read: %s", ", ".join(sorted(repos)), error)
            return
        # A request that was sent again has its reply already.
        if not self._redis.exists(self._keys.restricted(repos).reply(request)):
            self._reply(repos, request, self._answer(repos, step, arguments))

    def _reply(self, repos: frozenset[str], request: str, answer: dict[str, Any]) -> None:
        reply = self._keys.restricted(repos).reply(request)
        with self._redis.pipeline(transaction=True) as pipeline:
            pipeline.rpush(reply, to_json(answer))
            pipeline.expire(reply, ANSWER_KEPT_S)
            pipeline.execute()

    def _answer(self, repos: frozenset[str], step: str, arguments: dict[str, Any]) -> dict[str, Any]:
        try:
            return {"done": self._handlers.execute(repos, step, arguments)}
        except REFUSALS as refused:
            logger.warning(
                "refused a request of a worker of %s: %s", ", ".join(sorted(repos)), refused.message
            )
            kind = next(kind for kind in REFUSALS if isinstance(refused, kind))
            return {"refused": [kind.__name__, refused.message, refused.hint]}
        except (redis.ResponseError, ValueError) as error:
            if isinstance(error, redis.ResponseError) and cannot_write(error):
                raise  # a temporary error
            logger.error("%s for a worker of %s cannot be done: %s", step, ", ".join(sorted(repos)), error)
            return {"refused": [NotAllowed.__name__, f"the records of the run are damaged: {error}", ""]}

    def failed(self, error: Exception) -> float:
        """Log the error: the service goes on, or every restricted worker would wait for ever."""
        if not isinstance(error, redis.RedisError):
            return super().failed(error)  # the worker sends its request again
        logger.warning("Redis does not answer, restricted workers wait: %s", error)
        self._pubsub_redis.reset()
        return TICK_S

    def finish(self) -> None:
        self._pubsub_redis.close()
