"""Two machines whose workers require signatures, and an adversary who has the password of their Redis."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from coordination.backend.client import Profile, connect
from coordination.backend.keys import Keys
from tests.machines import Loopback, Site, trusting
from tests.testbed import PLAN, git
from tests.waiting import until

WORK = 'echo "$COORD_TODO_ID" >> work; echo "{\\"by\\": \\"$COORD_TODO_ID\\"}" > "$COORD_OUTPUT"'
READ = """grep -q '"by": "MAKE"' "$COORD_CONTEXT" """
TODOS = [
    {"id": "MAKE", "repo": "up", "action": WORK},
    {"id": "READ", "repo": "down", "action": READ, "blocked_by": ["MAKE"]},
    {"id": "LOOK", "repo": "up", "action": {"type": "manual"}, "blocked_by": ["READ"]},
    {"id": "CHECK", "repo": "up", "action": "sh check.sh", "blocked_by": ["LOOK"]},
]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path, Loopback())
    yield made
    made.end()


def test_an_honest_run_succeeds_and_a_moved_tip_makes_no_foreign_code_run(site: Site, tmp_path: Path):
    laptop, ann, ben = trusting(site, tmp_path)
    laptop.write(TODOS, repos={"up": {"path": None}, "down": {"path": None}})
    ran = tmp_path / "foreign"
    up = ann.repo("up", **{"check.sh": "grep -q MAKE work\n"})
    ben.repo("down")
    ann.worker(up="up")
    ben.worker(down="down")
    with connect(site.url, Profile.COMMAND) as redis:
        keys = Keys("coord")
        for attacked in (False, True):
            run = laptop.ok("sweep", PLAN, "--detach", "--json").json["run_id"]
            until(lambda run=run: redis.hget(keys.run(run).state, "READ") == "succeeded")
            if attacked:
                git(up, "checkout", "-q", "-b", "elsewhere")
                (up / "check.sh").write_text(f"touch {ran}\n")
                git(up, "commit", "-qam", "foreign")
                redis.hset(keys.run(run).tips, "up", git(up, "rev-parse", "HEAD"))
            laptop.ok("complete-todo", "LOOK", "--run", run)
            until(lambda run=run: redis.hget(keys.run(run).meta, "status") in ("succeeded", "failed"))

            shown = laptop.ok("show-run", run, "--json")
            assert shown.todo("CHECK")["state"] == ("failed" if attacked else "succeeded")
            events = laptop.ok("event", "list", "--kind", "trust.refused", "--json").out
            assert ("CHECK" in events) == attacked
            laptop.write(TODOS, repos={"up": {"path": None}, "down": {"path": None}})
    assert "but the signed result is" in shown.todo("CHECK")["error"]
    assert not ran.exists()
