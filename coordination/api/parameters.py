"""Parameters that several operations have, each with its text."""

from __future__ import annotations

from typing import Annotated

from coordination.declared import Option

PlanId = Annotated[str, Option("A plan's id.", completes="plan_ids")]
PlanOfChangeSet = Annotated[str, Option("The id of a plan with a change set.", completes="change_sets")]
DryRun = Annotated[bool, Option("Show what would be done; change nothing.")]
