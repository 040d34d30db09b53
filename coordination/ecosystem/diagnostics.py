"""Problems of the file: messages for pydantic's validation errors, and checks across records."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from coordination import models
from coordination.credentials.detection import looks_secret
from coordination.ecosystem import layout
from coordination.ecosystem.layout import TO_REPOS, TO_WORK, Diagnostic, SourceMap, inside
from coordination.ecosystem.yaml_text.tree import MERGE, Location
from coordination.models import SECRET, Coordination, Ecosystem, Repo, Todo, presentable_url
from coordination.settings import Settings
from coordination.text import WANTED, Suggester, counted, known_words, limit, nearest

RECORDS: dict[str, type[BaseModel]] = {**layout.RECORDS, "settings": Settings}

ACTIONS: dict[str, type[BaseModel]] = {
    "shell": models.ShellAction,
    "python": models.PythonAction,
    "agent": models.AgentAction,
    "manual": models.ManualAction,
    "noop": models.NoopAction,
    "rewrite": models.RewriteAction,
    "land": models.LandAction,
    "revert": models.RevertAction,
    "qa": models.QaAction,
    "service": models.ServiceAction,
}

USED_ELSEWHERE = {
    "depends_on": ("blocked_by", "dependencies"),
    "needs": ("blocked_by", "dependencies"),
    "requires": ("blocked_by", "dependencies"),
    "command": ("action", "run"),
    "run": ("action",),
    "cmd": ("run", "action"),
    "title": ("task", "name"),
    "name": ("task", "title"),
    "due": ("target",),
    "estimate": ("estimated_hours",),
    "owner": ("assignee",),
}
"""Names that other tools use, with coord's equivalents; the first that the record has is suggested."""


def diagnostics_of(
    error: ValidationError, source_map: SourceMap, prefix: Location = ()
) -> Iterator[Diagnostic]:
    """Yield one diagnostic for each place in the error; `prefix` is the location of the validated part in the
    file.
    """
    places: dict[Location, list[ErrorDetails]] = {}
    for detail in error.errors(include_url=False):
        places.setdefault(_resolve((*prefix, *detail["loc"]), source_map.data, detail["type"]), []).append(
            detail
        )
    for location, details in places.items():
        shallow = all(d["type"] in WANTED or d["type"] == "too_short" for d in details)
        if shallow and any(
            len(other) > len(location) and other[: len(location)] == location for other in places
        ):
            continue  # one branch of `text or a list`; the other branch reports the problem inside the list
        yield _diagnostic(location, details, source_map)


def _resolve(loc: Iterable[str | int], data: Any, kind: str) -> Location:
    """Return pydantic's location without the names that it gives to the branches of a union."""
    location: list[str | int] = []
    steps = list(loc)
    absent = [steps.pop()] if kind == "missing" else []  # or written without a value
    for step in steps:
        try:
            data = data[step]
        except (KeyError, IndexError, TypeError):
            continue
        location.append(step)
    return (*location, *absent)


def _diagnostic(location: Location, details: list[ErrorDetails], source_map: SourceMap) -> Diagnostic:
    hidden = "env" in location[:-1] and bool(SECRET.search(str(location[-1])))
    strict = [d for d in details if d["type"] not in WANTED]
    if not strict:
        message = _wanted(details, "" if hidden else source_map.source(location))
        message += "; its value is hidden, because the name marks a secret" if hidden else ""
        return Diagnostic(location=location, message=message, show_value=not hidden)
    detail = strict[0]
    kind = detail["type"]
    context = detail.get("ctx", {})
    if kind == "extra_forbidden":
        return _unknown_field(location, source_map.data)
    if kind == "missing":
        return Diagnostic(location=location, message="is missing; it is required", show_value=False)
    if kind in ("enum", "literal_error", "union_tag_invalid"):
        return _unknown_value(location, context, detail["input"])
    if kind == "union_tag_not_found":
        return Diagnostic(location=location, message=f"needs a 'type', one of {', '.join(ACTIONS)}")
    return Diagnostic(location=location, message=limit(detail), show_value=not hidden)


