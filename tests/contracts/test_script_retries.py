"""Actions of a script's own: behind a breaker of their name, and tried again by the rules of a todo."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest
import redis

from coordination.api.coord import retrying
from coordination.breakers.manager import BreakerManager
from coordination.breakers.records import BreakerState, Policy
from coordination.errors import BreakerOpen, UsageError

AT_ONCE = {"strategy": "immediate", "attempts": 5}


@pytest.fixture
def breakers(client: redis.Redis) -> Iterator[BreakerManager]:
    made = BreakerManager(client, "test", policy=Policy(failures=50))
    yield made
    made.close()


class Fails:
    """So many times, then it returns how often it was called."""

    def __init__(self, times: int, error: Callable[[], Exception] = lambda: OSError("no answer")) -> None:
        self.calls, self.times, self.error = 0, times, error

    def __call__(self) -> int:
        self.calls += 1
        if self.calls <= self.times:
            raise self.error()
        return self.calls


def test_an_action_has_a_breaker_of_its_own_name_and_policy(breakers: BreakerManager):
    action, policy = Fails(9), Policy(failures=2, open_for=timedelta(seconds=60))
    for _ in range(2):
        with pytest.raises(OSError, match="no answer"):
            breakers.call("my-action", action, policy=policy)

    with pytest.raises(BreakerOpen):
        breakers.call("my-action", action, policy=policy)
    with pytest.raises(BreakerOpen), breakers.call("action:my-action"):
        pass

    assert action.calls == 2
    assert breakers.call("another", Fails(0)) == 1
    (found,) = breakers.list()
    assert (found.name, found.state, found.threshold) == ("action:my-action", BreakerState.OPEN, 2)
    assert breakers.reset("my-action").name == "action:my-action"


def test_an_action_is_tried_again_and_returns_what_it_returns(breakers: BreakerManager):
    assert retrying(breakers, "fetch", Fails(2), **AT_ONCE) == 3


def test_an_action_that_keeps_failing_raises_what_it_raised_last(breakers: BreakerManager):
    action = Fails(9)
    with pytest.raises(OSError, match="no answer"):
        retrying(breakers, "fetch", action, **AT_ONCE)
    assert action.calls == 5


@pytest.mark.parametrize(
    ("sign", "error"),
    [
        (7, lambda: subprocess.CalledProcessError(7, "x")),
        ("timeout", TimeoutError),
        ({"output": "no such"}, lambda: OSError("no such host")),
        ({"output": "denied"}, lambda: subprocess.CalledProcessError(1, "x", stderr=b"login:\ndenied\n")),
    ],
)
def test_a_sign_to_stop_on_ends_it_at_once(
    breakers: BreakerManager, sign: object, error: Callable[[], Exception]
):
    action = Fails(9, error)
    with pytest.raises((OSError, subprocess.SubprocessError)):
        retrying(breakers, "fetch", action, stop_on=[sign], **AT_ONCE)
    assert action.calls == 1


def test_an_open_breaker_ends_it_without_another_call(breakers: BreakerManager):
    action = Fails(9)
    with pytest.raises(BreakerOpen):
        retrying(breakers, "fetch", action, breaker=Policy(failures=2), **AT_ONCE)
    assert action.calls == 2


def test_a_policy_that_is_none_is_refused_before_anything_is_called(breakers: BreakerManager):
    action = Fails(0)
    with pytest.raises(UsageError):
        retrying(breakers, "fetch", action, atempts=2)
    assert action.calls == 0
