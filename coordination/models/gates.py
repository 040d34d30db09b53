"""Gates: points where a run waits for a person."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, Field

from coordination.models.values import Duration, Record, Word


class Verdict(Word):
    APPROVE = "approve"
    REJECT = "reject"


class Gate(Record):
    """A point where a person's approval is needed; without a timeout the run waits indefinitely."""

    timeout: Duration | None = None
    on_timeout: Verdict = Verdict.REJECT
    two_persons: Annotated[bool, Field(strict=True)] = False
    """The person who ordered the run may not approve it."""


def _bare_gate(value: object) -> object:
    if value is True:
        return {}
    if isinstance(value, dict | Gate):
        return value
    raise ValueError("needs true, or a mapping like {timeout: 24h, on_timeout: reject}")


AtGate = Annotated[Gate, BeforeValidator(_bare_gate)]