def _wanted(details: list[ErrorDetails], source: str | None) -> str:
    """Return the message for a value of the wrong type; `source`: its text, if it may be shown."""
    kinds = list(dict.fromkeys(WANTED[d["type"]] for d in details))
    if "a number" in kinds and "a whole number" in kinds:
        kinds.remove("a whole number")
    message = "needs " + " or ".join(kinds)
    if kinds == ["a list"] and source:
        message += f": [{source}]"
    if "text" in kinds and source:
        message += f'; YAML reads this as {_yaml_kind(details[0]["input"])}, so put it in quotes: "{source}"'
    return message


def _yaml_kind(value: object) -> str:
    if isinstance(value, bool):
        return "true or false"
    return "a number" if isinstance(value, int | float) else "nothing" if value is None else "a date"


def _unknown_value(location: Location, context: dict[str, Any], value: Any) -> Diagnostic:
    known = known_words(context)
    if isinstance(value, dict):  # an action, whose type is invalid
        location, value = (*location, "type"), value.get("type")
    suggestion = nearest(value, known) if isinstance(value, str) else ""
    return Diagnostic(location=location, message=f"must be one of {', '.join(known)}", suggestion=suggestion)


def _unknown_field(location: Location, data: Any) -> Diagnostic:
    *owner, field = location
    section = layout.section_of(tuple(owner))
    known = _fields(section, owner, data)
    suggestion = _other_name(str(field), known, section)
    message = "unknown field" if suggestion else f"unknown field; known here: {', '.join(known)}"
    return Diagnostic(location=location, message=message, suggestion=suggestion, show_value=False)


def _fields(section: str, owner: list[str | int], data: Any) -> list[str]:
    record = RECORDS.get(section)
    if record is None:
        for step in owner:
            data = data[step]
        record = ACTIONS[data["type"].lower()]
    return list(record.model_fields)


def _other_name(field: str, known: list[str], section: str) -> str:
    if not section and field in models.Coordination.model_fields:
        return f"coordination.{field}"
    familiar = (name for name in USED_ELSEWHERE.get(field, ()) if name in known)
    return nearest(field, known) or next(familiar, "")


FOREIGN_PREFIX = "x-"
"""Prefix of names that belong to other tools; no name of coord has it."""
NEAR_MISS = 0.75
"""Similarity from which an unknown name counts as misspelt: `setings` does, `roles` for `repos` does not."""
WORK = ("issues", "plans", "todos")
"""Sections that blockers may name, so they share one id space."""


def repeated_ids(data: dict[str, Any]) -> Iterator[Diagnostic]:
    """Yield every repeated id. Works on plain values, so that it also reports files that are invalid
    otherwise.
    """
    yield from _repeated([(("repos",), "name")], data)
    yield from _repeated([(("resources",), "name")], data)
    yield from _repeated([(("coordination", kind), "id") for kind in (*WORK, "waves")], data)
    yield from _repeated([(("coordination", "dependencies"), "id")], data)
    yield from _repeated([(("coordination", "templates"), "name")], data)
    yield from _repeated([(("coordination", "services"), "name")], data)
    yield from _repeated([(("coordination", "checks"), "name")], data)
    for plan, _ in _items(data, ("coordination", "plans")):
        yield from _repeated([((*plan, "milestones"), "id")], data)


def _repeated(lists: list[tuple[Location, str]], data: Any) -> Iterator[Diagnostic]:
    first: dict[str, Location] = {}
    for location, field in lists:
        for item, value in _items(data, location):
            name = value.get(field)
            if not isinstance(name, str):
                continue
            if name in first:
                yield Diagnostic(
                    location=(*item, field), message="is given a second time", see=(*first[name], field)
                )
            else:
                first[name] = item


def _items(data: Any, location: Location) -> Iterator[tuple[Location, dict[str, Any]]]:
    for step in location:
        data = inside(data, step)
    for i, item in enumerate(data if isinstance(data, list) else ()):
        if isinstance(item, dict):
            yield (*location, i), item


def belongs_to_other_tools(location: Location) -> bool:
    """Return whether the place belongs to other tools: an unknown section, or an unknown field of a
    repository.
    """
    section, *inner = _without_merges(location) or ("",)
    if section not in Ecosystem.model_fields:
        return bool(section)
    return section == "repos" and len(inner) > 1 and inner[1] not in Repo.model_fields


