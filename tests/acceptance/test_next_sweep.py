"""Stories: runs of one plan build on each other's work until it lands."""

from __future__ import annotations

import yaml

from coordination.runs.change_sets.records import ChangeSet
from coordination.runs.change_sets.store import ChangeSets
from coordination.runs.store import RunStore
from tests.testbed import PLAN, Testbed, git

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
    assert testbed.ok("execute", "MORE", "--json").json["plan_id"] == PLAN
    assert set(changes(testbed).repos["lib"].todos) == {"LIB", "NEXT", "MORE"}
    assert git(lib, "ls-tree", "--name-only", f"coord/{PLAN}").split() == [
        "README",
        "more",
        "next",
        "version",
    ]
    testbed.ok("execute", "ALONE")
    assert git(lib, "diff", "--name-only", "main", "coord/ALONE").split() == ["5"]
    assert changes(testbed, "ALONE").todos == ("ALONE",)
