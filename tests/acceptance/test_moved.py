"""A half-done run moves from one Redis to another and ends there: what was done is not done again."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from coordination import Conflict, Coord
from coordination.backend.embedded import EmbeddedServer
from coordination.settings import Settings
from tests.acceptance.gate import Gate
from tests.stage import PLAN, Stage, git

SAY = 'echo $COORD_TODO_ID >> "$LEDGER"; '


@pytest.fixture
def second(stage: Stage) -> Iterator[str]:
    """The address of another server."""
    server = EmbeddedServer(stage.folder / "second", Settings())
    yield server.start()
    server.stop()


def test_a_run_is_begun_on_one_redis_and_ended_on_another(stage: Stage, second: str) -> None:
    gate = Gate(stage.folder)
    stage.write(
        [
            {
                "id": "one",
                "repo": "lib",
                "action": SAY + """echo '{"n": 1}' > "$COORD_OUTPUT"; echo one > one""",
            },
            {
                "id": "two",
                "repo": "lib",
                "action": SAY + gate.action + "; echo two > two",
                "blocked_by": ["one"],
            },
            {
                "id": "three",
                "repo": "lib",
                "action": SAY + "test -e two && echo three > three",
                "blocked_by": ["two"],
            },
            {
                "id": "four",
                "repo": "app",
                "action": SAY + 'grep -q \'"n": 1\' "$COORD_CONTEXT"',
                "blocked_by": ["one", "three"],
            },
        ]
    )
    stage.up()
    stage.ok("sweep", PLAN, "--detach")
    gate.wait()
    stage.ok("pause")
    running = stage.coord("export-run", "last", "run.json")
    assert (running.code, "two of it runs: it cannot be moved as it is" in running.err) == (6, True)
    assert not (stage.folder / "run.json").exists()
    assert json.loads(stage.ok("export-run", "last", "--look").out)["shared"]["holders"].keys() == {"two"}
    gate.open()
    stage.ok("logs", "last", "two", "--follow")
    run = stage.run()["run_id"]
    done = stage.ok("export-run", run, "run.json.gz")
    assert f"wrote run {run} to run.json.gz" in done.err
    assert "do not resume it here" in done.err

    imported = stage.ok("import-run", "run.json.gz", COORD_REDIS_URL=second)
    assert imported.err == f"imported run {run} of {PLAN}, paused; continue it: coord resume {run}\n"
    worker = stage.begin("worker", "--all", COORD_REDIS_URL=second)
    stage.ok("resume", COORD_REDIS_URL=second)
    ended = stage.coord("watch", "--json", COORD_REDIS_URL=second)
    assert ended.code == 0, ended.err
    assert (ended.json["run_id"], ended.json["status"]) == (run, "succeeded")
    assert stage.ledger == ["one", "two", "three", "four"]
    subjects = git(stage.folder / "lib", "log", "--format=%s", f"coord/{PLAN}").splitlines()
    assert subjects == ["three: do three", "two: do two", "one: do one", "first"]
    worker.terminate()
    worker.wait()

    with Coord(stage.file, redis_url=second) as coord:
        kept = coord.runs.export("last", stage.folder / "kept.json")
        with pytest.raises(Conflict, match="is here already: it is succeeded"):
            coord.runs.import_(kept)
    with Coord(stage.file) as coord:
        assert coord.runs.get(run).view().status == "paused"
