"""A transition of a service: one attempt of a todo of kind `service`."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

from coordination.errors import CoordinationError
from coordination.models import ServiceAction, ServiceStep
from coordination.runs.records import WaitReason
from coordination.runs.replies import Grant
from coordination.runs.run_kinds import TOOK_S
from coordination.services.host import ServiceHost, ServiceState, ServiceStatus, Wanted
from coordination.services.logs import log_lines
from workers.outcome import AttemptOutcome, OutcomeKind

WAS_UP = "was_up"
LOOK_AGAIN = timedelta(seconds=2)
"""Time after which a start is looked at again, unless its worker tells its end before (service_waits.py)."""
LOG_BYTES = 32 * 1024
"""Size of a log's end that goes to another host."""


def carry_out(
    grant: Grant,
    state: Path,
    checkout: Path,
    stopped: Callable[[], OutcomeKind | None],
    say: Callable[[str], None],
) -> AttemptOutcome | None:
    """Start, stop or restart a service of this machine, or undo that; None for any other todo. A start that
    goes on is HINDERED: the next attempt looks at it again.

    An attempt keeps no state: one that was cut off is followed by one that finds the service as it is, as
    the order of a start names its run.
    `state`: the worker's folder; `stopped` tells a stop, `say` writes a line of the log.
    """
    action = grant.spec.todo.action if grant.undo is None else grant.spec.todo.compensate
    if not isinstance(action, ServiceAction):
        return None
    host = ServiceHost(state)
    name, service = action.name, action.service
    before = host.wanted().get(name)
    own = before is not None and before.order == grant.run_id
    if grant.undo is not None and (_was_up(grant.undo.output) if grant.undo.output else not own):
        say("it was up before this run, and stays")
        return AttemptOutcome(kind=OutcomeKind.SUCCEEDED)
    say(f"{action.step} service {name}")

    if action.step is ServiceStep.LOGS:
        return _log(host, name, action.lines or 1)
    if action.if_wanted and before is None:
        say("it was stopped in the meantime, and stays so")
        return AttemptOutcome(kind=OutcomeKind.SUCCEEDED)
    if action.step is ServiceStep.STOP or service is None:
        status = host.stop(name, lambda: stopped() is not None)
    else:
        order = host.order_start if action.step is ServiceStep.START else host.order_restart
        order(service, checkout, grant.run_id)
        status = host.settled(name)
    if (kind := stopped()) is not None:
        return AttemptOutcome(kind=kind)
    if status is None and action.step is not ServiceStep.STOP:
        return _goes_on(name)
    say(_told(status))
    return _outcome(action.step, status, before, own=own)


def _outcome(
    step: ServiceStep, status: ServiceStatus | None, before: Wanted | None, *, own: bool
) -> AttemptOutcome:
    """Return the outcome of a transition that has come to its end. `before`: the service as it was wanted
    when the attempt began; `own`: by this run.
    """
    told = status.model_dump(mode="json") if status else {"state": ServiceState.STOPPED}
    was_up = before is not None and status is not None and before.order == status.order and not own
    took_s = max(0.0, status.since - before.at) if own and before and status else 0.0
    output = json.dumps({**told, WAS_UP: was_up, TOOK_S: round(took_s, 3)})
    is_up = status is not None and status.state is ServiceState.HEALTHY
    if step is not ServiceStep.STOP and not is_up:
        why = status.why if status else "it was stopped"
        return AttemptOutcome(kind=OutcomeKind.FAILED, why=why, output=output)
    return AttemptOutcome(kind=OutcomeKind.SUCCEEDED, output=output)


def _goes_on(name: str) -> AttemptOutcome:
    why = f"service {name} to come up"
    return AttemptOutcome(
        kind=OutcomeKind.HINDERED, why=why, reason=WaitReason.SERVICE, again=LOOK_AGAIN, service=name
    )


def _log(host: ServiceHost, name: str, lines: int) -> AttemptOutcome:
    try:
        found = log_lines(host, name, lines, LOG_BYTES)
    except FileNotFoundError:
        return AttemptOutcome(kind=OutcomeKind.FAILED, why=f"{name} has no log here")
    except CoordinationError as error:
        return AttemptOutcome(kind=OutcomeKind.FAILED, why=error.message)
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
