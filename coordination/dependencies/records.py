"""What checking dependencies finds: the records of a report, and the verdict of one way of checking."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from coordination.models import DependencyStatus, DependencyType, Record


class Outcome(Record):
    """What was found out about one dependency."""

    id: str
    status: DependencyStatus
    why: str
    found: str | None = None
    """The version that the provider has, where that was looked at."""
    duration_s: float = 0.0


class Demand(Record):
    """A constraint of one consumer."""

    id: str
    consumer: str
    version_constraint: str


class Contradiction(Record):
    """Demands on one provider that no version meets together. With one of them left out, some version would."""

    provider: str
    demands: tuple[Demand, ...]

    def __str__(self) -> str:
        words = (f"{d.consumer} wants {d.version_constraint} ({d.id})" for d in self.demands)
        return f"no version of {self.provider} is good for all: {', '.join(words)}"


class Cycle(Record):
    """Repositories that need each other: `a → b → a`."""

    repos: tuple[str, ...]
    """The first one stands at the end again."""
    dependencies: tuple[str, ...]
    """One for each step."""
    types: tuple[DependencyType, ...]
    """Of the steps. A cycle at run time is one of runtime and mcp alone; others are met only by who develops."""
    at_run_time: bool

    def __str__(self) -> str:
        kind = "at run time" if self.at_run_time else f"by way of {', '.join(dict.fromkeys(self.types))}"
        return f"{' → '.join(self.repos)}, {kind} ({', '.join(self.dependencies)})"


class DependencyReport(Record):
    """Everything that a check found. `written`: ids of those whose status in the file was another one."""

    outcomes: tuple[Outcome, ...] = ()
    contradictions: tuple[Contradiction, ...] = ()
    cycles: tuple[Cycle, ...] = ()
    written: tuple[str, ...] = ()

    @property
    def good(self) -> bool:
        """Nothing unsatisfied and nothing contradictory; what is unknown is not held against anybody."""
        bad = any(outcome.status is DependencyStatus.UNSATISFIED for outcome in self.outcomes)
        return not bad and not self.contradictions


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
