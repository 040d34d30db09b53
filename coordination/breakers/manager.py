"""A call through a breaker, and breakers by hand; a breaker is called `repo:<name>`, `resource:<name>` or `action:<name>`."""

from __future__ import annotations

import json
import os
import re
import socket
import uuid
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar, overload

from redis import Redis

from coordination.backend.keys import Keys
from coordination.backend.step_connection import StepConnection
from coordination.backend.steps import Word
from coordination.breakers.records import Breaker, BreakerState, Policy, Reset, breaker_of, reset_of
from coordination.errors import BreakerOpen, NotFound, UsageError
from coordination.text import listed

ACTION = "action"
KINDS = ("repo", "resource", ACTION)
_NAME = re.compile(rf"({'|'.join(KINDS)}):[A-Za-z0-9._-]{{1,100}}")


def check_name(name: object) -> None:
    """Raises UsageError."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise UsageError(f"{name!r} names no circuit breaker", "name it repo:NAME, resource:NAME or action:NAME")


def of_call(name: str) -> str:
    """With its kind: a bare name is one of an action. Raises UsageError."""
    whole = name if not isinstance(name, str) or ":" in name else f"{ACTION}:{name}"
    check_name(whole)
    return whole


def whole_name(name: str, tripped: Collection[str]) -> str:
    """The one of these breakers that is meant, be it by its bare name. Raises NotFound, or UsageError where two fit."""
    if ":" in name:
        check_name(name)
    fitting = [one for one in tripped if name in (one, one.partition(":")[2])]
    if len(fitting) > 1:
        raise UsageError(f"{name} may be {' or '.join(sorted(fitting))}", "name it in full")
    if not fitting:
        there = f"there are: {listed(sorted(tripped))}" if tripped else "all of them are closed, and nothing has failed"
        raise NotFound(f"the circuit breaker of {name} is at rest: there is nothing to reset", there)
    return fitting[0]


T = TypeVar("T")
Counts = type[Exception] | tuple[type[Exception], ...]
TTL = timedelta(minutes=1)
"""How long a call may take as a probe before the next one may try."""
_MS = timedelta(milliseconds=1)


class BreakerManager:
    """The breakers of a namespace; for any number of threads. Raises Unreachable where Redis does not answer."""

    def __init__(self, redis: Redis, namespace: str, *, policy: Policy | None = None) -> None:
        self._line = StepConnection(redis)
        self._keys = Keys(namespace).breakers
        self._policy = policy or Policy()

    @overload
    def call(
        self, name: str, *, ttl: timedelta = TTL, counts: Counts = Exception, policy: Policy | None = None
    ) -> AbstractContextManager[None]: ...

    @overload
    def call(
        self,
        name: str,
        action: Callable[[], T],
        *,
        ttl: timedelta = TTL,
        counts: Counts = Exception,
        policy: Policy | None = None,
    ) -> T: ...

    def call(
        self,
        name: str,
        action: Callable[[], T] | None = None,
        *,
        ttl: timedelta = TTL,
        counts: Counts = Exception,
        policy: Policy | None = None,
    ) -> T | AbstractContextManager[None]:
        """`with breakers.call("resource:db"):`, or what `breakers.call("my-action", f)` returns. A bare name is one of an
        action of your own: `action:my-action`.

        An exception of `counts` is a failure, any other one says nothing of what was called. `policy`: when this one opens, if
        not as the settings say. `ttl`: when it is the probe, so long nobody else tries. Raises BreakerOpen, with `retry_at`,
        where it must not be called now; UsageError.
        """
        called = self._called(of_call(name), ttl, counts, policy or self._policy)
        if action is None:
            return called
        with called:
            return action()

    @contextmanager
    def _called(self, name: str, ttl: timedelta, counts: Counts, policy: Policy) -> Iterator[None]:
        who = uuid.uuid4().hex
        probes = self._allowed(name, who, ttl)
        try:
            yield
        except counts as error:
            self._record(name, who, "failed", policy, f"{type(error).__name__}: {error}")
            raise
        except BaseException:
            if probes:
                self._record(name, who, "gave_up", policy)
            raise
        if probes:
            self._record(name, who, "succeeded", policy)

    def list(self) -> tuple[Breaker, ...]:
        """Those that are not at rest: not closed, or with a failure in their window; those that are not closed first."""
        read = json.loads(self._step("list"))
        found = [breaker_of(breaker) for breaker in read["breakers"]]
        return tuple(sorted(found, key=lambda breaker: (not breaker.tripped, breaker.name)))

    def reset(self, name: str, actor: str = "") -> Breaker:
        """Closes it, its failures forgotten, and wakes the todos behind it; returns it as it was. A bare name will do where
        one breaker has it. Noted in `resets`, with `actor`. Raises NotFound for one at rest; UsageError.
        """
        there = {breaker.name: breaker for breaker in self.list()}
        whole = whole_name(name, there)
        self._step("reset", whole, actor or _here())
        return there[whole]

    def resets(self, limit: int = 100) -> tuple[Reset, ...]:
        """Those that were closed by hand, latest first."""
        entries = self._line.send("XREVRANGE", self._keys.resets, "+", "-", "COUNT", limit)
        return tuple(reset_of(entry, dict(zip(words[::2], words[1::2], strict=True))) for entry, words in entries)

    def stats(self) -> Mapping[str, int]:
        """How many there are in each state, of those not at rest, and how many todos stand behind them."""
        found = self.list()
        states = Counter(breaker.state for breaker in found)
        return {**{state.value: states[state] for state in BreakerState}, "behind": sum(one.behind for one in found)}

    def close(self) -> None:
        self._line.close()

    def _allowed(self, name: str, who: str, ttl: timedelta) -> bool:
        """Whether it is the probe."""
        if not isinstance(ttl, timedelta) or ttl < _MS:
            raise UsageError(f"a ttl of {ttl} is none", "1 ms or longer, as a timedelta")
        word, *held_up = self._step("allow", name, who, _here(), ttl // _MS)
        if held_up:
            ends, why = held_up
            raise BreakerOpen(
                why,
                f"call again then, or see: coord status; when it is mended: coord reset-breaker {name}",
                datetime.fromtimestamp(int(ends) / 1000, UTC),
            )
        return bool(word == "probe")

    def _record(self, name: str, who: str, verdict: str, policy: Policy, why: str = "") -> None:
        self._step("record", name, who, verdict, why, *policy.figures)

    def _step(self, step: str, *args: Word) -> Any:
        return self._line(f"breaker/{step}", [self._keys.head], args)


def _here() -> str:
    return f"process {os.getpid()} on {socket.gethostname()}"
