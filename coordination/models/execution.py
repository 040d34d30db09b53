"""Execution of todos: strategies, actions, gates, retries, the reuse of results."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, Tag

from coordination.models.agents import AgentAction
from coordination.models.checks import QaAction
from coordination.models.landing import LandAction, RevertAction, Via
from coordination.models.services import ServiceAction
from coordination.models.values import (
    Amount,
    Command,
    Count,
    Duration,
    Record,
    RelativePath,
    RepoName,
    Size,
    Text,
    Word,
    lower_case,
    reject_null,
    true_or_mapping,
)
from coordination.text import pattern_mistake

LEAST_MEMORY = 16 * 1024 * 1024
"""Least memory in bytes: an interpreter does not start with less."""


class Strategy(Word):
    AUTO = "auto"
    """Forecast both; use levels unless dataflow is clearly faster, and until a todo waits for a host, a
    person or a resource.
    """
    LEVELS = "levels"
    """Dispatch each level of the graph as a Celery chord; the next level starts when the whole level has
    settled.
    """
    DATAFLOW = "dataflow"
    """Dispatch a todo as soon as its last predecessor has settled."""


class Signatures(Word):
    """How a worker treats signatures that are missing or wrong."""

    OFF = "off"
    """Nothing is checked."""
    WARN = "warn"
    """A missing or wrong signature is logged; the todo is executed."""
    REQUIRE = "require"
    """A todo without a valid signature is refused."""


class OnFailure(Word):
    HALT = "halt"
    """Start no further todos; let running ones finish."""
    CONTINUE = "continue"
    """Skip only the todos that depend on the failed one."""
    ROLLBACK = "rollback"
    """Undo the completed todos."""


class WriteBack(Word):
    """Data of an ended run that is written into the file."""

    STATUS = "status"
    """Succeeded todos become completed, with their hours; undone todos become pending again."""
    NONE = "none"


class Workspace(Word):
    WORKTREE = "worktree"
    """A git worktree of the run."""
    IN_PLACE = "in-place"
    """The repository's own path, one todo at a time."""


class SandboxKind(Word):
    OFF = "off"
    """The command has the rights of the worker's user."""
    BUBBLEWRAP = "bubblewrap"
    """The command sees its worktree and the machine's programs, and nothing else of this machine."""


class Sandbox(Record):
    """Limits of a todo's command. A field without a value is taken from the repository, then from the
    settings.
    """

    kind: SandboxKind = SandboxKind.BUBBLEWRAP
    network: Annotated[bool, Field(strict=True)] | None = None
    """None: agents have it, since they need their model; other commands have none."""
    memory: Annotated[Size, Field(ge=LEAST_MEMORY)] | None = None
    """Bytes that all processes of the command may use together."""
    processes: Count | None = None
    """Processes that may exist at once."""


def _bare_sandbox(value: object) -> object:
    if value is False:  # YAML 1.1 reads the word off as false
        return {"kind": SandboxKind.OFF}
    if isinstance(value, str):
        return {"kind": value}
    if isinstance(value, dict | Sandbox):
        return value
    raise ValueError("needs off, bubblewrap, or a mapping like {network: true, memory: 2GiB, processes: 200}")


SandboxRules = Annotated[Sandbox, BeforeValidator(_bare_sandbox)]


class ShellAction(Record):
    type: Literal["shell"]
    run: Command
    read_only: Annotated[bool, Field(strict=True)] = False
    """Fail if the command leaves a change in the worktree; nothing is committed."""


