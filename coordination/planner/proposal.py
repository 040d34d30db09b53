"""A plan that an agent proposes, by a schema that can order agents and nothing else: no command, no gate, no
setting, no secret.

`read_proposal` refuses a text that is not such a plan, `refuse_wrong` one that does not fit the repositories.
Both name all problems at once. Text that a person reads before the plan is written can hide nothing: control
characters, and those that reorder a line, are refused.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from itertools import islice
from typing import Annotated, Any, NoReturn

from pydantic import AfterValidator, Field, ValidationError

from coordination.errors import PlanRefused, UsageError
from coordination.models import Dependency, Repo
from coordination.models.agents import PathPattern
from coordination.models.checks import CheckName
from coordination.models.values import PositiveHours, Record, RepoName
from coordination.text import cycle_text, is_utf8, listed, wrong_value

MOST_TODOS = 50
MOST_BYTES = 256 * 1024
"""Bytes of a proposal as JSON."""
MOST_PROBLEMS = 20
"""Problems that an error names."""
FIELDS = (
    "its fields: title, todos; of a todo: key, repo, task, description, acceptance_criteria, blocked_by, …"
)
MOST_ERRORS = 500
"""Errors that are looked at."""
_UNSEEN = frozenset({"Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp"})
"""Categories of Unicode whose characters nobody sees: controls, formats, tags, what is not assigned."""
_BLANK = frozenset("\u115f\u1160\u2800\u3164\uffa0")
"""Letters and signs that look like a blank."""
_SEEN = frozenset("\t\n\u200d\ufe0f")
"""Of these, tabs, ends of lines, and what joins the parts of a picture."""


def _hides(character: str) -> bool:
    is_selector = "\ufe00" <= character <= "\ufe0f" or "\U000e0100" <= character <= "\U000e01ef"
    unseen = unicodedata.category(character) in _UNSEEN or character in _BLANK or is_selector
    return unseen and character not in _SEEN


def _check_plain(text: str) -> str:
    if not is_utf8(text):
        raise ValueError("is not UTF-8")
    if hidden := sorted(filter(_hides, set(text))):
        names = listed([f"U+{ord(one):04X}" for one in hidden[:3]])
        raise ValueError(f"contains characters that nobody sees, such as control characters: {names}")
    return text


def _check_line(text: str) -> str:
    if "\n" in text or not text.strip():
        raise ValueError("must be one line of text")
    return text


Plain = AfterValidator(_check_plain)
Line = Annotated[str, Field(max_length=200), Plain, AfterValidator(_check_line)]
Key = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=50)]


class ProposedTodo(Record):
    """A todo that an agent executes in one repository."""

    key: Annotated[Key, Field(description="A name for blocked_by of other todos.")]
    repo: Annotated[RepoName, Field(description="The repository that it changes.")]
    task: Annotated[Line, Field(description="The task, in one line.")]
    description: Annotated[str, Field(max_length=8000), Plain] = ""
    acceptance_criteria: Annotated[
        tuple[Annotated[str, Field(min_length=1, max_length=500), Plain], ...],
        Field(max_length=20, description="Words by which the work is judged; never commands."),
    ] = ()
    blocked_by: Annotated[
        tuple[Key, ...], Field(max_length=MOST_TODOS, description="Keys of todos to be done before.")
    ] = ()
    verify: Annotated[
        tuple[CheckName, ...],
        Field(
            max_length=20,
            description="Names of checks of the repository (default: its checks of kind unit).",
        ),
    ] = ()
    paths: Annotated[
        tuple[Annotated[PathPattern, Field(max_length=200), Plain], ...],
        Field(max_length=50, description="Globs of the files that it may change (default: all)."),
    ] = ()
    reads: Annotated[
        tuple[RepoName, ...], Field(max_length=20, description="Other repositories that it must see.")
    ] = ()
    estimated_hours: Annotated[PositiveHours, Field(le=1000)] | None = None


class Proposal(Record):
    """A plan with its todos."""

    title: Annotated[Line, Field(description="The title of the plan.")]
    todos: Annotated[tuple[ProposedTodo, ...], Field(min_length=1, max_length=MOST_TODOS)]


def proposal_schema() -> dict[str, Any]:
    """Return the JSON Schema of a proposal, without references."""
    found = Proposal.model_json_schema()
    (todo,) = found.pop("$defs").values()
    found["properties"]["todos"]["items"] = todo
    return found


def read_proposal(text: str) -> Proposal:
    """Return the proposal of a JSON text. Raises UsageError, also for a name that stands twice in an object:
    readers would differ in what they see.
    """
    _refuse_large(text)
    try:
        value = json.loads(text, object_pairs_hook=_once, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"the proposal is not JSON: {error}", "write it as one JSON object") from error
    return proposal_of(value)


def proposal_of(value: object) -> Proposal:
    """Return the proposal of a JSON value. Raises UsageError."""
    _refuse_large(json.dumps(value, default=str))
    try:
        return Proposal.model_validate(value)
    except ValidationError as error:
        raise UsageError(_as_list("the proposal is refused", _sentences(error)), FIELDS) from error


def _refuse_large(text: str) -> None:
    if len(text.encode(errors="replace")) > MOST_BYTES:
        raise UsageError(f"the proposal has more than {MOST_BYTES:,} bytes", "propose less, in fewer words")


def _once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("an object has a name twice")
    return found


def _no_number(word: str) -> NoReturn:
    raise ValueError(f"{word} is no number of JSON")


def _sentences(error: ValidationError) -> list[str]:
    found, around = dict[str, str](), set[str]()
    for detail in islice(error.errors(include_url=False), MOST_ERRORS):
        place = "".join(f"[{step}]" if isinstance(step, int) else f".{step:.50}" for step in detail["loc"])
        if detail["type"] == "extra_forbidden":
            text = "is no field of a proposal"
        elif detail["type"] == "missing":
            text = "is missing"
        else:
            text = wrong_value([detail])
        place = place.removeprefix(".") or "it"
        found.setdefault(place, text)
        around.update(place[: at.start()] for at in re.finditer(r"\[", place))
    # a list counts as shorter by each item that is refused
    return [f"{place} {text}" for place, text in found.items() if place not in around]


def _as_list(what: str, problems: Sequence[str]) -> str:
    shown = [
        f"\n  - {ascii(one)[1:-1] if not one.isprintable() else one}" for one in problems[:MOST_PROBLEMS]
    ]
    more = len(problems) - len(shown)
    return f"{what}:{''.join(shown)}{f'{chr(10)}  and {more} more' if more else ''}"


def refuse_wrong(proposal: Proposal, repos: Iterable[Repo]) -> None:
    """Raise PlanRefused for a proposal whose names are not those of its own todos, of these repositories or
    of their checks.
    """
    if problems := list(_problems(proposal, {repo.name: repo for repo in repos})):
        selected = "only selected repositories and their checks can be named"
        raise PlanRefused(_as_list("the proposal is refused", problems), selected)


def _problems(proposal: Proposal, repos: Mapping[str, Repo]) -> Iterator[str]:
    keys = [todo.key for todo in proposal.todos]
    for key in dict.fromkeys(key for key in keys if keys.count(key) > 1):
        yield f"{key}: this key is used twice"
    for todo in proposal.todos:
        repo = repos.get(todo.repo)
        if repo is None:
            yield f"{todo.key}: repo names {todo.repo}, which is not selected"
        elif unknown := sorted(set(todo.verify) - {check.name for check in repo.qa}):
            known = listed([check.name for check in repo.qa]) or "none"
            yield f"{todo.key}: verify names {listed(unknown)}; the checks of {repo.name}: {known}"
        if unknown := sorted(set(todo.blocked_by) - set(keys)):
            yield f"{todo.key}: blocked_by names {listed(unknown)}, which is the key of no todo"
        for name in sorted({one for one in todo.reads if one == todo.repo or one not in repos}):
            why = "where it works" if name == todo.repo else "which is not selected"
            yield f"{todo.key}: reads names {name}, {why}"


def in_order(todos: Collection[ProposedTodo]) -> list[ProposedTodo]:
    """Return the todos, those that others wait for first. Raises PlanRefused for a circle."""
    by_key = {todo.key: todo for todo in todos}
    try:
        order = TopologicalSorter({todo.key: todo.blocked_by for todo in todos}).static_order()
        return [by_key[key] for key in order]
    except CycleError as error:
        raise PlanRefused(
            f"the proposal is refused: its todos wait in a circle: {cycle_text(error.args[1])}",
            "remove one of these from blocked_by",
        ) from error


def order_warnings(
    todos: Sequence[ProposedTodo], dependencies: Iterable[Dependency], ids: Mapping[str, str]
) -> Iterator[str]:
    """Yield a sentence for each declared dependency that the order of the todos does not follow. `todos`: in
    their order; `ids`: key → the id of its todo.
    """
    before: dict[str, set[str]] = {}
    for todo in todos:
        before[todo.key] = {*todo.blocked_by, *(key for one in todo.blocked_by for key in before[one])}
    of_repo: dict[str, list[str]] = {}
    for todo in todos:
        of_repo.setdefault(todo.repo, []).append(todo.key)
    for one in dependencies:
        consumers, providers = of_repo.get(one.consumer, []), of_repo.get(one.provider, [])
        if one.consumer == one.provider or not consumers or not providers:
            continue
        needs = f"{one.consumer} needs {one.provider} ({one.id})"
        reverse = [(p, c) for p in providers for c in consumers if c in before[p]]
        if reverse:
            later, earlier = reverse[0]
            yield f"{ids[later]} in {one.provider} waits for {ids[earlier]} in {one.consumer}, but {needs}"
        elif not any(p in before[c] for p in providers for c in consumers):
            yield f"no todo in {one.consumer} waits for one in {one.provider}, but {needs}"
