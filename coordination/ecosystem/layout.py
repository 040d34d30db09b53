"""Types of the records in each section of the file, and the fields in which they name other records."""

from __future__ import annotations

from collections.abc import Mapping

from coordination import models
from coordination.ecosystem.yaml_text.places import Location
from coordination.models import Dependency, Issue, Milestone, Plan, Record, ResourceNeed, Todo

RECORDS: dict[str, type[models.Record]] = {
    "": models.Ecosystem,
    "repos": models.Repo,
    "repos.sandbox": models.Sandbox,
    "repos.qa": models.Check,
    "resources": models.Resource,
    "coordination": models.Coordination,
    "coordination.issues": models.Issue,
    "coordination.plans": models.Plan,
    "coordination.plans.land": models.LandRules,
    "coordination.plans.qa": models.PlanChecks,
    "coordination.plans.retry": models.Retry,
    "coordination.plans.retry.retry_on": models.OutputSign,
    "coordination.plans.retry.stop_on": models.OutputSign,
    "coordination.plans.milestones": models.Milestone,
    "coordination.plans.milestones.gate": models.Gate,
    "coordination.plans.milestones.completion_criteria": models.Criterion,
    "coordination.todos": models.Todo,
    "coordination.todos.acceptance_criteria": models.Criterion,
    "coordination.todos.resources": models.ResourceNeed,
    "coordination.todos.gate": models.Gate,
    "coordination.todos.cache": models.Cache,
    "coordination.todos.sandbox": models.Sandbox,
    "coordination.todos.retry": models.Retry,
    "coordination.todos.retry.retry_on": models.OutputSign,
    "coordination.todos.retry.stop_on": models.OutputSign,
    "coordination.templates": models.Template,
    "coordination.templates.parameters": models.Parameter,
    "coordination.templates.plan": models.TemplatePlan,
    "coordination.templates.steps": models.TemplateStep,
    "coordination.dependencies": models.Dependency,
    "coordination.dependencies.validation": models.Validation,
}
"""Record types by section: the names of a location without positions in lists. Actions are distinguished by
`type`.
"""


def section_of(location: Location) -> str:
    return ".".join(step for step in location if isinstance(step, str))


def model_at(location: Location) -> type[models.Record]:
    """Return the type of the record at the location, or of the records in the list there."""
    return RECORDS[section_of(location)]


TO_WORK: Mapping[type[Record], tuple[str, ...]] = {
    Issue: ("dependencies", "blocking"),
    Todo: ("blocked_by", "blocking"),
    Milestone: ("dependencies",),
    Plan: (),
    Dependency: (),
}
"""Fields that name todos, issues, plans or milestones."""

TO_REPOS: Mapping[type[Record], tuple[str, ...]] = {
    Issue: ("repos",),
    Plan: ("repos",),
    Todo: ("repo",),
    Dependency: ("consumer", "provider"),
    Milestone: (),
}


def names_in(record: Record, field: str) -> tuple[str, ...]:
    value: str | tuple[str | ResourceNeed, ...] | None = getattr(record, field)
    named = (value,) if isinstance(value, str) else value or ()
    return tuple(item.name if isinstance(item, ResourceNeed) else item for item in named)
