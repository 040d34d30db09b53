"""Stories after a run: it is undone, accepted, cleaned up, deleted."""

from __future__ import annotations

import time

import yaml

from coordination.runs.records import RunStatus
from tests.chaos.failpoints.scene import Scene
from tests.chaos.failpoints.stories.props import (
    HANDS_OVER,
    HOUR_MS,
    MAKES,
    WHEN_ALLOWED,
    P,
    Q,
    R,
    allow,
    ended,
)
from tests.chaos.failpoints.story import Act, Story
from tests.chaos.ledger import BODY
from tests.testbed import PLAN, git


def _complete_in_the_file(scene: Scene) -> None:
    """Todo A is merged, and completed by hand."""
    git(scene.testbed.folder / "r", "merge", "-q", f"coord/{PLAN}")
    document = yaml.safe_load(scene.testbed.file.read_text())
    todo = next(todo for todo in document["coordination"]["todos"] if todo["id"] == "A")
    todo["status"] = "completed"
    scene.testbed.file.write_text(yaml.safe_dump(document, sort_keys=False))


EXECUTED = Story(
    name="todos stand on what was done before",
    todos=[
        {"id": "A", **R, "action": MAKES},
        {"id": "B", **P, "blocked_by": ["A"], "env": {"LASTS": "0.5"}},
        {"id": "C", **P, "plan": None, "blocked_by": ["A"]},
        {"id": "D", **R, "action": MAKES, "plan": None, "blocked_by": ["A"]},
        {"id": "E", **Q, "plan": None},
    ],
    acts=[
        Act(when=lambda s: s.state("B") == "running", coord=("todo", "execute", "E", "--detach")),
        Act(when=ended, do=_complete_in_the_file),
        Act(when=lambda _: True, coord=("todo", "execute", "C", "--detach"), role="execute-merged"),
        Act(when=ended, coord=("todo", "execute", "D", "--accept", "A", "--detach"), role="execute-accepted"),
        Act(when=ended, coord=("run", "sync", "last")),
        Act(when=lambda _: True, coord=("rollback", "last", "--yes", "--detach")),
        Act(when=ended, coord=("run", "sync", "last"), role="sync-undone"),
    ],
    ends=[RunStatus.SUCCEEDED, RunStatus.ROLLED_BACK],
)
RESTORED = Story(
    name="restored to a checkpoint",
    todos=[{"id": "A", **R}, {"id": "F", **R, "action": WHEN_ALLOWED, "blocked_by": ["A"]}],
    acts=[
        Act(when=ended, coord=("checkpoint", "create", "last", "done")),
        Act(when=lambda _: True, coord=("checkpoint", "list", "last"), role="checkpoint-list"),
        Act(
            when=lambda _: True,
            do=allow,
            coord=("checkpoint", "restore", "last", "done", "--yes"),
            role="restore",
        ),
    ],
    ends=[RunStatus.CANCELLED, RunStatus.SUCCEEDED],
)


def _long_ago(scene: Scene) -> None:
    """Judged now: there will be nothing left to judge. Then the run is two hours older."""
    scene.judge()
    past = int(time.time() * 1000) - 2 * HOUR_MS
    run = scene.run
    scene.redis.hset(scene.keys.run(run).meta, mapping={"started_at": past, "finished_at": past})
    scene.redis.zadd(scene.keys.runs, {run: past})
    scene.redis.zadd(scene.keys.runs, {"ghost": past})  # a run whose records went in some other way
    scene.forgotten.append(run)


EXPIRED = Story(
    name="forgotten",
    todos=[{"id": "A", **R}, {"id": "B", **P}],
    env={"COORD_KEEP_RUNS": "1h"},
    acts=[Act(when=ended, do=_long_ago)],
    over=lambda scene: not any(scene.redis.keys(f"{scene.keys.run(run).prefix}*") for run in scene.forgotten),
)
CLEANED = Story(
    name="cleaned up",
    todos=[{"id": "A", **R}, {"id": "F", **R, "action": "false"}],
    acts=[Act(when=ended, coord=("run", "clean", "--yes", "--unmerged"))],
    ends=[RunStatus.FAILED],
)
PUSHED = Story(
    name="what was published is withdrawn",
    todos=[{"id": "A", **R}],
    repos={"r": {"url": "{folder}/remote.git"}},
    env={"COORD_BUNDLE_LIMIT_BYTES": "0"},
    files=lambda folder: git(folder, "init", "-q", "--bare", "remote.git"),
    acts=[Act(when=ended, coord=("rollback", "last", "--yes", "--detach"))],
    ends=[RunStatus.ROLLED_BACK],
)
UNDO = {"compensate": ["sh", "-c", f"LASTS=0 exec sh {BODY} undo-"]}
ROLLED_BACK = Story(
    name="rolled back while it runs",
    todos=[
        {"id": "A", **P, **UNDO},
        {"id": "B", **R, "blocked_by": ["A"], "action": HANDS_OVER},
        {"id": "C", **Q, **UNDO, "blocked_by": ["A"], "env": {"LASTS": "30"}},
        {"id": "D", **R, **UNDO, "blocked_by": ["B", "C"]},
    ],
    acts=[
        Act(
            when=lambda s: s.state("C") == "running" and s.state("B") == "succeeded",
            coord=("rollback", "last", "--yes"),
        )
    ],
    ends=[RunStatus.ROLLED_BACK],
)
UNDONE = Story(
    name="rolled back when it is done",
    plan={"strategy": "levels"},
    todos=[
        {"id": "A", **R, **UNDO},
        {"id": "B", **R, "blocked_by": ["A"]},
        {"id": "C", **P, **UNDO, "blocked_by": ["B"]},
    ],
    acts=[Act(when=ended, coord=("rollback", "last", "--yes", "--detach"))],
    ends=[RunStatus.ROLLED_BACK],
)
ACCEPTED = Story(
    name="what cannot be undone is accepted",
    todos=[
        {"id": "A", **P, **UNDO},
        {"id": "B", **P, "blocked_by": ["A"], "compensate": "false", "retry": {"attempts": 1}},
    ],
    acts=[
        Act(when=ended, coord=("rollback", "last", "--yes", "--detach")),
        Act(
            when=lambda s: s.status(s.run) == "rollback_failed",
            coord=("rollback", "last", "--accept", "B", "--reason", "it may stay", "--detach"),
            role="accept",
        ),
    ],
    ends=[RunStatus.ROLLED_BACK],
)
