"""Story: a plan of levels, carried by Celery's chords alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from coordination import Coord
from tests.testbed import Testbed

APPEND = 'echo "$COORD_TODO_ID" >> "$LEDGER"'
FAIL_ONCE = f'{APPEND}; test "$COORD_ATTEMPT" -gt 1'
REPOS = ("r1", "r2", "r3")


def three_per_repo_and_level() -> list[Mapping[str, Any]]:
    """L<level>-<repo>-<n>, each after everything of the level before; L1-r1-0 is retried, L1-r2-0 fails."""
    todos: list[Mapping[str, Any]] = []
    for level in range(3):
        for repo in REPOS:
            for n in range(3):
                name = f"L{level}-{repo}-{n}"
                todo = {"id": name, "repo": repo, "action": APPEND, "workspace": "in-place"}
                if level:
                    # r2's first todo of level 1 fails; nothing depends on it, so that every level has todos.
                    todo["blocked_by"] = [
                        f"L{level - 1}-{r}-{m}" for r in REPOS for m in range(3) if (r, m) != ("r2", 0)
                    ]
                todos.append(todo)
    by_name = {t["id"]: t for t in todos}
    by_name["L0-r1-0"] |= {"action": f"{APPEND}; sleep 1"}  # the others of r1 are delivered before their turn
    by_name["L1-r1-0"] |= {"action": FAIL_ONCE, "retry": {"attempts": 2, "delay": "20ms"}}
    by_name["L1-r2-0"] |= {"action": f"{APPEND}; exit 9"}
    return todos


@pytest.fixture(scope="module")
def swept(new_testbed: Callable[[], Testbed]) -> Testbed:
    testbed = new_testbed()
    testbed.settings = {"reaper": False}
    testbed.write(three_per_repo_and_level(), plan={"on_failure": "continue"})
    done = testbed.coord("sweep", "PLAN-001", "--strategy", "levels", timeout=60)
    assert done.code == 3, done.err
    return testbed


def test_levels_with_one_parked_one_retried_and_one_failed_end_without_the_reaper(swept: Testbed):
    run = swept.run()
    events = swept.redis().xrange(f"coord:run:{run['run_id']}:events")

    assert run["counts"] == {"succeeded": 26, "failed": 1}
    assert swept.todo("L1-r2-0")["error"] == "exit code 9"
    assert swept.todo("L1-r1-0")["attempt"] == 2
    assert len(swept.ledger) == 28  # 27 todos, one of them twice
    assert any(fields["what"] == "todo.parked" for _, fields in events)
    order = {name: i for i, name in enumerate(swept.ledger)}
    for level in range(2):
        assert max(i for name, i in order.items() if name.startswith(f"L{level}")) < min(
            i for name, i in order.items() if name.startswith(f"L{level + 1}")
        )
    looked_at_afterwards(swept, run["run_id"])


def looked_at_afterwards(swept: Testbed, run_id: str) -> None:
    """The output of such a run, and its durations in a forecast, with and without the server."""
    swept.ok("show-run", run_id, "--gantt", "run.svg")
    chart, graph = (
        (swept.folder / "run.svg").read_text(),
        swept.ok("plan", "graph", "PLAN-001", "--format", "svg", "--run", "last").out,
    )
    assert "L1-r1-0 (try 2)\nsucceeded" in chart
    assert "waited for its repository" in chart
    assert 'class="bad"' in graph
    assert "exit code 9" in graph
    refused = swept.coord("show-run", run_id, "--gantt", "ecosystem.yaml")
    assert (refused.code, "name a file that ends in .svg" in refused.err) == (2, True)
    assert swept.coord("plan", "graph", "PLAN-001", "--run", "last").code == 2

    swept.server.stop()
    of_history = swept.ok("plan", "forecast", "PLAN-001", "--json").json
    swept.server.start()
    of_redis = swept.ok("plan", "forecast", "PLAN-001", "--json").json
    for left, source in ((of_history, "history"), (of_redis, "redis")):
        assert (left["estimated"], left["learned"], left["assumed"]) == (0, 1, 0)
        assert left["learned_from"] == source
        assert 0 < left["dataflow_h"] < 1 / 60
    assert "durations: 1 learned from earlier runs" in swept.ok("plan", "forecast", "PLAN-001").out


def test_every_level_is_one_real_chord_and_its_join_opens_the_next(swept: Testbed):
    run = swept.run()
    redis = swept.redis()
    sources = [
        (fields["level"], fields["source"])
        for _, fields in redis.xrange(f"coord:run:{run['run_id']}:events")
        if fields["what"] == "level.settled"
    ]
    joined = {
        level: redis.exists(f"coord.celery:celery-taskset-meta-{run['run_id']}.level.{level}.c")
        for level in range(3)
    }

    assert sources == [("0", "join"), ("1", "join"), ("2", "end")]
    # Celery's own mark that this chord was joined, kept for a while after it.
    assert all(joined.values()), sorted(redis.scan_iter("coord.celery:*"))


def test_the_end_of_every_level_is_told_also_of_the_last_one(swept: Testbed):
    with Coord(swept.file) as coord:
        told = [event.name for event in coord.runs.events() if event.name.startswith(("level.", "run.ended"))]

    assert told == ["level.opened", "level.settled"] * 3 + ["run.ended"]