def _without_merges(location: Location) -> Location:
    """Return the location without each `<<`, and its index, through which a value is taken over."""
    return tuple(
        part
        for before, part in zip((None, *location), location, strict=False)
        if part != MERGE and not (before == MERGE and isinstance(part, int))
    )


def unknown_parts(data: dict[str, Any]) -> Iterator[Diagnostic]:
    """Yield unknown sections and unknown fields of repositories, which coord ignores, without those that
    begin with `x-`.
    """
    for name in data:
        if belongs_to_other_tools((name,)) and not name.startswith(FOREIGN_PREFIX):
            yield _unknown_part([(name,)], "section", _known_section(name))
    fields: dict[str, list[Location]] = {}
    for item, repo in _items(data, ("repos",)):
        for name in repo:
            if belongs_to_other_tools((*item, name)) and not name.startswith(FOREIGN_PREFIX):
                fields.setdefault(name, []).append((*item, name))
    for name, locations in fields.items():
        yield _unknown_part(locations, "field", nearest(name, tuple(Repo.model_fields), cutoff=NEAR_MISS))


def _known_section(name: str) -> str:
    """Return the section that was probably meant, or ""."""
    if name in Coordination.model_fields and name != "id":  # a catalogue's own id is something else
        return f"coordination.{name}"
    return nearest(name, tuple(Ecosystem.model_fields), cutoff=NEAR_MISS)


def _unknown_part(locations: list[Location], noun: str, suggestion: str) -> Diagnostic:
    message = f"is a {noun} that coord does not know; it is kept and ignored{_more(locations)}"
    return Diagnostic(location=locations[0], message=message, suggestion=suggestion, show_value=False)


def undeclared_references(ecosystem: Ecosystem) -> Iterator[Diagnostic]:
    """Yield references to undeclared records, each name once with its first place, because files grow
    gradually.
    """
    coordination = ecosystem.coordination
    declared: dict[str, set[str]] = {
        "repo": {r.name for r in ecosystem.repos},
        "resource": {r.name for r in ecosystem.resources},
        "plan": {p.id for p in coordination.plans},
        "service": {s.name for s in coordination.services},
    }
    work = declared["plan"].union((i.id for i in coordination.issues), (t.id for t in coordination.todos))
    declared["todo, issue or plan"] = work.union(m.id for p in coordination.plans for m in p.milestones)
    undeclared: dict[tuple[str, str], list[Location]] = {}
    for location, kind, name in _references(ecosystem):
        if name not in declared[kind]:
            undeclared.setdefault((kind, name), []).append(location)
    suggester = Suggester()
    for (kind, name), locations in undeclared.items():
        yield _undeclared(locations, kind, suggester.nearest(name, declared[kind]))
    yield from _undeclared_milestones(ecosystem, work)
    yield from _beyond_capacity(ecosystem)


def secrets_in_file(ecosystem: Ecosystem) -> Iterator[Diagnostic]:
    """Yield values of `env` and `url` that look like secrets: every reader of the file or Redis has them."""
    for i, repo in enumerate(ecosystem.repos):
        if repo.url and presentable_url(repo.url) != repo.url:
            yield Diagnostic(
                location=("repos", i, "url"),
                message="holds a password or a token, which everybody who reads the file or Redis has; "
                "keep it on the machine (coord credential add), and remove it here",
                show_value=False,
            )
    for i, todo in enumerate(ecosystem.coordination.todos):
        for name, value in todo.env.items():
            if isinstance(value, str) and (secret_kind := looks_secret(name, value)):
                yield Diagnostic(
                    location=("coordination", "todos", i, "env", name),
                    message=f"looks like {secret_kind}, which everybody who reads the file or Redis has; "
                    "keep it on the worker's machine (coord credential add), and name it: secrets: "
                    f"[{_as_name(name)}]",
                    show_value=False,
                )


