"""Templates of plans: parameters, and the todos that each repository gets."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar, Self

from pydantic import BeforeValidator, Field, model_validator

from coordination.declared import Column, Table
from coordination.models.agents import PlanBudget
from coordination.models.execution import (
    Action,
    CacheRules,
    Compensation,
    OnFailure,
    Retry,
    SandboxRules,
    ShellAction,
    Strategy,
    Workspace,
)
from coordination.models.landing import LandRules
from coordination.models.repositories import ResourceNeeds
from coordination.models.values import (
    AtGate,
    Count,
    Duration,
    Id,
    Labels,
    Level,
    PositiveHours,
    ProgramText,
    Record,
    Scalar,
    SecretName,
    Text,
    Variables,
    Word,
)


class QaWhen(Word):
    """When a plan runs the quality checks of its repositories."""

    NONE = "none"
    BEFORE = "before"
    """On the base, before all todos."""
    AFTER = "after"
    """On the results, after the todos of the repository and of those that it needs."""
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
    """Continue although a check is red before the plan; earlier failures are reported as debt."""


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
    budget: PlanBudget | None = None
    """Limits of what the agents of its todos may use."""
    land: LandRules | None = None
    """How `coord land` brings the plan's change set into the base branches."""
    qa: Annotated[PlanChecks, BeforeValidator(_bare_when)] = Field(default_factory=PlanChecks)


