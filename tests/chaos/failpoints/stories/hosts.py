"""Several machines, and workers that may do little."""

from __future__ import annotations

from coordination.runs.records import RunStatus
from tests.chaos.failpoints.stories.props import BODY_, RETRY, WHEN_ALLOWED, P, R, allow, ended
from tests.chaos.failpoints.story import Act, Story, WorkerSpec

RESTRICTED = Story(
    name="a restricted worker",
    plan={"strategy": "levels"},
    todos=[
        {"id": "A", **P},
        {"id": "B", **R, "env": {"FAILS": "1"}, "retry": RETRY},
        {"id": "C", **P, "blocked_by": ["A", "B"]},
    ],
    workers=[
        WorkerSpec(role="worker-keeper", words=("--keeper",)),
        WorkerSpec(role="worker-restricted", env={"COORD_RESTRICTED": "true"}),
    ],
)
HOSTS = Story(
    name="two hosts",
    todos=[{"id": "A", **R}, {"id": "B", "repo": "s", "action": BODY_, "blocked_by": ["A"]}],
    workers=[
        WorkerSpec(role="worker-h1", words=("--repo", "r"), env={"COORD_HOST": "h1"}),
        WorkerSpec(role="worker-h2", words=("--repo", "s"), env={"COORD_HOST": "h2"}),
    ],
)
NOT_CARRIED = Story(
    name="nothing is carried",
    todos=HOSTS.todos,
    workers=HOSTS.workers,
    env={"COORD_BUNDLE_LIMIT_BYTES": "0"},
    acts=[
        Act(when=lambda s: s.state("B") == "parked", coord=("cancel", "last"))
    ],  # it would wait until it is carried
    ends=[RunStatus.CANCELLED],
)
HOST_GONE = Story(
    name="a host is gone for good",
    todos=[{"id": "A", **R}, {"id": "F", **R, "action": WHEN_ALLOWED, "blocked_by": ["A"]}],
    workers=[WorkerSpec(role="worker-h1", env={"COORD_HOST": "h1"})],
    acts=[
        Act(when=ended, do=lambda scene: (allow(scene), scene.retire("worker-h1"))),
        Act(
            when=lambda _: True, coord=("retry", "last", "--without", "h1", "--detach"), role="retry-without"
        ),
        Act(
            when=lambda _: True,
            do=lambda scene: scene.start(WorkerSpec(role="worker-h2", env={"COORD_HOST": "h2"})),
        ),
    ],
    ends=[RunStatus.FAILED, RunStatus.SUCCEEDED],
)
