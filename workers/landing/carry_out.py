"""Carry out a todo of a landing run, in the way that its action names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from coordination.models import LandAction, RevertAction, Via
from workers.landing.direct import DirectLanding, DirectRevert
from workers.landing.land import Landing
from workers.landing.revert import Revert
from workers.landing.todo import LandTodo
from workers.outcome import AttemptOutcome

if TYPE_CHECKING:
    from workers.landing.requests.land import RequestLanding
    from workers.landing.requests.revert import RequestRevert


def carry_out(todo: LandTodo, action: LandAction | RevertAction, output: str | None = None) -> AttemptOutcome:
    """Land or revert; return the outcome. `output`: of a compensation, the output or record of its todo."""
    if isinstance(action, LandAction):
        return Landing(todo, action, _landing_by(action.via)).outcome()
    return Revert(todo, action, _revert_by(action.via)).outcome(output)


def _landing_by(via: Via) -> type[DirectLanding | RequestLanding]:
    if via is not Via.PR:
        return DirectLanding
    from workers.landing.requests.land import RequestLanding  # the client of forges costs 0.1 s of a start

    return RequestLanding


def _revert_by(via: Via) -> type[DirectRevert | RequestRevert]:
    if via is not Via.PR:
        return DirectRevert
    from workers.landing.requests.revert import RequestRevert

    return RequestRevert
