"""What the processes are doing when they fail. Between them the stories come by every point; none takes longer than some seconds."""

from __future__ import annotations

from tests.chaos.failpoints.scene import Act, Crew, Scene, Story
from tests.chaos.ledger import BODY

BODY_ = ["sh", str(BODY)]
R, P = {"repo": "r", "action": BODY_}, {"repo": "p", "action": BODY_, "workspace": "in-place"}
RETRY = {"attempts": 3, "delay": "100ms"}

DATAFLOW = Story(
    name="dataflow",
    plan={"strategy": "dataflow"},
    todos=[
        {"id": "A", **P},
        {"id": "B", **R, "blocked_by": ["A"]},
        {"id": "C", **P, "blocked_by": ["A"], "env": {"FAILS": "1"}, "retry": RETRY},
        {"id": "D", **P, "blocked_by": ["B", "C"]},
    ],
)
LEVELS = Story(
    name="levels",
    plan={"strategy": "levels"},
    todos=[{"id": "A", **P}, {"id": "B", "repo": "q", "action": BODY_, "workspace": "in-place"}, {"id": "C", **P, "blocked_by": ["A", "B"]}],
)

STORIES = (DATAFLOW, LEVELS)
