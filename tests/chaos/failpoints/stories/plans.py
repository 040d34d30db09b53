"""Plans carried out: in order, by levels, with retries, resources and outputs; what failed is run again."""

from __future__ import annotations

from coordination.runs.records import RunStatus
from tests.chaos.failpoints.stories.props import (
    HANDS_OVER,
    RETRY,
    SHARES,
    WHEN_ALLOWED,
    P,
    Q,
    R,
    allow,
    ended,
)
from tests.chaos.failpoints.story import Act, Story
from tests.testbed import PLAN

DATAFLOW = Story(
    name="dataflow",
    plan={"strategy": "dataflow"},
    todos=[
        {"id": "A", **P, "resources": [{"name": "gpu"}]},
        {"id": "B", **R, "blocked_by": ["A"], "action": HANDS_OVER},
        {
            "id": "C",
            **P,
            "blocked_by": ["A"],
            "env": {"FAILS": "1"},
            "retry": RETRY,
            "resources": [{"name": "gpu"}],
        },
        {"id": "D", **P, "blocked_by": ["B", "C"]},
    ],
    resources={"gpu": 1},
)
LEVELS = Story(
    name="levels",
    plan={"strategy": "levels"},
    todos=[
        {"id": "A", **P},
        {"id": "B", **Q},
        {"id": "C", **P, "blocked_by": ["A", "B"]},
        {"id": "E", **Q, "blocked_by": ["C"]},
    ],
)
LEVELS_LEFT = Story(
    name="levels are left for a resource",
    todos=[
        {"id": "A", **P, "env": {"LASTS": "0.3"}, "resources": [{"name": "gpu"}]},
        {"id": "B", **Q, "env": {"LASTS": "0.3"}, "resources": [{"name": "gpu"}]},
        {"id": "C", **P, "blocked_by": ["A"]},
        {"id": "E", **Q, "blocked_by": ["B"]},
    ],
    resources={"gpu": 1},
)
CHECKPOINT = Story(
    name="what it has written so far",
    todos=[{"id": "A", **P, "action": HANDS_OVER, "env": {"LASTS": "1"}}],
)
FAILED = Story(
    name="failed, then retried",
    todos=[
        {"id": "A", **R},
        {"id": "F", **P, "action": WHEN_ALLOWED, "blocked_by": ["A"], "env": {"LASTS": "0.8"}},
        {"id": "D", **P, "blocked_by": ["F"]},
    ],
    acts=[
        Act(when=ended, do=allow, coord=("retry", "last", "--detach")),
        Act(when=lambda s: len(s.runs) == 2, coord=("run", "clean", "--yes", "--unmerged"), role="clean-two"),
    ],
    ends=[RunStatus.FAILED, RunStatus.SUCCEEDED],
)
MANY = Story(
    name="more todos than are skipped at once",
    plan={"on_failure": "continue"},
    todos=[
        {"id": "F", **P, "action": "false"},
        *({"id": f"T{n}", **Q, "blocked_by": ["F"]} for n in range(320)),
    ],
    ends=[RunStatus.FAILED],
)
SHARED = Story(
    name="values are shared",
    todos=[{"id": "A", **P, "action": SHARES, "retry": RETRY}],
)
FAILED_LEVEL = Story(
    name="a level fails, then is swept again",
    plan={"strategy": "levels", "on_failure": "continue"},
    todos=[{"id": "A", **P}, {"id": "F", **Q, "action": WHEN_ALLOWED}, {"id": "D", **P, "blocked_by": ["A"]}],
    acts=[Act(when=ended, do=allow, coord=("sweep", PLAN, "--failed", "--detach"), role="sweep-failed")],
    ends=[RunStatus.FAILED, RunStatus.SUCCEEDED],
)
