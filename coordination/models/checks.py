"""Quality checks that a repository declares in its field `qa`."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field

from coordination.models.values import Command, Duration, Record, RelativePath, Text, Word

CheckName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=50)]
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
    """Needs all of it."""


class Check(Record):
    """A command that judges a repository: exit code 0, and no failed test in its report, is green."""

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
