"""A half-done run moves from one Redis to another and ends there: what was done is not done again."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from coordination import Conflict, Coord
from coordination.backend.embedded import EmbeddedServer
from coordination.settings import Settings
from tests.acceptance.gate import Gate
from tests.testbed import PLAN, Testbed, git

SAY = 'echo $COORD_TODO_ID >> "$LEDGER"; '


@pytest.fixture
def second(testbed: Testbed) -> Iterator[str]:
    """The address of another server."""
    server = EmbeddedServer(testbed.folder / "second", Settings())
    yield server.start()
    server.stop()


def test_a_run_is_begun_on_one_redis_and_ended_on_another(testbed: Testbed, second: str) -> None:
    gate = Gate(testbed.folder)
    testbed.write(
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
    testbed.up()
    testbed.ok("sweep", PLAN, "--detach")
    gate.wait()
    testbed.ok("run", "pause")
    running = testbed.coord("run", "export", "last", "run.json")
    assert (running.code, "two of it runs: it cannot be moved as it is" in running.err) == (6, True)
    assert not (testbed.folder / "run.json").exists()
    looked_at = json.loads(testbed.ok("run", "export", "last", "--look").out)
    assert looked_at["shared"]["holders"].keys() == {"two"}
    gate.open()
    testbed.ok("logs", "last", "two", "--follow")
    run = testbed.run()["run_id"]
    done = testbed.ok("run", "export", run, "run.json.gz")
    assert f"wrote run {run} to run.json.gz" in done.err
    assert "do not resume it here" in done.err

    imported = testbed.ok("run", "import", "run.json.gz", COORD_REDIS_URL=second)
    assert imported.err == f"imported run {run} of {PLAN}, paused; continue it: coord run resume {run}\n"
    worker = testbed.begin("worker", "--all", COORD_REDIS_URL=second)
    testbed.ok("run", "resume", COORD_REDIS_URL=second)
    ended = testbed.coord("watch", "--json", COORD_REDIS_URL=second)
    assert ended.code == 0, ended.err
    assert (ended.json["run_id"], ended.json["status"]) == (run, "succeeded")
    assert testbed.ledger == ["one", "two", "three", "four"]
    subjects = git(testbed.folder / "lib", "log", "--format=%s", f"coord/{PLAN}").splitlines()
    assert subjects == ["three: do three", "two: do two", "one: do one", "first"]
    worker.terminate()
    worker.wait()

    with Coord(testbed.file, redis_url=second) as coord:
        kept = coord.runs.export("last", testbed.folder / "kept.json")
        with pytest.raises(Conflict, match="is here already: it is succeeded"):
            coord.runs.import_(kept)
    with Coord(testbed.file) as coord:
        assert coord.runs.get(run).view().status == "paused"
