"""Locations in the file: type, line and readable name of the record there, and the records that it names."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from coordination import models
from coordination.ecosystem.yaml_text.tree import Finding, Location
from coordination.errors import Problem
from coordination.models import Dependency, Issue, Milestone, Plan, Record, ResourceNeed, Todo
from coordination.text import shortened

SHOWN = 60
"""Characters of a value or name in a message."""


@dataclass(frozen=True, kw_only=True)
class Diagnostic:
    """A message about a location, before its line is known. `see` is a related location.

    `node` is given if the location alone is ambiguous: for the second of two equal names.
    """

    location: Location
    message: str
    suggestion: str = ""
    show_value: bool = True
    see: Location | None = None
    node: Node | None = None


@dataclass(frozen=True, kw_only=True)
class SourceMap:
    """The values of a file together with the tree that they came from."""

    file: str
    root: Node
    data: Any

    def problem(self, diagnostic: Diagnostic) -> Problem:
        key, value = self._locate(diagnostic.location)
        message = diagnostic.message
        if diagnostic.see is not None:
            message += f" (first on line {_line(self._locate(diagnostic.see)[0])})"
        return Problem(
            file=self.file,
            line=_line(diagnostic.node or key),
            where=where(diagnostic.location, self.data),
            message=message,
            value=_shown(value) if diagnostic.show_value else "",
            suggestion=diagnostic.suggestion,
        )

    def problems(self, diagnostics: Iterable[Diagnostic]) -> list[Problem]:
        """Return the problems in the file's order; of several at one location the first."""
        first: dict[Location, Diagnostic] = {}
        for diagnostic in diagnostics:
            first.setdefault(diagnostic.location, diagnostic)
        return sorted(map(self.problem, first.values()), key=lambda p: p.line)

    def diagnostics(self, findings: Iterable[Finding]) -> Iterator[Diagnostic]:
        locations = {id(node): location for location, node in _walk(self.root)}
        for found in findings:
            first = f" (first on line {_line(found.see)})" if found.see else ""
            yield Diagnostic(
                location=locations[id(found.node)],
                message=found.message + first,
                show_value=found.see is None,
                node=found.node,
            )

    def source(self, location: Location) -> str | None:
        """Return a scalar's source text; None for anything but an unquoted scalar."""
        value = self._locate(location)[1]
        return (
            value.value if isinstance(value, ScalarNode) and value.style not in ("'", '"', "|", ">") else None
        )

    def _locate(self, location: Location) -> tuple[Node, Node | None]:
        """Return the node to point at and the value's node; a missing value is reported at the start of its
        owner.
        """
        key, value = self.root, self.root
        for step in location:
            child = _child(value, step)
            if child is None:
                return key, None
            key, value = child
        return key, value


def _child(node: Node, step: str | int) -> tuple[Node, Node] | None:
    if isinstance(node, SequenceNode) and isinstance(step, int) and step < len(node.value):
        return node.value[step], node.value[step]
    if not isinstance(node, MappingNode):
        return None
    for key, value in node.value:
        if key.value == step:
            return key, value
    return None


def _walk(root: Node) -> Iterator[tuple[Location, Node]]:
    """Yield every node once with its location; the node of a name has the location of its value."""
    seen: set[int] = set()
    pending: list[tuple[Location, Node]] = [((), root)]
    while pending:
        location, node = pending.pop()
        yield location, node
        if isinstance(node, ScalarNode) or id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, SequenceNode):
            pending += [((*location, i), item) for i, item in enumerate(node.value)]
            continue
        for key, value in node.value:
            step = key.value if isinstance(key, ScalarNode) else "?"
            pending += [((*location, step), key), ((*location, step), value)]


def _line(node: Node) -> int:
    return int(node.start_mark.line) + 1


def _shown(node: Node | None) -> str:
    if node is None:
        return ""
    if isinstance(node, ScalarNode):
        return shortened(" ".join(node.value.split()), SHOWN)
    return "a list" if isinstance(node, SequenceNode) else "a mapping"


def where(location: Location, data: Any) -> str:
    """Return a readable location: `coordination.todos[3].repo (TODO-004)`."""
    path = ""
    name = ""
    for step in location:
        path += f"[{step}]" if isinstance(step, int) else f".{step}" if path else step
        data = inside(data, step)
        if isinstance(step, int) and isinstance(data, dict):
            name = data.get("id") or data.get("name") or name
    return (f"{path} ({shortened(name, SHOWN)})" if isinstance(name, str) and name else path) or "the file"


def inside(data: Any, step: str | int) -> Any:
    """Return the value at the step, or None if there is none."""
    if isinstance(data, dict):
        return data.get(step)
    if isinstance(data, list) and isinstance(step, int) and step < len(data):
        return data[step]
    return None


def _executable(path: str) -> dict[str, type[models.Record]]:
    """Return the sections with the execution settings of a todo or of a step of a template."""
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
    "coordination.plans.budget": models.PlanBudget,
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
    "coordination.templates.plan.budget": models.PlanBudget,
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
"""Fields that name repositories."""


def names_in(record: Record, field: str) -> tuple[str, ...]:
    """Return the names in a field that holds one, several or none."""
    value: str | tuple[str | ResourceNeed, ...] | None = getattr(record, field)
    items = (value,) if isinstance(value, str) else value or ()
    return tuple(item.name if isinstance(item, ResourceNeed) else item for item in items)
