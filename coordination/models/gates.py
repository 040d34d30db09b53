"""Gates: points where a run waits for a person."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from coordination.models.values import Duration, Record, Word, true_or_mapping


class Verdict(Word):
    APPROVE = "approve"
    REJECT = "reject"


class Gate(Record):
    """A point where a person's approval is needed; without a timeout the run waits indefinitely."""

    timeout: Duration | None = None
    on_timeout: Verdict = Verdict.REJECT
    two_persons: Annotated[bool, Field(strict=True)] = False
    """The person who ordered the run may not approve it."""


AtGate = Annotated[Gate, true_or_mapping(Gate, "{timeout: 24h, on_timeout: reject}")]