def shared_ports(ecosystem: Ecosystem) -> Iterator[Diagnostic]:
    """Yield services whose probes check the same port: on one host, the second cannot have it, and its probe
    passes because of the first. Yield services of the same unit, too: the stop of one stops the other.
    """
    first: dict[int, int] = {}
    units: dict[str, int] = {}
    services = ecosystem.coordination.services
    for i, service in enumerate(services):
        if service.unit is not None and (other := units.setdefault(service.unit_file, i)) != i:
            yield Diagnostic(
                location=("coordination", "services", i, "unit"),
                message=f"is the unit of {services[other].name}, too: on one host, a stop of one stops both",
                see=("coordination", "services", other, "unit"),
            )
        port = service.probe.port
        if port is None:
            continue
        if (other := first.setdefault(port, i)) != i:
            kind = "tcp" if service.probe.tcp else "http"
            yield Diagnostic(
                location=("coordination", "services", i, "probe", kind),
                message=f"looks at port {port}, as the probe of {services[other].name} does: on one host, "
                "only one of them can have it",
                see=("coordination", "services", other, "probe"),
                show_value=False,
            )


def _as_name(variable: str) -> str:
    return variable.strip("_").replace("_", "-").lower()


def _undeclared(locations: list[Location], kind: str, suggestion: str) -> Diagnostic:
    message = f"names a {kind} that the file does not declare{_more(locations)}"
    return Diagnostic(location=locations[0], message=message, suggestion=suggestion)


def _more(locations: list[Location]) -> str:
    return f" (and in {counted(len(locations) - 1, 'more place')})" if len(locations) > 1 else ""


def _references(ecosystem: Ecosystem) -> Iterator[tuple[Location, str, str]]:
    coordination = ecosystem.coordination
    for section in ("todos", "issues", "plans", "dependencies"):
        for i, record in enumerate(getattr(coordination, section)):
            here: Location = ("coordination", section, i)
            for field in TO_REPOS[type(record)]:
                yield from _each(here, field, getattr(record, field), "repo")
            if isinstance(record, Todo):
                yield from _references_of_todo(here, record)
            for field in TO_WORK[type(record)]:
                yield from _each(here, field, getattr(record, field), "todo, issue or plan")
    for i, waves in enumerate(coordination.waves):
        for name in waves.plans:
            yield ("coordination", "waves", i, "order"), "plan", name
    yield from _references_of_services(coordination)


def _references_of_services(coordination: Coordination) -> Iterator[tuple[Location, str, str]]:
    for i, service in enumerate(coordination.services):
        here: Location = ("coordination", "services", i)
        yield (*here, "repo"), "repo", service.repo
        yield from _each(here, "depends_on", service.depends_on, "service")
    for i, check in enumerate(coordination.checks):
        yield ("coordination", "checks", i, "repo"), "repo", check.repo


def _references_of_todo(here: Location, todo: Todo) -> Iterator[tuple[Location, str, str]]:
    if todo.plan is not None:
        yield (*here, "plan"), "plan", todo.plan
    for i, need in enumerate(todo.resources):
        inner = ("name",) if "amount" in need.model_fields_set else ()
        yield (*here, "resources", i, *inner), "resource", need.name


def _each(
    here: Location, field: str, names: str | tuple[str, ...], kind: str
) -> Iterator[tuple[Location, str, str]]:
    if isinstance(names, str):
        yield (*here, field), kind, names
        return
    for i, name in enumerate(names):
        yield (*here, field, i), kind, name


def _undeclared_milestones(ecosystem: Ecosystem, work: set[str]) -> Iterator[Diagnostic]:
    """Yield undeclared dependencies of milestones, which name milestones of the same plan, issues, plans or
    todos.
    """
    suggester = Suggester()
    for i, plan in enumerate(ecosystem.coordination.plans):
        known = {m.id for m in plan.milestones}
        for j, milestone in enumerate(plan.milestones):
            for k, name in enumerate(milestone.dependencies):
                if name not in known and name not in work:
                    location = ("coordination", "plans", i, "milestones", j, "dependencies", k)
                    yield _undeclared([location], "milestone", suggester.nearest(name, known))


def _beyond_capacity(ecosystem: Ecosystem) -> Iterator[Diagnostic]:
    capacities = ecosystem.capacities()
    for i, todo in enumerate(ecosystem.coordination.todos):
        for j, need in enumerate(todo.resources):
            if need.amount > (capacity := capacities.get(need.name, need.amount)):
                location = ("coordination", "todos", i, "resources", j, "amount")
                yield Diagnostic(
                    location=location, message=f"must be at most {capacity:,}, the capacity of {need.name}"
                )
