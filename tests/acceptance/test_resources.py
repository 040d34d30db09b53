"""Todos of a real sweep share resources, with each other and with a program that uses the library."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import timedelta

import pytest

from coordination.locks import LockManager
from tests.testbed import PLAN, Testbed
from tests.waiting import until

HOUR = timedelta(hours=1)
USES = 'echo "begin $COORD_TODO_ID $AMOUNT" >> "$LEDGER"; {}; echo "end $COORD_TODO_ID $AMOUNT" >> "$LEDGER"'


def declare(testbed: Testbed, capacities: Mapping[str, int]) -> None:
    """Beside what the file has."""
    lines = [f"- name: {name}\n  capacity: {capacity}\n" for name, capacity in capacities.items()]
    testbed.file.write_text(f"{testbed.file.read_text()}resources:\n{''.join(lines)}")


def user(
    todo: str, repo: str, amount: int = 1, work: str = "sleep 0.05", **fields: object
) -> dict[str, object]:
    """Says in the ledger from when to when it uses the resource."""
    needs = [{"name": "gpu", "amount": amount}]
    env = {"AMOUNT": str(amount)}
    return {"id": todo, "repo": repo, "action": USES.format(work), "resources": needs, "env": env, **fields}


def peak(ledger: list[str]) -> int:
    """How much was in use at once, at most; counts users, not grants."""
    in_use = highest = 0
    for line in ledger:
        what, _, amount = line.split()
        in_use += int(amount) if what == "begin" else -int(amount)
        highest = max(highest, in_use)
    assert in_use == 0
    return highest


@pytest.fixture
def locks(testbed: Testbed) -> Iterator[LockManager]:
    manager = LockManager(testbed.redis(), "coord")
    yield manager
    manager.close()


def second_worker(testbed: Testbed) -> int:
    process = testbed.begin("worker", "--all")
    until(lambda: f"coord-{process.pid}@" in " ".join(testbed.redis().zrange("coord:workers", 0, -1)))
    return process.pid


def test_a_resource_is_never_used_beyond_its_capacity_and_up_to_it(testbed: Testbed) -> None:
    met = (
        'touch "$LEDGER.$COORD_TODO_ID"; while [ ! -e "$LEDGER.M0" ] || [ ! -e "$LEDGER.M1" ]; do sleep 0.02;'
        " done"
    )
    # Neither ends before both use it; so nobody who waits for more may stand between them.
    meeting = [user(f"M{i}", f"r{i}", 2 - i, met, priority="critical") for i in (0, 1)]
    others = [user(f"T{i}", f"r{i % 6}", i % 3 + 1) for i in range(12)]
    testbed.write([*meeting, *others])
    declare(testbed, {"gpu": 3})
    testbed.up()
    second_worker(testbed)

    swept = testbed.sweep()

    assert swept.code == 0, swept
    assert len(testbed.ledger) == 28
    assert peak(testbed.ledger) == 3
    assert {todo["worker"] for todo in swept.json["todos"]} - {None}


def test_who_waits_for_what_a_program_holds_keeps_no_thread_says_so_and_goes_on_when_it_is_given_back(
    testbed: Testbed, locks: LockManager
) -> None:
    testbed.write([user("A", "api"), {"id": "B", "repo": "web", "action": "true"}])
    declare(testbed, {"gpu": 1})
    locks.resources.declare({"gpu": 1})
    held = locks.resources.acquire("gpu", ttl=HOUR, owner="nightly")
    testbed.ok("up", "--detach", "--no-flower", "--no-dashboard", "--jobs", "1")

    testbed.ok("sweep", PLAN, "--detach")
    until(lambda: testbed.run()["counts"] == {"parked": 1, "succeeded": 1})
    words = testbed.todo("A")["waits_for"]
    held.release()
    testbed.ok("watch", "last")

    assert "resource gpu (1 of 1 in use by process" in words
    assert words.endswith("(nightly))")
    assert testbed.shown().states == {"A": "succeeded", "B": "succeeded"}
    assert locks.resources.stats("gpu").used == 0
