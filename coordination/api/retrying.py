"""For scripts: an action that is tried again, as a todo is."""

from __future__ import annotations

import random
import re
import subprocess
import time
from collections.abc import Callable
from typing import Any, TypeVar

from pydantic import ValidationError

from coordination.breakers.manager import BreakerManager
from coordination.breakers.records import Policy
from coordination.errors import BreakerOpen, UsageError
from coordination.models import Retry
from coordination.runs.retry_policy import Again, Failure, decide

T = TypeVar("T")


def retrying(
    breakers: BreakerManager,
    name: str,
    action: Callable[[], T],
    *,
    breaker: Policy | None = None,
    **policy: Any,
) -> T:
    """Return what the action returns. `policy`: the fields of a todo's `retry`. Raises what the last try
    raised, BreakerOpen, UsageError.
    """
    rules = _rules(policy)
    failures = 0
    while True:
        try:
            return breakers.call(name, action, policy=breaker)
        except BreakerOpen:
            raise
        except Exception as error:
            failures += 1
            match decide(rules, failures, random.random(), _failure(error)):  # noqa: S311 (jitter, no secret)
                case Again(delay):
                    time.sleep(delay.total_seconds())
                case _:
                    raise


def _rules(policy: dict[str, Any]) -> Retry:
    try:
        return Retry.model_validate(policy)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(map(str, first["loc"]))
        known = ", ".join(Retry.model_fields)
        raise UsageError(f"{field} of a retry policy: {first['msg']}", f"there are: {known}") from error


def _failure(error: Exception) -> Failure:
    """Return the error as a retry policy sees it: exit code and output of a command, a timeout, the
    message.
    """
    output = getattr(error, "stderr", None) or getattr(error, "output", None) or str(error)
    text = output.decode(errors="replace") if isinstance(output, bytes) else str(output)
    return Failure(
        exit_code=error.returncode if isinstance(error, subprocess.CalledProcessError) else None,
        timeout=isinstance(error, TimeoutError | subprocess.TimeoutExpired),
        shows=lambda pattern: any(re.search(pattern, line) for line in text.splitlines()),
    )
