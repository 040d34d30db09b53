"""Story: what a host did outlives it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.machines import Loopback, Site
from tests.stage import PLAN
from tests.waiting import until

FOLLOWS = """
path=$(python3 -c 'import json, os; print(json.load(open(os.environ["COORD_CONTEXT"]))["predecessors"][-1]["path"])')
cat "$path/list"; git -C "$path" log --format=%s
"""


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path, Loopback())
    yield made
    made.end()


def test_the_work_of_a_host_that_is_gone_for_good_is_there_for_its_dependents(site: Site):
    desk, ann, ben = site.submitter(), site.machine("ann"), site.machine("ben")
    desk.write(
        [
            {"id": "A", "repo": "up", "action": "echo A >> list"},
            {"id": "B", "repo": "up", "action": "echo B >> list", "blocked_by": ["A"]},
            {"id": "C", "repo": "down", "action": FOLLOWS, "blocked_by": ["B"]},
        ],
        repos={"up": {"path": None}, "down": {"path": None}},
    )
    ann.repo("up")
    ann.worker(up="up")
    desk.ok("sweep", PLAN, "--detach")
    until(lambda: desk.shown().states["B"] == "succeeded", 30)
    ann.die()
    shutil.rmtree(ann.folder)
    ben.repo("down")
    ben.worker(down="down")
    ended = desk.ok("watch", "last", "--json")

    assert ended.json["status"] == "succeeded"
    assert ben.log_of(ended.json["run_id"], "C").decode() == "A\nB\nB: do B\nA: do A\nfirst\n"
    until(lambda: not (ben.state / "carried" / ended.json["run_id"]).exists())
