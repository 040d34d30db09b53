"""Waiting in a queue without polling: the step that frees a name grants it to the next request and wakes its
waiter.

A waiter renews its place every second, because Redis forgets waiters that may be dead. After a second, and
every further second, it checks for a deadlock.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from secrets import token_hex
from typing import NamedTuple, TypeVar

from coordination.backend.client import ANSWER_S
from coordination.backend.keys import LockKeys
from coordination.backend.step_connection import StepConnection
from coordination.backend.steps import Step
from coordination.backend.steps import lock as steps
from coordination.backend.steps.lock import Answer, Held, Impossible, Queued
from coordination.durations import now_s
from coordination.errors import LockTimeout, Unreachable, UsageError
from coordination.locks.deadlock import Detector, verdict
from coordination.locks.request import LockTerms, Owner

LOOK_S = 1.0
"""Interval at which a waiter asks again and checks for a deadlock."""
PLACE_MS = 3000
"""Time that the place of a waiter is kept without renewal."""
PATIENCE_S = 3.0
"""Time for which an unresponsive Redis is retried, within the wait; a restart takes less."""
SHORTEST_S = 0.5
"""Minimal time to wait for an answer of a busy Redis, even if the request waits for less."""

R = TypeVar("R")


class Granted(NamedTuple):
    token: str
    party: str
    fence: int
    epoch: int
    until_s: float
    """Time until which the lock is held at least, by the local clock, measured from before the request was
    sent.
    """


class Waiting:
    def __init__(self, connection: StepConnection, keys: LockKeys, detector: Detector) -> None:
        self._connection = connection
        self._keys = keys
        self._detector = detector

    def ask(self, wants: Sequence[str], terms: LockTerms, owner: Owner) -> Granted:
        """Request the names and wait. Raises LockTimeout, DeadlockError, Unreachable, UsageError if they can
        never be granted.
        """
        request = _Request(self._connection, self._keys, wants, terms, owner)
        answer = request.ask()
        if isinstance(answer, Queued):
            answer = self._wait(request, answer)
        if isinstance(answer, Held):
            return request.granted(answer)
        if isinstance(answer, Impossible):
            raise _impossible(answer)
        raise request.taken()

    def _wait(self, request: _Request, answer: Answer) -> Answer:
        try:
            answer = self._wait_on(request, answer)
        except Unreachable:
            raise  # the request cannot be withdrawn either; its place is forgotten soon
        except BaseException:
            with suppress(Unreachable):
                request.leave()
            raise
        if not isinstance(answer, Held):
            request.leave()
        return answer

    def _wait_on(self, request: _Request, answer: Answer) -> Answer:
        look_s = request.began_s + LOOK_S
        while isinstance(answer, Queued):
            if request.left_s() <= 0:
                raise request.taken()
            woken = request.sleep(answer.ask_again_ms)
            if woken is not None and (given_way := verdict(woken)):
                raise given_way
            if woken is None and now_s() >= look_s:
                look_s = now_s() + LOOK_S
                self._detector.look(request.token)
            answer = request.grant_in(woken) or request.ask()
        return answer


class _Request:
    """A request that is sent repeatedly; its deadline counts from before it was last sent."""

    def __init__(
        self, connection: StepConnection, keys: LockKeys, wants: Sequence[str], terms: LockTerms, owner: Owner
    ) -> None:
        self.token = token_hex(16)
        self.began_s = self._asked_s = now_s()
        self._granted_ms = terms.ttl_ms
        self._connection, self._keys = connection, keys
        self._wants, self._terms, self._owner = "\n".join(wants), terms, owner
        self._wait_s = terms.wait.total_seconds()
        self._rank: int | str = ""

    def ask(self) -> Answer:
        """Send the request. It keeps its rank even if Redis has forgotten it; a lock that it holds already is
        renewed.
        """
        self._asked_s, self._granted_ms = now_s(), self._terms.ttl_ms
        answer = self._call(
            steps.Acquire(
                request=self.token,
                wants=self._wants,
                ttl_ms=self._terms.ttl_ms,
                priority=self._terms.priority,
                place_ms=PLACE_MS if self._wait_s else 0,
                rank=self._rank,
                party=self._owner.party,
                description=self._owner.fields,
            )
        )
        if isinstance(answer, Queued):
            self._rank = answer.rank
        return answer

    def granted(self, answer: Held) -> Granted:
        until_s = self._asked_s + self._granted_ms / 1000
        return Granted(self.token, self._owner.party, answer.fence, answer.epoch, until_s)

    def grant_in(self, woken: str | None) -> Held | None:
        """Return the grant that woke the request if enough of its time is left; else None, and the request
        must be sent again.

        The grant happened at an unknown time after the request was last sent. If enough is left, the renewal
        thread renews it early; sending the request again renews it at once.
        """
        if woken is None or not self._terms.keep:
            return None
        answer, self._granted_ms = steps.granted_while_waiting(woken)
        enough_s = self._granted_ms / 2000
        return answer if now_s() - self._asked_s < enough_s else None

    def left_s(self) -> float:
        return self._wait_s - (now_s() - self.began_s)

    def sleep(self, expires_ms: int) -> str | None:
        """Wait until woken or until there may be something to do; return the word of the wake-up, or None."""
        expires_s = (expires_ms + 1) / 1000 if expires_ms >= 0 else LOOK_S
        for_s = max(0.001, min(expires_s, LOOK_S, self.left_s()))
        wake = self._keys.wake(self.token)
        answer = self._connection.send(
            "BLPOP", wake, f"{for_s:.3f}", patience_s=self._patience_s(for_s), blocks_s=for_s
        )
        return answer[1] if answer else None

    def leave(self) -> None:
        """Withdraw the request, and release it if it was granted in the meantime."""
        self._call(steps.GiveBack(requests=(self.token,)))

    def taken(self) -> LockTimeout:
        holders = self._call(steps.Holders(wants=self._wants))
        labels = [holder.label for holder in holders if holder.label]
        who = "; ".join(map(_holder_text, holders)) or "another request comes first"
        waited = f"not granted within {self._wait_s:g} s" if self._wait_s else "taken"
        return LockTimeout(
            f"{_names(self._wants)} {waited}: {who}", "wait longer, or try again later", labels
        )

    def _call(self, step: Step[R]) -> R:
        return self._connection(step, [self._keys.head], patience_s=self._patience_s())

    def _patience_s(self, after_s: float = 0) -> float:
        if not self._wait_s:
            return ANSWER_S
        return min(PATIENCE_S, max(SHORTEST_S, self.left_s() - after_s))


def _names(wants: str) -> str:
    return ", ".join(want.split(" ", 1)[1].replace(":", " ", 1) for want in wants.split("\n"))


def _holder_text(holder: steps.BlockingHolder) -> str:
    left = f", for {holder.expires_ms / 1000:.1f} s unless renewed" if holder.expires_ms >= 0 else ""
    name = holder.name.partition(":")[2]
    return f"{name} is held by {holder.label or 'a process'} (process {holder.pid} on {holder.host}{left})"


def _impossible(answer: Impossible) -> UsageError:
    name = answer.name.partition(":")[2]
    if answer.capacity:
        return UsageError(
            f"{name} has a capacity of {answer.capacity}, less than requested", "request less at once"
        )
    return UsageError(
        f"there is no resource {name}",
        "declare it with its capacity in the file's `resources`, or by resources.declare",
    )
