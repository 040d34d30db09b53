"""Ask the workers whether the results of completed todos are in their base branches: question and answer.

It is asked in a cleanup job (`cleanup_jobs.py`), and answered by `workers/cleanup/completed.py`.
"""

from __future__ import annotations

from coordination.frozen import FrozenModel


class ExpectedResult(FrozenModel):
    """The result of a completed todo that must be in its base branch."""

    todo: str
    repo: str
    branch: str
    """The base branch."""
    commit: str = ""
    """Empty where none was recorded; then its trailers are searched."""
    run: str = ""
    tips: tuple[str, ...] = ()
    """Commits at which runs that contain it have left the repository."""
    plan: str = ""
    """The change set whose landing asks: the result may be in `tip` as well, and is searched in all refs."""
    tip: str = ""
    """The tip of that change set; empty where nothing of it lands."""
    remote: bool = False
    """True if the base branch of that landing is the one at the url."""


class ResultFinding(FrozenModel):
    """A worker's answer about one result."""

    todo: str
    repo: str
    branch: str
    run: str = ""
    why: str = ""
    """Reason why it does not count as landed; empty if it does, or if there is nothing of it."""
    commit: str = ""
    """For a landing: the commit of the todo; empty if none is known."""
    ref: str = ""
    """A ref that has the commit, if it does not count as landed; empty if none has."""
    host: str = ""
    """The host that has answered."""