class PythonAction(Record):
    type: Literal["python"]
    call: Annotated[str, Field(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_][\w.]*$")]
    args: dict[str, Any] = {}


class ManualAction(Record):
    type: Literal["manual"]


class NoopAction(Record):
    """Succeeds without doing anything, in the worker's process; joins branches of a plan, and measures the
    overhead per todo.
    """

    type: Literal["noop"]
    holds: tuple[RepoName, ...] = ()
    """Repositories whose landing locks it takes, all at once; the run holds them until it ends, or a todo
    `frees` them. Only `coord land` and `coord revert` make such a todo.
    """
    frees: Annotated[bool, Field(strict=True)] = False
    """Release the landing locks of the run."""
    keeps: Annotated[bool, Field(strict=True)] = False
    """A rollback of the run leaves everything that ended before it as it is."""
    tolerates: Annotated[int, Field(strict=True, ge=0)] | None = None
    """Number of todos directly before it that may fail, apart from those with the action noop; skipped ones
    do not count. None: each must succeed.
    """
    soak: Annotated[bool, Field(strict=True)] = False
    """Its gate waits for a time to pass, not for a person."""


def is_of_landing(action: object) -> bool:
    """Return whether the action needs an order to land or to revert."""
    return isinstance(action, LandAction | RevertAction) or (
        isinstance(action, NoopAction) and action != NoopAction(type="noop")
    )


def merges_request(action: object) -> bool:
    """Return whether the action merges a pull request, its own or that of a revert."""
    return isinstance(action, LandAction | RevertAction) and action.via is Via.PR


InWorker = NoopAction | LandAction | RevertAction | ServiceAction
"""Actions that the worker itself performs: they run no command and have no worktree."""


def is_made_by_coord(action: object) -> bool:
    """Return whether only coord gives the action to todos: of landings, and of services."""
    return is_of_landing(action) or isinstance(action, ServiceAction)


def _check_included(pattern: str) -> str:
    if pattern.startswith("!"):
        raise ValueError("names files to leave out; name the files to rewrite")
    return pattern


LONGEST_PATTERN = 10_000
"""Characters; an argument of a program is limited to 128 KB."""
Argument = Annotated[str, Field(max_length=LONGEST_PATTERN), AfterValidator(reject_null)]


class RewriteAction(Record):
    """Replaces code that matches a syntax pattern, by ast-grep."""

    type: Literal["rewrite"]
    pattern: Annotated[Argument, Field(min_length=1)]
    rewrite: Argument
    lang: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+$", max_length=40)]
    paths: tuple[Annotated[RelativePath, AfterValidator(_check_included)], ...] = ()


def _bare_command(value: object) -> object:
    if isinstance(value, str | list):
        return {"type": "shell", "run": value}
    if isinstance(value, dict) and isinstance(value.get("type"), str):
        return {**value, "type": value["type"].lower()}
    return value


Action = Annotated[
    Annotated[
        ShellAction
        | PythonAction
        | AgentAction
        | ManualAction
        | NoopAction
        | RewriteAction
        | QaAction
        | LandAction
        | RevertAction
        | ServiceAction,
        Field(discriminator="type"),
    ],
    BeforeValidator(_bare_command),
]
Compensation = Annotated[
    Annotated[
        ShellAction | PythonAction | AgentAction | RevertAction | ServiceAction,
        Field(discriminator="type"),
    ],
    BeforeValidator(_bare_command),
]
"""Action that undoes a todo; only actions that a worker can execute."""


class Cache(Record):
    """Reuse of an earlier success with the same action, tree, inputs and predecessors' outputs.

    Files that git tracks are always compared. `inputs` names others: files that `prepare` or an earlier todo
    left.
    """

    inputs: tuple[RelativePath, ...] = ()
    ttl: Duration | None = None


CacheRules = Annotated[Cache, true_or_mapping(Cache, '{inputs: ["build/**"], ttl: 7d}')]


class Backoff(Word):
    """Growth of the delay between attempts with the number of failures."""

    IMMEDIATE = "immediate"
    FIXED = "fixed"
    LINEAR = "linear"
    EXPONENTIAL = "exponential"
    FIBONACCI = "fibonacci"


class Jitter(Word):
    NONE = "none"
    FULL = "full"
    """A random delay, evenly distributed from 0 to the computed delay."""


def _regular_expression(pattern: str) -> str:
    if mistake := pattern_mistake(pattern):
        raise ValueError(mistake)
    return pattern


class OutputSign(Record):
    """Matches if the pattern (Python's regular expressions) is found in a line of the attempt's output."""

    output: Annotated[Text, AfterValidator(_regular_expression)]


def _failure_sign_kind(value: object) -> str | None:
    if isinstance(value, dict | OutputSign):
        return "what it wrote"
    if value == "timeout":
        return "its time was up"
    return "exit code" if isinstance(value, int | float) and not isinstance(value, bool) else None


FailureSign = Annotated[
    Annotated[int, Field(strict=True, ge=1, le=255), Tag("exit code")]
    | Annotated[Literal["timeout"], Tag("its time was up")]
    | Annotated[OutputSign, Tag("what it wrote")],
    Discriminator(
        _failure_sign_kind,
        custom_error_type="failure_sign",
        custom_error_message="needs an exit code, the word timeout, or a mapping like {output: REGEX}",
    ),
    BeforeValidator(lower_case),
]
"""Criterion for a failure: an exit code, the timeout, or a pattern in the output."""


class Retry(Record):
    """Rules for repeating a failed todo. `attempts` includes the first."""

    attempts: Annotated[Count, Field(le=100)] = 3
    strategy: Backoff = Backoff.EXPONENTIAL
    delay: Duration = timedelta(seconds=1)
    factor: Annotated[Amount, Field(ge=1)] = 2.0
    max_delay: Duration = timedelta(seconds=30)
    jitter: Jitter = Jitter.FULL
    retry_on: tuple[FailureSign, ...] = ()
    """Repeat only failures that match one of these; if empty, repeat all."""
    stop_on: tuple[FailureSign, ...] = ()
    """Never repeat failures that match one of these; takes precedence over `retry_on`."""
