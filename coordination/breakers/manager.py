"""Calls through circuit breakers, and listing and resetting breakers named `repo:<name>`, `resource:<name>`,
`agent:<name>`, `action:<name>`.
"""

from __future__ import annotations

import re
import uuid
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import TypeVar, overload

from redis import Redis

from coordination.backend.keys import Keys
from coordination.backend.step_connection import StepConnection
from coordination.backend.steps import Step
from coordination.backend.steps import breaker as steps
from coordination.breakers.records import (
    Breaker,
    BreakerState,
    Policy,
    Reset,
    breaker_of,
    is_gone,
    reset_of,
)
from coordination.durations import MS
from coordination.errors import BreakerOpen, NotFound, UsageError
from coordination.processes import ProcessIdentity, this_process
from coordination.text import listed

ACTION = "action"
KINDS = ("repo", "resource", "agent", ACTION)
_NAME = re.compile(rf"({'|'.join(KINDS)}):[A-Za-z0-9._-]{{1,100}}")


def check_name(name: object) -> None:
    """Raise UsageError for an invalid name."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise UsageError(
            f"{name!r} is not a circuit breaker",
            "name it repo:NAME, resource:NAME, agent:NAME or action:NAME",
        )


def of_call(name: str) -> str:
    """Return the name with its kind; a bare name is that of an action. Raises UsageError."""
    whole = name if not isinstance(name, str) or ":" in name else f"{ACTION}:{name}"
    check_name(whole)
    return whole


def whole_name(name: str, tripped: Collection[str]) -> str:
    """Return the full name of one of these breakers. Raises NotFound, or UsageError if a bare name is
    ambiguous.
    """
    if ":" in name:
        check_name(name)
    fitting = [one for one in tripped if name in (one, one.partition(":")[2])]
    if len(fitting) > 1:
        raise UsageError(f"{name} is ambiguous: {' or '.join(sorted(fitting))}", "use the full name")
    if not fitting:
        there = (
            f"breakers with failures: {listed(sorted(tripped))}"
            if tripped
            else "all breakers are closed without failures"
        )
        raise NotFound(f"the circuit breaker of {name} has no failures to reset", there)
    return fitting[0]


R = TypeVar("R")
T = TypeVar("T")
Counts = type[Exception] | tuple[type[Exception], ...]
TTL = timedelta(minutes=1)
"""Time that a probe may take before the next caller may try."""


class BreakerManager:
    """The breakers of a namespace. Thread-safe. Raises Unreachable if Redis does not answer."""

    def __init__(self, redis: Redis, namespace: str, *, policy: Policy | None = None) -> None:
        self._connection = StepConnection(redis)
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
        """Call through a breaker: `with breakers.call("resource:db"):`, or `breakers.call("my-action", f)`,
        which returns f's result.

        A bare name is that of an action: `action:my-action`. An exception of the types `counts` is a failure,
        others are ignored. `policy` overrides the settings. `ttl` is the time for which a probe blocks
        others. Raises BreakerOpen with `retry_at` if calls are not allowed now; UsageError.
        """
        called = self._called(of_call(name), ttl, counts, policy or self._policy)
        if action is None:
            return called
        with called:
            return action()

    @contextmanager
    def _called(self, name: str, ttl: timedelta, counts: Counts, policy: Policy) -> Iterator[None]:
        who = uuid.uuid4().hex
        probes = self.allow(name, who, ttl, this_process())
        try:
            yield
        except counts as error:
            self.record(name, who, "failed", policy, f"{type(error).__name__}: {error}")
            raise
        except BaseException:
            if probes:
                self.record(name, who, "gave_up", policy)
            raise
        if probes:
            self.record(name, who, "succeeded", policy)

    def list(self) -> tuple[Breaker, ...]:
        """Return the breakers that are not at rest: not closed, or with a failure in the window; those not
        closed come first.
        """
        listed = self._call(steps.Breakers())
        found = [breaker_of(breaker, listed.now_ms) for breaker in listed.breakers]
        return tuple(sorted(found, key=lambda breaker: (not breaker.tripped, breaker.name)))

    def reset(self, name: str, actor: str = "") -> Breaker:
        """Close a breaker, delete its failures and wake the todos behind it; return its former state.

        A bare name suffices if only one breaker has it. The reset is recorded with `actor` for `resets`.
        Raises NotFound for a breaker at rest; UsageError.
        """
        there = {breaker.name: breaker for breaker in self.list()}
        whole = whole_name(name, there)
        self._call(steps.Reset(breaker=whole, actor=actor or _here()))
        return there[whole]

    def resets(self, limit: int = 100) -> tuple[Reset, ...]:
        """Return the manual resets, latest first."""
        entries = self._connection.send("XREVRANGE", self._keys.resets, "+", "-", "COUNT", limit)
        return tuple(
            reset_of(entry, dict(zip(words[::2], words[1::2], strict=True))) for entry, words in entries
        )

    def stats(self) -> Mapping[str, int]:
        """Return the number of breakers by state, without those at rest, and the number of
        todos behind them.
        """
        found = self.list()
        states = Counter(breaker.state for breaker in found)
        return {
            **{state.value: states[state] for state in BreakerState},
            "behind": sum(one.behind for one in found),
        }

    def close(self) -> None:
        self._connection.close()

    def allow(self, name: str, who: str, ttl: timedelta, process: ProcessIdentity | None = None) -> bool:
        """Return whether the caller is the probe, which has to `record` its result. Raises BreakerOpen.

        `process`: the process whose end ends the probe; None: the probe outlives this process.
        """
        if not isinstance(ttl, timedelta) or ttl < MS:
            raise UsageError(f"invalid ttl: {ttl}", "give a duration of 1 ms or longer")
        identity = asdict(process or _UNKNOWN)
        step = steps.Allow(breaker=name, who=who, by=_here(), ttl_ms=ttl // MS, **identity)
        access = self._call(step)
        if access.prober and is_gone(access.prober):
            self.record(name, access.prober["probe"], "gave_up")  # no effect if another caller was faster
            access = self._call(step)
        if access.ends_ms is not None:
            raise BreakerOpen(
                access.why,
                f"call again then, or see: coord status; when the cause is fixed: coord breaker reset {name}",
                datetime.fromtimestamp(access.ends_ms / 1000, UTC),
            )
        return access.word == "probe"

    def end_dead_probes(self) -> tuple[str, ...]:
        """End the probes whose process on this host is gone, so that the todos behind them try again.

        Return the names of the breakers.
        """
        ended = []
        for breaker in self._call(steps.Breakers()).breakers:
            if (prober := breaker.get("prober")) and is_gone(prober):
                self.record(breaker["name"], prober["probe"], "gave_up")
                ended.append(breaker["name"])
        return tuple(ended)

    def record(self, name: str, who: str, verdict: str, policy: Policy | None = None, why: str = "") -> None:
        """Record the result of a call that began with `allow`: `succeeded`, `failed` or `gave_up`. A result
        counts once for each `who`.
        """
        failures, window_ms, open_ms = (policy or self._policy).figures
        step = steps.Record(
            breaker=name, who=who, outcome=verdict, why=why,
            failures=failures, window_ms=window_ms, open_ms=open_ms,
        )  # fmt: skip
        self._call(step)

    def _call(self, step: Step[R]) -> R:
        return self._connection(step, [self._keys.head])


_UNKNOWN = ProcessIdentity(host="", pid=0, started="")


def _here() -> str:
    process = this_process()
    return f"process {process.pid} on {process.host}"
