"""A dependency's `validation`, carried out.

A command must end with 0; with an `expected_pattern`, a line of its output must fit it as well. An address must answer as
`health.py` says. Where both are given, both must hold.
"""

from __future__ import annotations

import signal
from datetime import timedelta
from pathlib import Path
from threading import Event

from coordination import patterns
from coordination.dependencies.command import Ended, NotStarted, run
from coordination.dependencies.records import Verdict, holds, joined, satisfied, unknown, unsatisfied
from coordination.models import Command, Validation

TIMEOUT = timedelta(seconds=30)
LONGEST = timedelta(days=1)
"""Of what a clock of the system can count."""


def mistake_in(validation: Validation) -> str | None:
    """What cannot be meant so, in a sentence that names the field."""
    if validation.expected_pattern is not None and validation.command is None:
        return (
            "validation.expected_pattern has no command whose output it could be looked for in: add validation.command"
        )
    if validation.expected_status is not None and validation.health_check is None:
        return "validation.expected_status has no address to ask: add validation.health_check"
    pattern = validation.expected_pattern or ""
    mistake = patterns.mistake_in(pattern)
    return f"validation.expected_pattern {pattern[:100]!r} {mistake}" if mistake else None


def carry_out(validation: Validation, *, folder: Path, stopped: Event) -> Verdict | None:
    """None where it asks for nothing. The first verdict that is not satisfied is the one that counts."""
    if mistake := mistake_in(validation):
        return unknown(mistake)
    verdicts: list[Verdict] = []
    if validation.command is not None:
        verdicts.append(run_command(validation.command, validation, folder=folder, stopped=stopped))
    if validation.health_check is not None and all(map(holds, verdicts)):
        from coordination.dependencies.health import ask  # httpx2 takes 100 ms, for those who need it

        verdicts.append(ask(validation.health_check, validation.expected_status, _timeout(validation)))
    return joined(verdicts) if verdicts else None


def run_command(command: Command, validation: Validation, *, folder: Path, stopped: Event) -> Verdict:
    """`mistake_in` has found none. A command that is called off ends as one whose time is up."""
    timeout = _timeout(validation)
    pattern = validation.expected_pattern
    try:
        ended = run(command, folder=folder, pattern=pattern, timeout=timeout, stopped=stopped)
    except NotStarted as error:
        return unsatisfied(str(error))
    if ended.code is None:
        return unsatisfied(f"the command did not end within {timeout.total_seconds():g} s, and was killed")
    if ended.code:
        return unsatisfied(f"the command {_how(ended.code)}{_last(ended)}")
    if pattern is None:
        return satisfied("the command succeeded")
    if ended.fits is None:
        return unknown(f"looking for {pattern!r} in the output takes for ever: make the pattern simpler")
    if not ended.fits:
        where = "the output's beginning and end" if ended.is_cut else "the output"
        return unsatisfied(f"no line of {where} fits {pattern!r}{_last(ended)}")
    return satisfied(f"a line of the output fits {pattern!r}")


def _timeout(validation: Validation) -> timedelta:
    return min(validation.timeout or TIMEOUT, LONGEST)


def _how(code: int) -> str:
    if code > 0:
        return f"ended with {code}"
    known = {member.value: member.name for member in signal.Signals}
    return f"was killed by {known.get(-code, -code)}"


def _last(ended: Ended) -> str:
    line = next((line.strip() for line in reversed(ended.output.last) if line.strip()), "")
    return f": {line}" if line else ""
