"""What an attempt came to, for whoever makes a step of it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from coordination.runs.records import Blame
from coordination.runs.retry import Failure


class Word(StrEnum):
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    """The todo's own failure: its retry policy decides."""
    REFUSED = "refused"
    """Trying again would change nothing."""
    BUSY = "busy"
    """Somebody is still in the workspace, or does just the same elsewhere."""
    HINDERED = "hindered"
    """Trouble that passes, none of the todo's: it is parked, and uses up no attempt."""
    CANCELLED = "cancelled"
    LOST = "lost"
    """Somebody else may hold the todo by now."""
    SUPERSEDED = "superseded"
    """Somebody else holds it or did: what this attempt would write was refused."""
    HANDED_BACK = "handed back"


@dataclass(frozen=True, kw_only=True)
class Conclusion:
    word: Word
    why: str = ""
    exit_code: int | None = None
    output: str = ""
    """JSON; of what did not succeed: what it had written by then, where Redis does not know it yet."""
    tip: str = ""
    since: str = ""
    """The commit that it began with."""
    failure: Failure | None = None
    """As its retry policy sees it, where it was the todo's command that failed."""
    blame: Blame = ""
    """`worker`: it failed for reasons of the worker's, and the todo's command says nothing."""
    limited: bool = False
    """HINDERED by what the todo's own command may have done: not for ever."""
    cached: str = ""
    """`<run> <todo>` whose result it was given; nothing ran."""
    again: timedelta | None = None
    """The delay before another try, where its retry policy wants one; or before it looks again whether it is still BUSY."""
