"""How a plan is executed, checked and landed: the fields that a plan and a template of plans share."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, Field

from coordination.models.execution import OnFailure, Retry, Strategy
from coordination.models.landing import LandRules
from coordination.models.values import Count, Duration, Record, Word


class QaWhen(Word):
    """When a plan runs the quality checks of its repositories."""

    NONE = "none"
    BEFORE = "before"
    """On the base, before all todos."""
    AFTER = "after"
    """On the results, behind the todos of the repository and of those that it needs."""
    BOTH = "both"

    @property
    def before(self) -> bool:
        return self in (QaWhen.BEFORE, QaWhen.BOTH)

    @property
    def after(self) -> bool:
        return self in (QaWhen.AFTER, QaWhen.BOTH)


class PlanChecks(Record):
    """Quality checks of a plan; a bare word is `when`."""

    when: QaWhen = QaWhen.NONE
    allow_red: Annotated[bool, Field(strict=True)] = False
    """Go on although a check is red before the plan; what was red before is reported as debt."""


def _bare_when(value: object) -> object:
    if isinstance(value, str):
        return {"when": value}
    if isinstance(value, dict | PlanChecks):
        return value
    raise ValueError("needs before, after, both, none, or a mapping like {when: both, allow_red: true}")


class PlanRules(Record):
    strategy: Strategy = Strategy.AUTO
    on_failure: OnFailure = OnFailure.HALT
    max_parallel: Count | None = None
    timeout: Duration | None = None
    recurring: Annotated[bool, Field(strict=True)] = False
    two_persons: Annotated[bool, Field(strict=True)] = False
    """The person who ordered a run cannot approve its gates."""
    retry: Retry | None = None
    land: LandRules | None = None
    """How `coord land` brings the plan's change set into the base branches."""
    qa: Annotated[PlanChecks, BeforeValidator(_bare_when)] = PlanChecks()
