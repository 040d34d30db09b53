"""A transition of a service: one attempt of a todo of kind `service`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from coordination.models import ServiceAction, ServiceStep
from coordination.runs.replies import Grant
from coordination.services.host import ServiceHost, ServiceState, ServiceStatus, log_lines
from workers.outcome import AttemptOutcome, OutcomeKind

WAS_UP = "was_up"
LOG_BYTES = 32 * 1024
"""Size of a log's end that goes to another host."""


def carry_out(
    grant: Grant,
    state: Path,
    checkout: Path,
    stopped: Callable[[], OutcomeKind | None],
    say: Callable[[str], None],
) -> AttemptOutcome | None:
    """Start, stop or restart a service of this machine, or undo that, and wait until it is up, down or
    failed; None for any other todo.

    An attempt keeps no state: one that was cut off is followed by one that finds the service as it is.
    `state`: the worker's folder; `stopped` tells a stop, `say` writes a line of the log.
    """
    action = grant.spec.todo.action if grant.undo is None else grant.spec.todo.compensate
    if not isinstance(action, ServiceAction):
        return None
    if grant.undo is not None and _was_up(grant.undo.output):
        say("it was up before this run, and stays")
        return AttemptOutcome(kind=OutcomeKind.SUCCEEDED)
    host = ServiceHost(state)
    name, service = action.name, action.service
    say(f"{action.step} service {name}")

    def ends() -> bool:
        return stopped() is not None

    if action.step is ServiceStep.LOGS:
        return _log(host, name, action.lines or 1)
    before = host.wanted().get(name)
    if action.if_wanted and before is None:
        say("it was stopped in the meantime, and stays so")
        return AttemptOutcome(kind=OutcomeKind.SUCCEEDED)
    status: ServiceStatus | None
    if action.step is ServiceStep.STOP or service is None:
        status = host.stop(name, ends)
    elif action.step is ServiceStep.START:
        status = host.start(service, checkout, ends)
    else:
        status = host.restart(service, checkout, ends)
    say(_told(status))
    if (kind := stopped()) is not None:
        return AttemptOutcome(kind=kind)
    told = status.model_dump(mode="json") if status else {"state": ServiceState.STOPPED}
    was_up = before is not None and status is not None and before.order == status.order
    output = json.dumps({**told, WAS_UP: was_up})
    is_up = status is not None and status.state is ServiceState.HEALTHY
    if action.step is not ServiceStep.STOP and not is_up:
        why = status.why if status else "it was stopped"
        return AttemptOutcome(kind=OutcomeKind.FAILED, why=why, output=output)
    return AttemptOutcome(kind=OutcomeKind.SUCCEEDED, output=output)


def _log(host: ServiceHost, name: str, lines: int) -> AttemptOutcome:
    try:
        found = log_lines(host, name, lines, LOG_BYTES)
    except FileNotFoundError:
        return AttemptOutcome(kind=OutcomeKind.FAILED, why=f"{name} has no log here")
    return AttemptOutcome(kind=OutcomeKind.SUCCEEDED, output=json.dumps({"lines": found}))


def _was_up(output: str) -> bool:
    """Return whether the service was up before the todo that wrote this output."""
    found = json.loads(output or "null")
    return isinstance(found, dict) and found.get(WAS_UP) is True


def _told(status: ServiceStatus | None) -> str:
    if status is None:
        return "it was not up"
    pid = f", pid {status.pid}" if status.pid else ""
    return f"{status.state}{pid}: {status.why}"
