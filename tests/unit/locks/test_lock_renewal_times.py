"""When a lock is renewed: two more times are left before its end if the first one fails."""

from __future__ import annotations

from datetime import timedelta
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest

from coordination.locks import core as renewal
from coordination.locks.core import Renewal


def test_a_lock_is_renewed_at_each_third_of_its_ttl(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SimpleNamespace(s=100.0)
    monkeypatch.setattr(renewal, "now_s", lambda: clock.s)
    monkeypatch.setattr(Renewal, "start", lambda self: None)  # the thread is played by the test
    lock: Any = Mock(deadline_s=109.0, ttl=timedelta(seconds=9))

    def renew(held: Any, patience_s: float) -> bool:
        held.deadline_s = clock.s + 9
        return True

    thirds = Renewal(renew)
    thirds.add(lock)
    due = [thirds._due_s[lock]]
    for _ in range(2):
        clock.s = due[-1]
        thirds._renew_due(lock)
        due.append(thirds._due_s[lock])

    assert due == [103.0, 106.0, 109.0]


def test_a_lock_that_is_released_before_a_round_does_not_cause_another_wake_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wake = Mock()
    monkeypatch.setattr(Renewal, "start", lambda self: None)
    monkeypatch.setattr(Renewal, "wake", wake)
    renewals = Renewal(lambda held, patience_s: True)
    for _ in range(3):
        lock: Any = Mock(deadline_s=renewal.now_s() + 3600, ttl=timedelta(hours=1))
        renewals.add(lock)
        renewals.remove(lock)
        assert renewals.run_once() == []

    assert wake.call_count == 1
    assert renewals.until_next_s()
