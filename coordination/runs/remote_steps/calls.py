"""Requests of restricted workers: the worker sends each step of its store, cleanup queue and worker registry
to the maintenance leader.
"""

from __future__ import annotations

import inspect
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import Any, Concatenate, ParamSpec, TypeVar, cast, get_type_hints

import redis
from pydantic import TypeAdapter
from pydantic_core import from_json, to_json

from coordination.backend.keys import Keys
from coordination.cache.entries import NoRoom
from coordination.errors import Conflict, NotAllowed, UsageError
from coordination.runs.attempt_store import AttemptStore
from coordination.runs.cleanup_jobs import CleanupQueue
from coordination.runs.run_contexts import ContextCalls
from coordination.runs.worker_registry import WorkerRegistry

P = ParamSpec("P")
S = TypeVar("S")
T = TypeVar("T")

TRIES = 3
ANSWER_S = 1
UNHEARD_S = 1.0
"""Pause before the next try; all tries together outlast a change of leader (2 s and a round)."""
REFUSALS = (Conflict, NotAllowed, UsageError, NoRoom)
"""Errors that the leader passes on to the worker."""


class NobodyAnswers(redis.ConnectionError):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__(
            "no maintenance leader answers this restricted worker: start one with `coord keeper`"
        )


class StepClient:
    """Client of a restricted worker of these repositories; sends requests to the maintenance leader."""

    def __init__(self, client: redis.Redis, keys: Keys, repos: Iterable[str]) -> None:
        self._redis = client
        self._keys = keys.restricted(repos)

    def ask(self, step: str, arguments: Mapping[str, Any]) -> Any:
        """Return the step's result as JSON values. Raise the error of a refusal, or NobodyAnswers."""
        request = uuid.uuid4().hex
        message = to_json({"id": request, "step": step, "given": arguments})
        for _ in range(TRIES):
            receivers = self._redis.publish(self._keys.requests, message)
            answer = self._redis.blpop([self._keys.reply(request)], timeout=ANSWER_S) if receivers else None
            if answer:
                return _result(from_json(answer[1]))
            if not receivers:
                time.sleep(UNHEARD_S)
        raise NobodyAnswers


def _result(answer: Mapping[str, Any]) -> Any:
    if "refused" not in answer:
        return answer["done"]
    name, message, hint = answer["refused"]
    raise next(kind for kind in REFUSALS if kind.__name__ == name)(message, hint)


def _remote(method: Callable[Concatenate[S, P], T]) -> Callable[Concatenate[S, P], T]:
    """Return a method of the same name, arguments and result that the leader executes."""

    @cache  # all methods together take 30 ms, which unrestricted workers do not pay
    def types() -> tuple[inspect.Signature, TypeAdapter[T]]:
        return inspect.signature(method), TypeAdapter[T](get_type_hints(method)["return"])

    def ask(self: Any, *args: P.args, **kwargs: P.kwargs) -> T:
        signature, answer = types()
        _, *arguments = signature.bind(self, *args, **kwargs).arguments.items()
        return answer.validate_python(self.client.ask(method.__name__, dict(arguments)))

    return cast("Callable[Concatenate[S, P], T]", ask)


class ProxyStore(AttemptStore):
    """The steps of a worker, executed by the leader, which also follows the replies."""

    def __init__(self, client: redis.Redis, namespace: str, repos: Iterable[str]) -> None:
        super().__init__(client, namespace)
        self.client = StepClient(client, self.keys, repos)

    claim = _remote(AttemptStore.claim)
    renew = _remote(AttemptStore.renew)
    settle = _remote(AttemptStore.settle)
    retry = _remote(AttemptStore.retry)
    hand_back = _remote(AttemptStore.hand_back)
    park = _remote(AttemptStore.park)
    hold_up = _remote(AttemptStore.hold_up)
    checkpoint = _remote(AttemptStore.checkpoint)
    note_usage = _remote(AttemptStore.note_usage)
    status = _remote(AttemptStore.status)
    brief = _remote(AttemptStore.brief)
    signed = _remote(AttemptStore.signed)
    handed_over = _remote(AttemptStore.handed_over)
    log = _remote(AttemptStore.log)
    refused = _remote(AttemptStore.refused)
    distrust = _remote(AttemptStore.distrust)
    secrets_read = _remote(AttemptStore.secrets_read)


class ProxyCleanupQueue(CleanupQueue):
    def __init__(self, store: ProxyStore) -> None:
        super().__init__(store.redis, store.keys)
        self.client = store.client

    cleanup_jobs = _remote(CleanupQueue.cleanup_jobs)
    answer = _remote(CleanupQueue.answer)


class ProxyPresence(WorkerRegistry):
    def __init__(self, store: ProxyStore) -> None:
        super().__init__(store.redis, store.keys)
        self.client = store.client

    meet = _remote(WorkerRegistry.meet)
    refuse_clash = _remote(WorkerRegistry.refuse_clash)
    say = _remote(WorkerRegistry.say)
    leave = _remote(WorkerRegistry.leave)


class ProxyContexts(ContextCalls):
    def __init__(self, store: ProxyStore) -> None:
        self.client = store.client

    context_get = _remote(ContextCalls.context_get)
    context_set = _remote(ContextCalls.context_set)
    context_delete = _remote(ContextCalls.context_delete)
    context_list = _remote(ContextCalls.context_list)

    def context_compute(self, *_: Any, **__: Any) -> str:
        raise NotAllowed(
            "the worker of this todo is restricted, and has no lock under which one todo of many computes",
            "get the value, and set it if there is none",
        )

    def close(self) -> None:
        """Do nothing: no connection is open."""
