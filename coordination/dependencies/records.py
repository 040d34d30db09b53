"""Results of checking dependencies: the records of a report, and the verdict of one check."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from coordination.frozen import Awaitable
from coordination.models import DependencyStatus, DependencyType, Record
from coordination.text import cycle_text


class Outcome(Record):
    """Result of checking one dependency."""

    id: str
    status: DependencyStatus
    why: str
    found: str | None = None
    """The provider's version, if it was determined."""
    duration_s: float = 0.0


class Demand(Record):
    """A consumer's constraint on a provider."""

    id: str
    consumer: str
    version_constraint: str


class Contradiction(Record):
    """Constraints on one provider that no version satisfies together; without any one of them, some version
    would.
    """

    provider: str
    demands: tuple[Demand, ...]

    def __str__(self) -> str:
        demands = (f"{d.consumer} wants {d.version_constraint} ({d.id})" for d in self.demands)
        return f"no version of {self.provider} satisfies all: {', '.join(demands)}"


class Cycle(Record):
    """Repositories that need each other: `a → b → a`."""

    repos: tuple[str, ...]
    """Names along the cycle; the first one is repeated at the end."""
    dependencies: tuple[str, ...]
    """Ids of the dependencies, one per step."""
    types: tuple[DependencyType, ...]
    """Types of the steps. A cycle of only runtime and mcp dependencies matters at run time, others only
    during development.
    """
    at_run_time: bool

    def __str__(self) -> str:
        kind = "at run time" if self.at_run_time else f"through {', '.join(dict.fromkeys(self.types))}"
        return f"{cycle_text(self.repos)}, {kind} ({', '.join(self.dependencies)})"


class DependencyReport(Awaitable, Record):
    """Results of a check. `written` holds the ids whose status in the file was updated."""

    outcomes: tuple[Outcome, ...] = ()
    contradictions: tuple[Contradiction, ...] = ()
    cycles: tuple[Cycle, ...] = ()
    written: tuple[str, ...] = ()

    @property
    def good(self) -> bool:
        """Return whether nothing is unsatisfied or contradictory; unknown results are accepted."""
        bad = any(outcome.status is DependencyStatus.UNSATISFIED for outcome in self.outcomes)
        return not bad and not self.contradictions


@dataclass(frozen=True, kw_only=True)
class CheckVerdict:
    """The result of a check, before it has the id of its dependency."""

    status: DependencyStatus
    why: str
    found: str | None = None
    """The provider's version, if it was determined."""


def satisfied(why: str, found: str | None = None) -> CheckVerdict:
    return CheckVerdict(status=DependencyStatus.SATISFIED, why=why, found=found)


def unsatisfied(why: str, found: str | None = None) -> CheckVerdict:
    return CheckVerdict(status=DependencyStatus.UNSATISFIED, why=why, found=found)


def unknown(why: str) -> CheckVerdict:
    return CheckVerdict(status=DependencyStatus.UNKNOWN, why=why)


def holds(verdict: CheckVerdict) -> bool:
    return verdict.status is DependencyStatus.SATISFIED


def combine_verdicts(verdicts: Sequence[CheckVerdict]) -> CheckVerdict:
    """Return the first verdict that is not satisfied, else one that combines all reasons."""
    return next((v for v in verdicts if not holds(v)), None) or satisfied(
        " and ".join(v.why for v in verdicts)
    )
