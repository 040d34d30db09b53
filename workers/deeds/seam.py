"""What an attempt asks of its deed, in this order."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from workers.conclusion import Conclusion
from workers.executors.seam import Undone
from workers.workspace import Workspace


class Deed(Protocol):
    @property
    def key(self) -> str:
        """COORD_IDEMPOTENCY_KEY. The same for every attempt: what it does outside can be recognised as done before."""

    def has_command(self) -> bool:
        """Whether there is something to carry out in a workspace. Raises where nothing of the deed can be done."""

    def recalled(self, workspace: Workspace, since: str) -> Conclusion | None:
        """What its command is spared for: asked before `prepare` and after it."""

    def undone(self, folder: Path) -> Undone | None:
        """What its command is told of a todo that it undoes, in files of this folder. Raises WorkspaceUnusable."""

    def explained(self, why: str) -> str:
        """Why its command failed, with what may have led to it."""

    def keep(self, workspace: Workspace, output: Path, since: str) -> Conclusion:
        """Its command succeeded, and the workspace is still ours. `output`: what COORD_OUTPUT named. Raises where it is not."""

    def counts(self) -> None:
        """Its success was accepted."""

    def close(self) -> None:
        """It is over, whatever it came to."""

    def finish(self) -> None:
        """What is left to do when nobody is in the workspace any more. Raises where it cannot be done."""
