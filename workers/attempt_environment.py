"""What an attempt finds on this machine."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from coordination.runs.records import RunBrief
from workers.result_cache.results import Results
from workers.workspace.base_commit import Carried
from workers.workspace.git_worktree import Fetch


def _nothing() -> None:
    """Where nothing was published."""


def _nobody_serves() -> AbstractContextManager[str]:
    return nullcontext("")


@dataclass(frozen=True, kw_only=True)
class AttemptEnvironment:
    brief: RunBrief
    context: Callable[[], Mapping[str, Any]]
    """Made when the workspace is entered; may take as long as a commit takes to be carried here."""
    state: Path
    checkout: Path
    output_limit_bytes: int
    results: Results | None = None
    """Of earlier todos; None where this worker uses none."""
    connection: Callable[[], AbstractContextManager[str]] = _nobody_serves
    """What stands in the file of COORD_CONNECTION, for as long as the todo's command can ask there. Raises OSError."""
    fetch: Fetch | None = None
    """Brings a commit of another host."""
    withdraw: Callable[[], None] = _nothing
    """Takes back what the run has published of the repository. Raises NotCarried with the remote's words."""

    def carried(self, repo: str) -> Carried | None:
        """What the run takes up in a repository, where it is a retry."""
        if not self.brief.carried_from:
            return None
        runs, set_back = self.brief.carried_from, self.brief.set_back.get(repo)
        if set_back in runs:  # what stands on its branch is done again, and no mend
            runs = runs[: runs.index(set_back)]
        return Carried(runs=runs, tip=self.brief.carried_tips.get(repo))
