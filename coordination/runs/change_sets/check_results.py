"""The result of a quality check, as its todo hands it over: the output of one that succeeded, the checkpoint
of one that failed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from coordination.models import Word

MOST_FAILURES = 50
"""Failed tests that a result names."""

Number = Annotated[int, Field(ge=0)]


class CheckVerdict(Word):
    """The verdict on a repository. Only `green` is good."""

    GREEN = "green"
    RED = "red"
    """A test failed, the command failed, or no test ran."""
    TIMED_OUT = "timed_out"
    COULD_NOT_RUN = "could_not_run"
    """The command could not be started, was killed, or left no report that can be read."""
    SKIPPED = "skipped"
    """A check that it waits for is not green."""
    WAITING = "waiting"
    """It has not ended."""


class FailedTest(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    message: str = ""


class CheckResult(BaseModel):
    """Result of one check at one commit of its repository."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    verdict: CheckVerdict
    why: str = ""
    """The reason of a verdict that is not green."""
    check: str | None = None
    kind: str | None = None
    total: Number | None = None
    """Number of tests; None without a report, like the following numbers."""
    passed: Number | None = None
    failed: Number | None = None
    skipped: Number | None = None
    errors: Number | None = None
    duration_s: float | None = None
    exit_code: int | None = None
    commit: str = ""
    needs: Mapping[str, str] = {}
    """Needed repository → the commit that it was checked against."""
    failures: tuple[FailedTest, ...] = ()
    """The first failed tests."""
    unnamed: Number = 0
    """Number of further failed tests."""
    known: bool = False
    """True if nothing failed that had not failed before the plan."""

    def written(self) -> str:
        return self.model_dump_json(exclude_defaults=True)


def read_result(output: Any) -> CheckResult | None:
    """Return the result in a todo's output, as text or parsed; None if there is none that can be read."""
    try:
        value = json.loads(output) if isinstance(output, str) else output
        return CheckResult.model_validate(value)
    except (ValueError, ValidationError, RecursionError):
        return None
