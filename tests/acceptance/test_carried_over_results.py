"""Stories: commits, outputs and checkpoints outlive the attempt, the run and the host that made them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from coordination.runs.change_sets.records import ChangeSet
from coordination.runs.change_sets.store import ChangeSets
from coordination.runs.store import RunStore
from tests.machines import Loopback, Site
from tests.testbed import PLAN, Testbed, git
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


STEP = """
import json, os, pathlib, time
done = json.loads(pathlib.Path(os.environ["COORD_CHECKPOINT"]).read_text()) or []
attempt = len(done)
with open(os.environ["LEDGER"], "a") as ledger:
    ledger.write(f"{done}\\n")
if attempt < 3:
    pathlib.Path(os.environ["COORD_OUTPUT"]).write_text(json.dumps([*done, attempt]))
if attempt == 0:
    time.sleep(300)
if attempt in (1, 2):
    raise SystemExit(1)
pathlib.Path(os.environ["COORD_OUTPUT"]).write_text(json.dumps({"all": done}))
"""


def test_each_attempt_goes_on_where_the_last_one_had_come_to(testbed: Testbed) -> None:
    testbed.settings = {"lease_ttl": "5s", "heartbeat": "1s"}
    testbed.write(
        [
            {
                "id": "long",
                "repo": "a",
                "action": ["python3", "-c", STEP],
                "retry": {"attempts": 2, "delay": "10ms"},
            }
        ]
    )
    testbed.up()
    run = testbed.begin("sweep", PLAN, "--json")
    client = testbed.redis()
    run_id = until(lambda: client.zrange("coord:live", 0, -1))[0]
    until(lambda: client.hget(f"coord:run:{run_id}:checkpoint", "long") == "[0]")
    testbed.kill("worker")
    testbed.up()

    done = run.done()
    assert done.code == 3, done.err
    assert testbed.ledger == ["[]", "[0]", "[0, 1]"]
    again = testbed.coord("retry", "--json")
    assert again.code == 0, again.err
    assert testbed.ledger[3:] == ["[0, 1, 2]"]
    assert again.todo("long")["output"] == {"all": [0, 1, 2]}


LIB = {"id": "LIB", "repo": "lib", "action": "echo 2 > version; echo '{\"v\": 2}' > $COORD_OUTPUT"}
READS = 'test "$(cat version)" = 2 && echo 3 > next'


def changes(testbed: Testbed, name: str = PLAN) -> ChangeSet:
    with testbed.redis() as client:
        found = ChangeSets(RunStore(client, "coord")).read(name)
    assert found is not None
    return found


def test_a_second_sweep_builds_on_the_results_of_the_first(testbed: Testbed):
    testbed.write([LIB])
    testbed.up()
    assert testbed.sweep().code == 0
    first = testbed.run()["run_id"]
    lib = testbed.folder / "lib"
    change = changes(testbed).repos["lib"]
    assert (change.tip, change.run, change.todos) == (
        git(lib, "rev-parse", f"coord/{PLAN}"),
        first,
        ("LIB",),
    )

    told = "test $(jq -r '.predecessors[0].output.v' < $COORD_CONTEXT) = 2 || true"
    testbed.write(
        [
            {**LIB, "status": "completed"},
            {"id": "NEXT", "repo": "lib", "blocked_by": ["LIB"], "action": READS},
            {"id": "APP", "repo": "app", "blocked_by": ["LIB"], "action": f"{told}; echo 1 > app"},
        ]
    )
    done = testbed.sweep()

    assert done.states == {"LIB": "succeeded", "NEXT": "succeeded", "APP": "succeeded"}
    second = testbed.run()["run_id"]
    assert {todo["id"]: todo["run"] for todo in testbed.run()["todos"]} == {
        "LIB": first,
        "NEXT": None,
        "APP": None,
    }
    found = changes(testbed)
    assert git(lib, "diff", "--name-only", "main", found.repos["lib"].tip).split() == ["next", "version"]
    assert found.repos["lib"].runs == (first, second)
    assert set(found.todos) == {"LIB", "NEXT", "APP"}

    document = yaml.safe_load(testbed.file.read_text())
    by_itself = {"task": "t", "repo": "lib", "action": "test -e next && echo 4 > more", "env": {}}
    document["coordination"]["todos"].append(
        {**by_itself, "id": "MORE", "plan": PLAN, "blocked_by": ["NEXT"]}
    )
    document["coordination"]["todos"].append(
        {**by_itself, "id": "ALONE", "action": "test ! -e next && echo 5 > 5"}
    )
    testbed.file.write_text(yaml.safe_dump(document))
    assert testbed.ok("todo", "execute", "MORE", "--json").json["plan_id"] == PLAN
    assert set(changes(testbed).repos["lib"].todos) == {"LIB", "NEXT", "MORE"}
    assert git(lib, "ls-tree", "--name-only", f"coord/{PLAN}").split() == [
        "README",
        "more",
        "next",
        "version",
    ]
    testbed.ok("todo", "execute", "ALONE")
    assert git(lib, "diff", "--name-only", "main", "coord/ALONE").split() == ["5"]
    assert changes(testbed, "ALONE").todos == ("ALONE",)
