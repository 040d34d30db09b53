"""Story: what a host did outlives it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.machines import Loopback, Site
from tests.testbed import PLAN, Testbed
from tests.waiting import until

FOLLOWS = """
path=$(python3 -c 'import json, os
print(json.load(open(os.environ["COORD_CONTEXT"]))["predecessors"][-1]["path"])')
cat "$path/list"; git -C "$path" log --format=%s
"""


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path, Loopback())
    yield made
    made.end()


def test_the_work_of_a_host_that_is_gone_for_good_is_there_for_its_dependents(site: Site):
    laptop, ann, ben = site.submitter(), site.machine("ann"), site.machine("ben")
    laptop.write(
        [
            {"id": "A", "repo": "up", "action": "echo A >> list"},
            {"id": "B", "repo": "up", "action": "echo B >> list", "blocked_by": ["A"]},
            {"id": "C", "repo": "down", "action": FOLLOWS, "blocked_by": ["B"]},
        ],
        repos={"up": {"path": None}, "down": {"path": None}},
    )
    ann.repo("up")
    ann.worker(up="up")
    laptop.ok("sweep", PLAN, "--detach")
    until(lambda: laptop.shown().states["B"] == "succeeded")
    ann.die()
    shutil.rmtree(ann.folder)
    ben.repo("down")
    ben.worker(down="down")
    ended = laptop.ok("watch", "last", "--json")

    assert ended.json["status"] == "succeeded"
    assert ben.log_of(ended.json["run_id"], "C").decode() == "A\nB\nB: do B\nA: do A\nfirst\n"
    until(lambda: not (ben.state / "carried" / ended.json["run_id"]).exists())


def test_a_run_that_goes_on_by_itself_is_printed_as_json_as_it_was_begun(testbed: Testbed):
    testbed.write([{"id": "A", "repo": "r1", "action": "test -e $LEDGER.mended"}])
    testbed.up()
    first = testbed.ok("sweep", PLAN, "--detach", "--json").json
    assert testbed.coord("watch", "last").code == 3
    (testbed.folder / "ledger.mended").touch()
    second = testbed.ok("retry", "last", "--detach", "--json").json

    assert [todo["id"] for todo in first["todos"]] == ["A"]
    assert second["carried_from"] == first["run_id"]
    assert testbed.ok("watch", second["run_id"], "--json").json["status"] == "succeeded"
    undone = testbed.ok("rollback", "last", "--yes", "--detach", "--json").json
    assert undone["run_id"] == second["run_id"]
    assert testbed.coord("watch", "last").code == 3
