"""Runs that people steer: paused, moved, cancelled, done by hand, approved."""

from __future__ import annotations

from coordination.runs.records import RunStatus
from tests.chaos.failpoints.scene import Scene
from tests.chaos.failpoints.stories.props import P
from tests.chaos.failpoints.story import Act, Story

STEERED = Story(
    name="paused and resumed",
    todos=[{"id": "A", **P, "env": {"LASTS": "0.5"}}, {"id": "B", **P, "blocked_by": ["A"]}],
    acts=[
        Act(when=lambda s: s.state("A") == "running", coord=("run", "pause", "last")),
        Act(when=lambda s: s.state("A") != "running", coord=("run", "resume", "last")),
    ],
)


def _lose_run(scene: Scene) -> None:
    """As in a Redis that has never heard of it."""
    run = scene.run
    for key in (scene.keys.live, scene.keys.runs):
        scene.redis.zrem(key, run)
    scene.redis.delete(*scene.redis.keys(f"{scene.keys.run(run).prefix}:*"))


MOVED = Story(
    name="exported and imported",
    todos=[{"id": "A", **P, "env": {"LASTS": "0.3"}}, {"id": "B", **P, "blocked_by": ["A"]}],
    acts=[
        Act(when=lambda s: s.state("A") == "running", coord=("run", "pause", "last")),
        Act(
            when=lambda s: s.state("A") not in ("running", "dispatched"),
            coord=("run", "export", "last", "moved.json"),
        ),
        Act(
            when=lambda s: (s.testbed.folder / "moved.json").exists(),
            do=_lose_run,
            coord=("run", "import", "moved.json"),
        ),
        Act(when=lambda s: s.runs, coord=("run", "resume", "last"), role="resume-moved"),
    ],
)
CANCELLED = Story(
    name="cancelled",
    todos=[{"id": "A", **P, "env": {"LASTS": "30"}}, {"id": "B", **P, "blocked_by": ["A"]}],
    acts=[Act(when=lambda s: s.state("A") == "running", coord=("cancel", "last"))],
    ends=[RunStatus.CANCELLED],
)
BY_HAND = Story(
    name="done by hand",
    plan={"strategy": "levels"},
    todos=[
        {"id": "A", **P},
        {"id": "M", "repo": "p", "action": {"type": "manual"}, "blocked_by": ["A"]},
        {"id": "B", **P, "blocked_by": ["M"]},
    ],
    acts=[Act(when=lambda s: s.state("M") == "parked", coord=("complete-todo", "M"))],
)
GATED = Story(
    name="approved",
    plan={"strategy": "levels"},
    todos=[
        {"id": "A", **P},
        {"id": "G", **P, "gate": True, "blocked_by": ["A"]},
        {"id": "B", **P, "blocked_by": ["G"]},
    ],
    acts=[Act(when=lambda s: s.state("G") == "parked", coord=("approve", "G", "--comment", "go on"))],
)
REJECTED = Story(
    name="rejected",
    todos=[
        {"id": "A", **P},
        {"id": "G", **P, "gate": True, "blocked_by": ["A"]},
        {"id": "B", **P, "blocked_by": ["G"]},
    ],
    acts=[Act(when=lambda s: s.state("G") == "parked", coord=("run", "reject", "G", "--comment", "no"))],
    ends=[RunStatus.FAILED],
)
