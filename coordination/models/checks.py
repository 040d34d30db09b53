"""Quality checks that a repository declares in its field `qa`, and the action that runs one."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from coordination.models.values import Command, Duration, Id, Record, RelativePath, RepoName, Text, Word

CHECK_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
CheckName = Annotated[str, Field(pattern=CHECK_NAME, max_length=50)]
Retries = Annotated[int, Field(strict=True, ge=0, le=10)]
BARE = "qa"
"""Name of a check that has none."""


class CheckKind(Word):
    """Kind of a quality check; one of a later kind waits for the earlier kinds of what it needs."""

    UNIT = "unit"
    """Needs its own repository, and those below it."""
    INTEGRATION = "integration"
    """Needs several repositories, or resources."""
    E2E = "e2e"
    """Needs the whole ecosystem."""


class Check(Record):
    """A command that judges a repository. It is green with exit code 0 and no failed test in its report."""

    name: CheckName = BARE
    run: Command
    timeout: Duration | None = None
    needs: tuple[Text, ...] = ()
    """Repositories and resources, besides the providers of the file's dependencies."""
    kind: CheckKind = CheckKind.UNIT
    report: RelativePath | None = None
    """JUnit XML that the command writes: a path or glob in the repository."""
    retries: Retries = 0
    """How often a red check runs again; only for checks that are known to be flaky."""


def check_of(wanted: Command | Check, declared: Callable[[str], Check | None]) -> Command | Check:
    """Return the check that an agent's work must pass. A single word is the name of a declared check, and
    stays if there is none; other texts are commands.
    """
    if isinstance(wanted, Check):
        return wanted
    if isinstance(wanted, str) and is_check_name(wanted):
        return declared(wanted) or wanted
    return Check(run=wanted)


def is_check_name(text: str) -> bool:
    return re.fullmatch(CHECK_NAME, text) is not None


class QaAction(Record):
    """A quality check of the todo's repository: one that the repository declares, or a command of its own.
    The submission fills in `run`, `report`, `retries` and `kind` of a declared check.
    """

    type: Literal["qa"]
    check: CheckName | None = None
    """Name of a declared check; without it, and without `run`, the only one of the repository."""
    run: Command | None = None
    report: RelativePath | None = None
    """JUnit XML that the command writes: a path or glob in the repository."""
    retries: Retries = 0
    """How often the check runs again if tests fail; only for tests that are known to be flaky."""
    kind: CheckKind | None = None
    needs: tuple[RepoName, ...] | None = None
    """Repositories whose trees decide the result, besides its own; None: those of all predecessors."""
    allow_red: Annotated[bool, Field(strict=True)] = False
    """Succeed although tests fail, and report that."""
    before: Id | None = None
    """The todo that ran the same check before the plan. Tests that failed there are reported as such."""
    criterion_of: Id | None = None
    """The todo whose acceptance criterion it checks."""


def _as_list(value: object) -> object:
    """Return the checks as a list: a command alone, or one mapping, is one check."""
    if isinstance(value, str) or _is_argv(value):
        return [{"run": value}]
    return [value] if isinstance(value, dict | Check) else value


def _is_argv(value: Any) -> bool:
    return isinstance(value, list | tuple) and bool(value) and all(isinstance(one, str) for one in value)


def _reject_repeated(checks: tuple[Check, ...]) -> tuple[Check, ...]:
    names = [check.name for check in checks]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise ValueError(f"has two checks with the name {twice}; name them differently")
    return checks


Checks = Annotated[tuple[Check, ...], BeforeValidator(_as_list), AfterValidator(_reject_repeated)]
