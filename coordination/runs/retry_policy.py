"""Decide whether a failed todo is tried again, and when.

Full jitter (Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015): a delay drawn evenly
from 0 to the growing cap spreads the second wave best.

A lost worker and an unreachable Redis are no failures of the todo, and are not decided here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import timedelta

from coordination.models import Backoff, FailureSign, Jitter, OutputSign, Retry

MIN_DELAY = timedelta(milliseconds=1)


@dataclass(frozen=True)
class Again:
    delay: timedelta


@dataclass(frozen=True)
class GiveUp:
    why: str = ""
    """Reason, if it is not the number of attempts."""


@dataclass(frozen=True, kw_only=True)
class Failure:
    """End of an attempt's command, as far as a policy depends on it."""

    exit_code: int | None = None
    """Exit code as a shell reports it: 128 + the signal for a killed command. None where coord ended it."""
    timeout: bool = False
    shows: Callable[[str], bool] = lambda _: False
    """Return whether a line of the output matches a pattern; called for no more patterns than the decision
    needs.
    """


def decide(policy: Retry, failures: int, draw: float, failure: Failure | None = None) -> Again | GiveUp:
    """Return the decision for the failure number `failures` (the first is 1); `draw` is a random number in
    [0, 1).

    `failure`: None if the todo's command did not fail itself (no worktree could be created): then its failure
    signs are not checked.
    """
    if failures >= policy.attempts:
        return GiveUp()
    if failure is not None and (why := _not_worth_it(policy, failure)):
        return GiveUp(why)
    cap = min(policy.max_delay, _growing(policy, failures))
    return Again(max(MIN_DELAY, cap * draw if policy.jitter is Jitter.FULL else cap))


def _not_worth_it(policy: Retry, failure: Failure) -> str:
    if sign := _first(policy.stop_on, failure):
        return f"not tried again: {sign} is in its stop_on"
    if policy.retry_on and not _first(policy.retry_on, failure):
        return "not tried again: it shows nothing that is in its retry_on"
    return ""


def _first(signs: Iterable[FailureSign], failure: Failure) -> str:
    """Return the first matching sign as text; signs that read the output are checked last."""
    for sign in sorted(signs, key=lambda sign: isinstance(sign, OutputSign)):
        if sign == "timeout" and failure.timeout:
            return "timeout"
        if isinstance(sign, int) and sign == failure.exit_code:
            return f"exit code {sign}"
        if isinstance(sign, OutputSign) and failure.shows(sign.output):
            return f"output {sign.output!r}"
    return ""


def _growing(policy: Retry, failures: int) -> timedelta:
    """Return the delay after so many failures, before its cap and its jitter."""
    if policy.strategy is Backoff.IMMEDIATE:
        return timedelta(0)
    # Capped here: the factor of 99 failures exceeds what a timedelta can hold.
    times = min(_times(policy, failures), policy.max_delay / policy.delay)
    return policy.delay * times


def _times(policy: Retry, failures: int) -> float:
    if policy.strategy is Backoff.LINEAR:
        return failures
    if policy.strategy is Backoff.EXPONENTIAL:
        return _power(policy.factor, failures - 1)
    return _fibonacci(failures) if policy.strategy is Backoff.FIBONACCI else 1


def _power(factor: float, exponent: int) -> float:
    try:
        return factor**exponent
    except OverflowError:
        return math.inf


def _fibonacci(n: int) -> int:
    """Return the n-th Fibonacci number: 1, 1, 2, 3, 5 …, counted from 1."""
    one, following = 1, 1
    for _ in range(n - 1):
        one, following = following, one + following
    return one