GIVEN = ("repo", "plan")
"""Parameters that every template has: the repository of a todo, and its plan."""
REFERENCE = re.compile(r"(\$?)\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
"""`${name}` in a text; `$${name}` is the text `${name}`."""
VARIABLE = re.compile(r"\$\{?([A-Za-z_][A-Za-z0-9_]*)")
"""A variable in a command for a shell."""


class ParameterType(Word):
    TEXT = "text"
    NUMBER = "number"
    FLAG = "flag"
    """`true` or `false`."""


class Parameter(Record):
    """A value that is passed when a plan is generated. Without a default it is required."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=40)]
    """Also the name of the environment variable that commands get, so it has no capital letters: PATH and the
    like cannot be replaced.
    """
    type: ParameterType = ParameterType.TEXT
    description: str = ""
    required: Annotated[bool, Field(strict=True)] | None = None
    """None: required unless there is a default. False: empty text, 0 or false if it is not passed."""
    default: Annotated[bool, Field(strict=True)] | Scalar | None = None
    choices: Annotated[tuple[Text, ...], Field(max_length=100)] = ()

    @property
    def is_required(self) -> bool:
        return self.default is None if self.required is None else self.required

    @model_validator(mode="after")
    def _check_default(self) -> Self:
        if self.name in GIVEN:
            raise ValueError(f"{self.name}: every template has this parameter; choose another name")
        if self.default is not None:
            if self.required:
                raise ValueError(f"{self.name} is required, so that its default is never used; remove one")
            self.read(self.default)
        return self

    def read(self, given: object) -> str:
        """Return the text of a value. Raises ValueError."""
        text = str(given).lower() if isinstance(given, bool) else str(given)
        if self.type is ParameterType.NUMBER and not re.fullmatch(r"-?\d{1,15}(\.\d{1,9})?", text):
            raise ValueError(f"{self.name} needs a number, got {text!r}")
        if self.type is ParameterType.FLAG and text not in ("true", "false"):
            raise ValueError(f"{self.name} needs true or false, got {text!r}")
        if self.choices and text not in self.choices:
            raise ValueError(f"{self.name} must be one of {', '.join(self.choices)}, got {text!r}")
        if "\0" in text:
            raise ValueError(f"{self.name} contains a null character, which no program can be given")
        if any("\ud800" <= character <= "\udfff" for character in text):
            raise ValueError(f"{self.name} is not UTF-8")
        if len(text) > LONGEST_VALUE:
            raise ValueError(f"{self.name} must not be longer than {LONGEST_VALUE:,} characters")
        return text

    @property
    def empty(self) -> str:
        """Return the value of a parameter that is not passed."""
        if self.default is not None:
            return self.read(self.default)
        return {ParameterType.NUMBER: "0", ParameterType.FLAG: "false"}.get(self.type, "")


LONGEST_VALUE = 10_000


class TemplatePlan(PlanRules):
    """The fields of the plan; its texts may contain `${parameter}`."""

    title: ProgramText
    description: str = ""


class TemplateStep(Record):
    """A todo of each repository: PLAN-ID-REPO. It waits for the step before it."""

    id: Annotated[Id, Field(max_length=40)]
    task: ProgramText
    description: str = ""
    priority: Level = Level.MEDIUM
    estimated_hours: PositiveHours | None = None
    assignee: Text | None = None
    labels: Labels = ()
    acceptance_criteria: tuple[Text, ...] = ()
    action: Action | None = None
    compensate: Compensation | None = None
    gate: AtGate | None = None
    timeout: Duration | None = None
    retry: Retry | None = None
    resources: ResourceNeeds = ()
    env: Variables = {}
    workspace: Workspace | None = None
    needs_paths: Annotated[bool, Field(strict=True)] = True
    cache: CacheRules | None = None
    sandbox: SandboxRules | None = None
    secrets: tuple[SecretName, ...] = ()

    def texts(self) -> Iterator[str]:
        """Yield the texts in which parameters are replaced: all but commands for a shell."""
        for name in type(self).model_fields:
            value = getattr(self, name)
            if not isinstance(value, ShellAction):
                yield from texts_in(value.model_dump() if isinstance(value, Record) else value)

    def commands(self) -> Iterator[str | tuple[str, ...]]:
        """Yield the commands, which get parameters as environment variables."""
        for action in (self.action, self.compensate):
            if isinstance(action, ShellAction):
                yield action.run


class RepoOrder(Word):
    """The order of the repositories in a generated plan."""

    DEPS = "deps"
    """The first step of a repository waits for the last one of the repositories that it depends on."""
    NONE = "none"
    """No repository waits for another."""


def _named(parameter: Parameter) -> str:
    return parameter.name if parameter.is_required else f"[{parameter.name}]"


class Template(Record):
    """A plan with parameters, from which coord generates plans and todos."""

    shown: ClassVar = Table(
        columns=(
            Column("TEMPLATE", of="name"),
            Column("PARAMETERS", of=lambda one: ", ".join(map(_named, one.parameters))),
            Column("DESCRIPTION", flexible=True, folds=True),
        ),
        none="there is no template",
    )

    name: Id
    description: str = ""
    parameters: tuple[Parameter, ...] = ()
    order: RepoOrder = RepoOrder.DEPS
    plan: TemplatePlan
    steps: Annotated[tuple[TemplateStep, ...], Field(min_length=1, max_length=20)]

    @property
    def names(self) -> tuple[str, ...]:
        """Return the parameters that its texts and commands may name."""
        return (*GIVEN, *(parameter.name for parameter in self.parameters))

    @model_validator(mode="after")
    def _check_references(self) -> Self:
        known = self.names
        _refuse_twice("parameter", known)
        _refuse_twice("step", [step.id for step in self.steps])
        plan = self.plan.model_dump()
        for text in texts_in(plan):
            _refuse_unknown(text, tuple(name for name in known if name != "repo"), "the plan")
        for step in self.steps:
            for text in step.texts():
                _refuse_unknown(text, known, f"step {step.id}")
            if twice := [name for name in step.env if name in known]:
                raise ValueError(f"step {step.id}: env has {twice[0]}, which is a parameter; rename one")
            for command in step.commands():
                if not isinstance(command, str) and (found := _first_parameter(command, known)):
                    raise ValueError(
                        f"step {step.id}: ${{{found}}} in a list is no variable, since no shell reads it; "
                        "write the command as one text"
                    )
        return self


def texts_in(value: Any) -> Iterator[str]:
    """Yield every text in a JSON value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from texts_in(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from texts_in(inner)


def _refuse_twice(noun: str, names: tuple[str, ...] | list[str]) -> None:
    if twice := [name for name in names if list(names).count(name) > 1]:
        raise ValueError(f"has the {noun} {twice[0]} twice")


def _refuse_unknown(text: str, known: tuple[str, ...], where: str) -> None:
    for escaped, name in REFERENCE.findall(text):
        if not escaped and name not in known:
            raise ValueError(
                f"{where} names ${{{name}}}, which is no parameter here; declare it, "
                f"or write $${{{name}}} for the text itself"
            )


def _first_parameter(command: tuple[str, ...], known: tuple[str, ...]) -> str:
    names = (name for word in command for _, name in REFERENCE.findall(word))
    return next((name for name in names if name in known), "")
