"""A plan that was carried out before: what would do the same is not run again, whoever asks for it, and says
where it is from.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from tests.testbed import PLAN, Testbed, git
from tests.waiting import until

WRITE = "echo A >> $LEDGER; echo new > format; echo '{\"format\": 2}' > $COORD_OUTPUT"
READ = "echo {0} >> $LEDGER; grep -q '\"format\": 2' $COORD_CONTEXT; echo {0} > used"
TODOS = [
    {"id": "A", "repo": "r1", "action": WRITE, "cache": True},
    {"id": "B", "repo": "r1", "action": READ.format("B"), "cache": {"ttl": "1d"}, "blocked_by": ["A"]},
    {"id": "C", "repo": "r2", "action": READ.format("C"), "cache": True, "blocked_by": ["A"]},
    {"id": "D", "repo": "r2", "action": "echo D >> $LEDGER", "blocked_by": ["C"]},
]


@pytest.fixture
def swept(testbed: Testbed) -> Iterator[Testbed]:
    # for another plan: a second sweep of this one would begin with what the first has made
    earlier = [{**todo, "plan": "BEFORE"} for todo in TODOS]
    testbed.write(earlier, repos={"r1": {"slots": 2}}, plans=[{"id": "BEFORE", "title": "before"}])
    testbed.up()
    assert testbed.coord("sweep", "BEFORE").code == 0
    testbed.write(TODOS, repos={"r1": {"slots": 2}})
    yield testbed
    testbed.ok("down")


def written(testbed: Testbed) -> dict[str, dict[str, Any]]:
    return {todo["id"]: todo for todo in yaml.safe_load(testbed.file.read_text())["coordination"]["todos"]}


def test_a_former_result_is_reused_shown_as_cached_undone_like_others_and_repeated_on_request(
    swept: Testbed,
):
    first, again = swept.run(), swept.sweep()

    second = again.json
    assert sorted(swept.ledger) == ["A", "B", "C", "D", "D"]
    assert {todo["id"]: todo["cached"] for todo in second["todos"]} == {
        **{name: {"run": first["run_id"], "todo": name} for name in "ABC"},
        "D": None,
    }
    assert (second["counts"], second["cached"], second["status"]) == ({"succeeded": 4}, 3, "succeeded")
    assert again.todo("A")["output"] == {"format": 2}
    for repo in ("r1", "r2"):
        trees = {
            git(swept.folder / repo, "rev-parse", f"{r['tips'][repo]}^{{tree}}") for r in (first, second)
        }
        assert len(trees) == 1
    todos = written(swept)
    assert {todo["status"] for todo in todos.values()} == {"completed"}
    assert [name for name, todo in todos.items() if "actual_hours" in todo] == ["D"]
    assert (
        f"✓ B  r1  do B  {swept.todo('B')['duration_s']:.1f} s  cached from B of run {first['run_id']}"
        in again.err
    )
    shown = swept.ok("show-run").out
    assert "4 succeeded (3 of them cached)" in shown
    assert f"from C of run {first['run_id']}" in shown
    assert "cached: from B of run" in swept.ok("logs", "last", "B").out

    retried = swept.coord("retry", "last", "--from", "A", "--json")
    assert (retried.code, retried.json["cached"], swept.ledger[5:]) == (0, 3, ["D"])

    for run in (retried.json, second):
        swept.ok("rollback", run["run_id"], "--yes")
    assert f"coord/{second['run_id']}" not in git(swept.folder / "r1", "branch", "--list")
    assert {todo["status"] for todo in written(swept).values()} == {"pending"}

    assert swept.sweep("--no-cache").json["cached"] == 0
    assert len(swept.ledger) == 10
    assert swept.coord("run", "clean", "--cache", "last").code == 2
    swept.ok("run", "clean", "--cache")
    swept.write(TODOS)
    assert swept.sweep().json["cached"] == 0


def test_two_runs_at_once_do_it_once_and_if_its_worker_is_killed_it_is_done_again_once(swept: Testbed):
    (swept.folder / "ledger").unlink()
    body = "echo ran >> $LEDGER; until test -e $LEDGER.go; do sleep 0.05; done; echo 7 > $COORD_OUTPUT"
    todos = [
        {"id": "A", "repo": "r1", "action": body, "cache": True},
        {"id": "Z", "repo": "r1", "action": body, "cache": True, "plan": "PLAN-002"},
    ]
    swept.write(todos, repos={"r1": {"slots": 2}}, plans=[{"id": "PLAN-002", "title": "another"}])
    swept.ok("sweep", PLAN, "--detach")
    until(lambda: swept.ledger)
    first = swept.run()["run_id"]
    swept.ok("sweep", "PLAN-002", "--detach")
    second = swept.run()["run_id"]
    until(lambda: swept.todo("Z", second)["waits_for"] == f"A of run {first}, which computes the same result")
    assert swept.ledger == ["ran"]

    swept.kill("worker")
    (swept.folder / "ledger.go").touch()
    swept.up()
    until(lambda: all(swept.run(run)["status"] == "succeeded" for run in (first, second)))

    assert swept.ledger == ["ran", "ran"]
    (one, other) = (swept.todo("A", first), swept.todo("Z", second))
    assert {str(one["cached"]), str(other["cached"])} > {"None"}
    assert one["output"] == other["output"] == 7


def test_a_check_is_not_taken_from_the_cache_where_a_library_two_steps_below_it_was_changed(swept: Testbed):
    find = (
        "python3 -c 'import json, os; print(next("
        'p["path"] for p in json.load(open(os.environ["COORD_CONTEXT"]))'
    )
    look = f"""lib=$({find}["predecessors"] if p["todo"] == "LIB"))'); """
    check = {"id": "CHECK", "repo": "r2", "action": f"{look} grep -q sound $lib/lib", "blocked_by": ["MID"]}

    def todos(makes: str) -> list[dict[str, Any]]:
        return [
            {"id": "LIB", "repo": "r1", "action": f"echo {makes} > lib"},
            {"id": "MID", "repo": "r2", "action": "true", "blocked_by": ["LIB"]},
            {**check, "cache": True},
        ]

    swept.write(todos("sound"))
    assert swept.sweep().todo("CHECK")["cached"] is None
    swept.write(todos("sound"))
    assert swept.sweep().todo("CHECK")["cached"], "the library is another commit, and the same tree"
    swept.write(todos("broken"))

    broken = swept.sweep()

    assert (broken.code, broken.todo("CHECK")["state"], broken.todo("CHECK")["cached"]) == (3, "failed", None)
