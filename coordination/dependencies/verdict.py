"""What one way of checking says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from coordination.models import DependencyStatus


@dataclass(frozen=True, kw_only=True)
class Verdict:
    status: DependencyStatus
    why: str
    found: str | None = None
    """The version that the provider has, where that was looked at."""


def satisfied(why: str, found: str | None = None) -> Verdict:
    return Verdict(status=DependencyStatus.SATISFIED, why=why, found=found)


def unsatisfied(why: str, found: str | None = None) -> Verdict:
    return Verdict(status=DependencyStatus.UNSATISFIED, why=why, found=found)


def unknown(why: str) -> Verdict:
    return Verdict(status=DependencyStatus.UNKNOWN, why=why)


def holds(verdict: Verdict) -> bool:
    return verdict.status is DependencyStatus.SATISFIED


def joined(verdicts: Sequence[Verdict]) -> Verdict:
    """Satisfied if all are, with all that they say; else the first that is not."""
    return next((v for v in verdicts if not holds(v)), None) or satisfied(" and ".join(v.why for v in verdicts))
