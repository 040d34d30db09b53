"""Execute the todos that need no command: services and landings, inside the worker's own process.

A transition of a service keeps no state between attempts: an attempt that was cut off is followed by one that
finds the service as it is, since the order of a start names its run.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta

from coordination.errors import CoordinationError, PlanRefused
from coordination.models import (
    LandAction,
    LandCheck,
    RevertAction,
    Service,
    ServiceAction,
    ServiceStep,
)
from coordination.runs.attempt_store import Grant
from coordination.runs.records import WaitReason
from coordination.services.confined import ServiceSandbox
from coordination.services.host import DesiredService, ServiceHost, ServiceState, ServiceStatus, log_lines
from workers.attempt.environment import AttemptEnvironment
from workers.landing.carry_out import carry_out
from workers.outcome import AttemptOutcome, OutcomeKind

WAS_UP = "was_up"
TOOK_S = "took_s"
"""Field of the output: the seconds from the order of the service until its state."""
LOOK_AGAIN = timedelta(seconds=2)
"""Delay before a start is looked at again, unless its worker sees the end of it before (`waits.py`)."""
LOG_BYTES = 32 * 1024
"""Size of a log's end that goes to another host."""
Stopped = Callable[[], OutcomeKind | None]
"""Returns the kind of outcome with which the attempt is stopped; None while it is not."""


InProcessAction = ServiceAction | LandAction | RevertAction


def execute_in_process(
    grant: Grant,
    action: InProcessAction,
    env: AttemptEnvironment,
    stopped: Stopped,
    log_line: Callable[[str], None],
    check: Callable[[LandCheck, str], AttemptOutcome],
) -> AttemptOutcome:
    """Execute or undo the todo of a service or a landing. `check` runs a check at a commit."""
    if isinstance(action, ServiceAction):
        return _transition(grant, action, env, stopped, log_line)
    if env.landing is None:
        raise PlanRefused(
            "a restricted worker lands nothing: its Redis user may not write change sets",
            "serve the repository with a worker that is not restricted",
        )
    output = grant.undo.output if grant.undo else None
    return carry_out(env.landing(stopped, log_line, check), action, output)


def _transition(
    grant: Grant,
    action: ServiceAction,
    env: AttemptEnvironment,
    stopped: Stopped,
    log_line: Callable[[str], None],
) -> AttemptOutcome:
    """Start, stop or restart a service of this machine, or undo that. The outcome of a start that is not
    finished is DEFERRED: the next attempt looks at it again.
    """
    host = ServiceHost(env.state)
    name, service = action.name, action.service
    before = host.desired().get(name)
    own = before is not None and before.order == grant.run_id
    if grant.undo is not None and (_was_up(grant.undo.output) if grant.undo.output else not own):
        log_line(f"service {name} ran before this run, so it is not stopped")
        return AttemptOutcome(kind=OutcomeKind.SUCCEEDED)
    log_line(f"{action.step} service {name}")

    if action.step is ServiceStep.LOGS:
        return _log(host, name, action.lines or 1)
    if action.if_wanted and before is None:
        log_line(f"service {name} was stopped in the meantime, so it is not started again")
        return AttemptOutcome(kind=OutcomeKind.SUCCEEDED)
    if action.step is ServiceStep.STOP or service is None:
        status = host.stop(name, lambda: stopped() is not None)
    else:
        order = host.order_start if action.step is ServiceStep.START else host.order_restart
        order(service, env.checkout, grant.run_id, _sandbox(grant, service, env))
        status = host.settled(name)
    if (kind := stopped()) is not None:
        return AttemptOutcome(kind=kind)
    if status is None and action.step is not ServiceStep.STOP:
        return AttemptOutcome(
            kind=OutcomeKind.DEFERRED,
            error=f"service {name} to come up",
            reason=WaitReason.SERVICE,
            again=LOOK_AGAIN,
            service=name,
        )
    log_line(_described(name, status))
    return _outcome(action.step, status, before, own=own)


def _sandbox(grant: Grant, service: Service, env: AttemptEnvironment) -> ServiceSandbox | None:
    """Return the sandbox in which the service must run; None without one. Raises NoSandbox."""
    spec, demanded = grant.spec, env.sandbox_demanded
    return env.sandboxes.of_service(service, spec.todo, spec.repo, env.checkout, demanded=demanded)


def _outcome(
    step: ServiceStep, status: ServiceStatus | None, before: DesiredService | None, *, own: bool
) -> AttemptOutcome:
    """Return the outcome of a finished transition. `before`: what was ordered of the service when the attempt
    began; `own`: this run ordered it.
    """
    facts = status.model_dump(mode="json") if status else {"state": ServiceState.STOPPED}
    was_up = before is not None and status is not None and before.order == status.order and not own
    took_s = max(0.0, status.since - before.at) if own and before and status else 0.0
    output = json.dumps({**facts, WAS_UP: was_up, TOOK_S: round(took_s, 3)})
    is_up = status is not None and status.state is ServiceState.HEALTHY
    if step is not ServiceStep.STOP and not is_up:
        why = status.why if status else "it was stopped"
        return AttemptOutcome(kind=OutcomeKind.FAILED, error=why, output=output)
    return AttemptOutcome(kind=OutcomeKind.SUCCEEDED, output=output)


def _log(host: ServiceHost, name: str, lines: int) -> AttemptOutcome:
    try:
        found = log_lines(host, name, lines, LOG_BYTES)
    except FileNotFoundError:
        return AttemptOutcome(kind=OutcomeKind.FAILED, error=f"{name} has no log here")
    except CoordinationError as error:
        return AttemptOutcome(kind=OutcomeKind.FAILED, error=error.message)
    return AttemptOutcome(kind=OutcomeKind.SUCCEEDED, output=json.dumps({"lines": found}))


def _was_up(output: str) -> bool:
    """Return whether the service was up before the todo that wrote this output."""
    found = json.loads(output or "null")
    return isinstance(found, dict) and found.get(WAS_UP) is True


def _described(name: str, status: ServiceStatus | None) -> str:
    if status is None:
        return f"service {name} was not running"
    pid = f", pid {status.pid}" if status.pid else ""
    return f"service {name}: {status.state}{pid}: {status.why}"
