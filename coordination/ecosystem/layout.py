"""Types of the records in each section of the file, and the fields in which they name other records."""

from __future__ import annotations

from collections.abc import Mapping

from coordination import models
from coordination.ecosystem.yaml_text.places import Location
from coordination.models import Dependency, Issue, Milestone, Plan, Record, ResourceNeed, Todo


def _executable(path: str) -> dict[str, type[models.Record]]:
    """Return the sections of what a todo, or a step of a template, says of its execution."""
    return {
        f"{path}.resources": models.ResourceNeed,
        f"{path}.gate": models.Gate,
        f"{path}.cache": models.Cache,
        f"{path}.sandbox": models.Sandbox,
        **_retries(path),
    }


def _retries(path: str) -> dict[str, type[models.Record]]:
    return {
        f"{path}.retry": models.Retry,
        f"{path}.retry.retry_on": models.OutputSign,
        f"{path}.retry.stop_on": models.OutputSign,
    }


def _waves(waves: str, record: type[models.Record] = models.Waves) -> dict[str, type[models.Record]]:
    return {
        waves: record,
        f"{waves}.gate": models.Gate,
        f"{waves}.order": models.Wave,
        f"{waves}.order.gate": models.Gate,
    }


RECORDS: dict[str, type[models.Record]] = {
    "": models.Ecosystem,
    "repos": models.Repo,
    "repos.sandbox": models.Sandbox,
    "repos.qa": models.Check,
    "repos.forge": models.ForgeRule,
    "resources": models.Resource,
    "coordination": models.Coordination,
    "coordination.issues": models.Issue,
    "coordination.issues.forge": models.ForgeLink,
    "coordination.plans": models.Plan,
    "coordination.plans.land": models.LandRules,
    **_waves("coordination.plans.land.waves"),
    "coordination.plans.qa": models.PlanChecks,
    **_retries("coordination.plans"),
    "coordination.plans.milestones": models.Milestone,
    "coordination.plans.milestones.gate": models.Gate,
    "coordination.plans.milestones.completion_criteria": models.Criterion,
    "coordination.todos": models.Todo,
    "coordination.todos.acceptance_criteria": models.Criterion,
    **_executable("coordination.todos"),
    "coordination.templates": models.Template,
    "coordination.templates.parameters": models.Parameter,
    "coordination.templates.plan": models.TemplatePlan,
    "coordination.templates.plan.land": models.LandRules,
    **_waves("coordination.templates.plan.land.waves"),
    "coordination.templates.plan.qa": models.PlanChecks,
    **_retries("coordination.templates.plan"),
    "coordination.templates.steps": models.TemplateStep,
    **_executable("coordination.templates.steps"),
    "coordination.services": models.Service,
    "coordination.services.probe": models.Probe,
    "coordination.services.probe.http": models.HttpProbe,
    "coordination.services.probe.file": models.FileProbe,
    "coordination.checks": models.IntegrationCheck,
    **_waves("coordination.waves", models.PlanWaves),
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
