"""Orders that have ended, and orders that a later one has followed, on the disk of a machine."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from coordination.errors import CoordinationError, NotTrusted
from coordination.trust.orders import Audience, RunOrder
from workers.trust.order_memory import FILE, OrderMemory

NOW = datetime.now(UTC)
HERE = Audience(namespace="coord", ecosystem="eco-1", server="1" * 32)


def order(run: str, given: datetime, expires: datetime = NOW + timedelta(days=1)) -> RunOrder:
    return RunOrder(
        **HERE.fields(), run=f"20260101-000000-{run}", nonce="n" * 16, issued_at=given, expires_at=expires,
        operation="land", plan="land:P", on_failure="rollback", brief="0" * 64, blocks=(),
    )  # fmt: skip


FIRST, SECOND = order("aaaa", NOW - timedelta(minutes=2)), order("bbbb", NOW)


def test_an_order_that_a_later_one_has_followed_lands_no_more(tmp_path: Path) -> None:
    OrderMemory(tmp_path).note_landed(SECOND, HERE, "P", "r1")
    memory = OrderMemory(tmp_path)
    with pytest.raises(NotTrusted):
        memory.refuse_older(FIRST, HERE, "P", "r1")
    for allowed in (SECOND, order("cccc", NOW + timedelta(minutes=1))):
        memory.refuse_older(allowed, HERE, "P", "r1")
    memory.note_landed(FIRST, HERE, "P", "r1")
    with pytest.raises(NotTrusted):
        memory.refuse_older(FIRST, HERE, "P", "r1")


@pytest.mark.parametrize(
    ("here", "change_set", "repo"),
    [
        (HERE, "Q", "r1"),
        (HERE, "P", "r2"),
        (Audience(namespace="coord", ecosystem="eco-1", server="2" * 32), "P", "r1"),
        (Audience(namespace="other", ecosystem="eco-1", server="1" * 32), "P", "r1"),
    ],
)
def test_it_follows_orders_for_the_same_work_only(
    tmp_path: Path, here: Audience, change_set: str, repo: str
) -> None:
    memory = OrderMemory(tmp_path)
    memory.note_landed(SECOND, HERE, "P", "r1")
    memory.refuse_older(FIRST, here, change_set, repo)


def test_an_ended_run_is_known_until_its_order_expires(tmp_path: Path) -> None:
    memory = OrderMemory(tmp_path)
    memory.note_ended(order("aaaa", NOW, expires=NOW - timedelta(seconds=1)))
    memory.note_ended(SECOND)
    assert [OrderMemory(tmp_path).has_ended(one.run) for one in (FIRST, SECOND)] == [False, True]
    assert (tmp_path / FILE).stat().st_mode & 0o077 == 0


def test_a_damaged_file_lets_todos_wait(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"no database" * 1000)
    with pytest.raises(CoordinationError) as refused:
        OrderMemory(tmp_path).refuse_ended(FIRST.run)
    assert not isinstance(refused.value, NotTrusted)
