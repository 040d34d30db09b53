"""The environment of an attempt: its run's brief, folders, services, and commits of other hosts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from coordination.models import LandCheck
from coordination.runs.records import RunBrief
from coordination.runs.run_kinds import is_landing
from workers.attempt.result_cache import Results
from workers.credentials import TodoSecrets
from workers.landing.job import LandJob
from workers.outcome import AttemptOutcome, OutcomeKind
from workers.sandbox import Sandboxes
from workers.workspace.base_commit import Carried, RunBase
from workers.workspace.git_sessions import GitSessions
from workers.workspace.git_worktree import Fetch

MakeLandJob = Callable[
    [Callable[[], OutcomeKind | None], Callable[[str], None], Callable[[LandCheck, str], AttemptOutcome]],
    LandJob,
]
"""Its arguments tell a stop, write a line of the log, and run a check at a commit."""


def _nothing_published() -> None:
    """Withdraw nothing."""


def _nothing_to_verify() -> None:
    """Verify nothing."""


def _no_connection(_masked: Callable[[Any], Any]) -> AbstractContextManager[str]:
    return nullcontext("")


@dataclass(frozen=True, kw_only=True)
class AttemptEnvironment:
    brief: RunBrief
    context: Callable[[], Mapping[str, Any]]
    """The content of COORD_CONTEXT, made in the workspace; may take as long as the transfer of a commit."""
    state: Path
    checkout: Path
    output_limit_bytes: int
    verify: Callable[[], None] = _nothing_to_verify
    """Verifies what the todo begins with. Raises NotAllowed."""
    results: Results | None = None
    """The result cache; None where this worker uses none."""
    connection: Callable[[Callable[[Any], Any]], AbstractContextManager[str]] = _no_connection
    """The content of COORD_CONNECTION's file, and the service behind it, while the command runs. The argument
    takes secrets out of a JSON value that the command sets.

    Raises OSError.
    """
    secrets: TodoSecrets | None = None
    """The credentials of this machine; None where todos get none."""
    fetch: Fetch | None = None
    """Fetches a commit of another host."""
    git_sessions: GitSessions | None = None
    """The git processes that this worker keeps open; None: it keeps none."""
    sandboxes: Sandboxes | None = None
    """The sandboxes of this worker; None where nothing is executed."""
    landing: MakeLandJob | None = None
    """Makes the job of a todo of a landing run; None if this worker may not write change sets."""
    base: Callable[[], RunBase] | None = None
    """Looks the base branch up where landing goes; None: the base is the local branch."""
    set_back: Callable[[], str] = str
    """Sets the branch of the change set back to where it was before the run; returns why it stays."""
    sandbox_demanded: bool = False
    """True if the role of the person who ordered the todo demands a sandbox."""
    withdraw: Callable[[], None] = _nothing_published
    """Deletes what the run has published of the repository. Raises NotCarried with the remote's message."""

    def carried(self, repo: str) -> Carried | None:
        """Return the commits of earlier runs, or of the change set, that a run takes up in a repository."""
        brief, branch = self.brief, self.brief.branch_of_set.get(repo, "")
        if is_landing(brief.plan_id):  # a repository that does not land is checked as its base branch is
            return Carried(runs=(), tip=None, base=self.base)
        if not brief.carried_from and not branch:
            return None
        runs, again = brief.carried_from, brief.set_back.get(repo) or ""
        if again in runs:  # the todos on its branch run again: nothing on it is a mend
            runs = runs[: runs.index(again)]
        return Carried(
            runs=runs,
            tip=brief.carried_tips.get(repo),
            change_set=brief.change_set if branch else "",
            branch=branch,
            published=brief.published.get(repo, "") if branch else "",
            again=again,
            base=self.base if branch else None,
        )
