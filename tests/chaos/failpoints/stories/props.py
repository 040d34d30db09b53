"""Shared parts of the stories."""

from __future__ import annotations

from coordination.runs.records import LIVE
from tests.chaos.failpoints.scene import Scene
from tests.chaos.ledger import BODY
from tests.testbed import COORD

BODY_ = ["sh", str(BODY)]
WHEN_ALLOWED = ["sh", "-c", f'test -e "$LEDGER.allowed" && exec sh {BODY}']
HANDS_OVER = ["sh", "-c", f'echo "{{}}" > "$COORD_OUTPUT"; exec sh {BODY}']
MAKES = ["sh", "-c", f'touch "made-by-$COORD_TODO_ID"; exec sh {BODY}']
SHARES = [
    "sh",
    "-c",
    (
        f'c="{COORD} context"; $c set k 1; $c get k; $c list; $c set --scope plan p 1; $c delete p; exec sh'
        f" {BODY}"
    ),
]
"""Failures here fail no todo: a context is a hint."""
R, P = {"repo": "r", "action": BODY_}, {"repo": "p", "action": BODY_, "workspace": "in-place"}
Q = {**P, "repo": "q"}
RETRY = {"attempts": 3, "delay": "100ms"}
HOUR_MS = 3600 * 1000


def ended(scene: Scene) -> bool:
    return bool(scene.runs) and all(scene.status(run) not in LIVE for run in scene.runs)


def allow(scene: Scene) -> None:
    """Todos that have failed so far succeed from now on."""
    (scene.testbed.folder / "ledger.allowed").touch()
