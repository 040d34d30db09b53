"""Stories: a run by `auto` has levels until one of its todos waits for something outside."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from coordination.locks import LockManager
from tests.machines import Loopback, Site
from tests.testbed import PLAN, Testbed
from tests.waiting import until

FAR: Mapping[str, Any] = {"here": {"path": None}, "away": {"path": None}}
ASKS = {"gate": True}


def two_chains(
    first: Mapping[str, Any], after: Mapping[str, Any] | None = None
) -> Sequence[Mapping[str, Any]]:
    """A1 → A2 in `away`, H1 → H2 in `here`; `first` are further fields of A1, `after` those of A2."""
    return [
        {"id": "A1", "repo": "away", **first},
        {"id": "A2", "repo": "away", "blocked_by": ["A1"], **(after or {})},
        {"id": "H1", "repo": "here"},
        {"id": "H2", "repo": "here", "blocked_by": ["H1"]},
    ]


def started(testbed: Testbed, *words: str) -> str:
    testbed.up()
    begun = testbed.ok("sweep", PLAN, "--detach", "--json", *words).json
    return str(begun["run_id"])


def has(testbed: Testbed, todo: str, state: str) -> None:
    until(lambda: testbed.todo(todo)["state"] == state)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    found = Site(tmp_path, Loopback())
    yield found
    found.end()


def test_no_repository_waits_for_the_host_of_another(site: Site) -> None:
    laptop, ann, ben = site.submitter(), site.machine("ann"), site.machine("ben")
    laptop.write(two_chains({}), repos=FAR)
    ann.repo("here"), ben.repo("away")
    ann.worker(here="here").says("serving")
    sweep = laptop.begin("sweep", PLAN)

    told = sweep.says("turns from levels to dataflow")
    has(laptop, "H2", "succeeded")

    waits = "a worker for away: none serves it"
    run, first = laptop.run(), laptop.todo("A1")
    assert f"levels to dataflow: A1 waited for {waits}" in told
    assert (run["strategy"], run["switched"]) == ("dataflow", f"A1 waited for {waits}")
    assert (first["state"], first["waits_for"]) == ("parked", waits)
    assert f"turned from levels to dataflow: A1 waited for {waits}" in laptop.ok("show-run").out

    ben.worker(away="away")
    assert sweep.done().code == 0, sweep.err


def test_a_host_that_is_not_there_takes_no_share_of_max_parallel(site: Site) -> None:
    laptop, ann = site.submitter(), site.machine("ann")
    laptop.write(two_chains({}), repos=FAR, plan={"max_parallel": 1})
    ann.repo("here")
    ann.worker(here="here").says("serving")
    laptop.ok("sweep", PLAN, "--detach")

    has(laptop, "H2", "succeeded")

    assert laptop.todo("A1")["state"] == "parked"


def test_a_todo_that_waits_for_a_person_holds_up_only_what_depends_on_it(testbed: Testbed) -> None:
    testbed.write(two_chains(ASKS, ASKS))
    run_id = started(testbed)

    has(testbed, "H2", "succeeded")
    assert testbed.todo("A2")["state"] == "waiting"
    testbed.ok("approve", "A1")
    has(testbed, "A2", "parked")
    testbed.ok("approve", "A2")
    followed = testbed.coord("watch", run_id, "--json")

    assert (followed.code, followed.json["status"]) == (0, "succeeded")
    told = [fields for _, fields in testbed.redis().xrange(f"coord:run:{run_id}:events")]
    assert [one["title"] for one in told if one["what"] == "run.switched"] == [
        "A1 waited for an approval: coord approve A1"
    ]


def test_a_todo_that_waits_for_a_resource_holds_up_only_what_depends_on_it(testbed: Testbed) -> None:
    testbed.write(two_chains({"resources": ["db"]}))
    testbed.file.write_text(f"{testbed.file.read_text()}resources: [{{name: db, capacity: 1}}]\n")
    locks = LockManager(testbed.redis(), "coord")
    locks.resources.declare({"db": 1})
    held = locks.resources.acquire("db", ttl=timedelta(hours=1), owner="nightly")
    started(testbed)

    has(testbed, "H2", "succeeded")
    assert testbed.todo("A1")["wait_reason"] == "resource"
    held.release()
    locks.close()
    has(testbed, "A2", "succeeded")


@pytest.mark.parametrize("words", [(), ("--strategy", "levels")])
def test_levels_that_a_person_chose_wait_for_the_whole_level(testbed: Testbed, words: Sequence[str]) -> None:
    testbed.write(two_chains(ASKS), plan={} if words else {"strategy": "levels"})
    run_id = started(testbed, *words)

    has(testbed, "A1", "parked")
    has(testbed, "H1", "succeeded")
    assert testbed.todo("H2")["state"] == "waiting"
    testbed.ok("approve", "A1")

    assert testbed.coord("watch", run_id).code == 0
    assert (testbed.run()["strategy"], testbed.run()["switched"]) == ("levels", None)
