"""Values of the file's fields, such as durations, sizes and names, and the base classes of its records."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import date, datetime, timedelta
from enum import StrEnum
from hashlib import sha256
from typing import Annotated, Any, cast

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    WithJsonSchema,
    model_validator,
)

from coordination.frozen import FrozenModel

FILE_NAME = "ecosystem.yaml"
ECOSYSTEM_ID = r"^[a-z0-9-]{8,64}$"
RUN_ID = re.compile(r"[0-9]{8}-[0-9]{6}-[a-z0-9]{4}")
"""Ids of runs as draft.new_run_id makes them: folders, files and branches bear them."""

DURATION_UNITS_S = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}
_DURATION = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)?\s*")


def parse_duration(value: object) -> object:
    """Parse `90s`, `10m`, `1.5h` or a number of seconds; leave anything else to pydantic, which accepts ISO
    8601.
    """
    if isinstance(value, bool):
        raise ValueError("a duration is a number of seconds, or a number with ms, s, m, h or d")
    try:
        if isinstance(value, int | float):
            return timedelta(seconds=value)
        if isinstance(value, str) and (match := _DURATION.fullmatch(value)):
            return timedelta(seconds=float(match[1]) * DURATION_UNITS_S[match[2] or "s"])
    except (OverflowError, ValueError) as error:  # infinite, not a number, or more than a billion days
        raise ValueError("a duration cannot be that long") from error
    return value


SIZE_UNITS = {"": 1, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3, "TiB": 1024**4}
_SIZE = re.compile(r"\s*(\d{1,15}(?:\.\d{1,9})?)\s*(KiB|MiB|GiB|TiB)?\s*")


def parse_size(value: object) -> object:
    """Parse `1GiB` or `512MiB` to bytes; leave anything else to pydantic, which accepts a number."""
    if isinstance(value, str) and (match := _SIZE.fullmatch(value)):
        return int(float(match[1]) * SIZE_UNITS[match[2] or ""])
    return value


def true_or_mapping(kind: type[Record], example: str) -> BeforeValidator:
    """Return the validator of a field that takes `true` for a record with its default values."""

    def check(value: object) -> object:
        if value is True:
            return {}
        if isinstance(value, dict | kind):
            return value
        raise ValueError(f"needs true, or a mapping like {example}")

    return BeforeValidator(check)


def _reject_dot_names(name: str) -> str:
    if name in (".", ".."):  # worktrees are in folders named after the repository
        raise ValueError("a repository's name must differ from . and ..")
    return name


def argv_of(command: str | Sequence[str]) -> tuple[str, ...]:
    """Return the arguments of a Command: a string runs in a shell, a list without one."""
    return ("sh", "-c", command) if isinstance(command, str) else tuple(command)


LONGEST_ID = 100


def generated_id(name: str, mark: str = ".") -> str:
    """Return the name as an id: where it is longer than ids may be, shortened by a digest behind `mark`."""
    if len(name) <= LONGEST_ID:
        return name
    return f"{name[: LONGEST_ID - 13]}{mark}{sha256(name.encode()).hexdigest()[:12]}"


def _reject_numbers(value: object) -> object:
    # pydantic would read 2026, and "20260131" too, as a moment in 1970
    if isinstance(value, int | float) or (isinstance(value, str) and value.isdecimal()):
        raise ValueError("a date is written like 2026-01-31")
    return value


def relative_path(pattern: str) -> str:
    """Return a path or glob inside a repository. Raises ValueError for any other."""
    parts = pattern.split("/")
    if pattern.startswith(("/", "~")) or ".." in parts:
        raise ValueError("must be a path or a glob inside the repository, relative to its folder")
    if not pattern.isprintable():
        raise ValueError("contains invisible characters; remove them")
    if ".git" in parts:
        raise ValueError("names git's own folder; files that git tracks count without being named")
    return pattern


def reject_null(text: str) -> str:
    if "\0" in text:
        raise ValueError("contains a null character, which no program can be given; remove it")
    return text


Duration = Annotated[timedelta, BeforeValidator(parse_duration), Field(gt=timedelta(0))]
Size = Annotated[
    int,
    BeforeValidator(parse_size),
    Field(ge=0, le=2**60),
    WithJsonSchema(
        {"type": ["integer", "string"], "minimum": 0, "pattern": r"^\s*\d+(\.\d+)?\s*([KMGT]iB)?\s*$"}
    ),
]
"""Number of bytes: `1GiB`, `512MiB`, or a plain number."""
Text = Annotated[str, Field(min_length=1)]
ProgramText = Annotated[Text, AfterValidator(reject_null)]
"""Text that a program gets: an argument, the path of a folder, or the message of a commit."""
RelativePath = Annotated[Text, AfterValidator(relative_path)]
"""Path or glob inside a repository."""
RepoName = Annotated[
    str, Field(pattern=r"^[A-Za-z0-9._-]+$", max_length=100), AfterValidator(_reject_dot_names)
]
ResourceName = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]+$", max_length=100)]
Id = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=LONGEST_ID)]
SecretName = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]*$", max_length=64)]
"""Name of a credential, and of the file in which a todo gets it."""
Command = ProgramText | Annotated[tuple[ProgramText, ...], Field(min_length=1)]
Day = Annotated[date | datetime, BeforeValidator(_reject_numbers)]
# Strict, because YAML reads `yes` as true, and true would count as 1.
Count = Annotated[int, Field(strict=True, ge=1)]
# Lua counts in doubles, and sums of units must stay exact there.
Units = Annotated[Count, Field(le=1_000_000_000)]
Amount = Annotated[float, Field(strict=True, ge=0, allow_inf_nan=False)]
LONGEST_HOURS = 1_000_000
"""Most hours of a todo, 114 years, so that the sums over a plan stay finite."""
Hours = Annotated[Amount, Field(le=LONGEST_HOURS)]
PositiveHours = Annotated[float, Field(strict=True, gt=0, le=LONGEST_HOURS, allow_inf_nan=False)]
VariableValue = Annotated[str, AfterValidator(reject_null)]
Scalar = (
    VariableValue
    | Annotated[int, Field(strict=True)]
    | Annotated[float, Field(strict=True, allow_inf_nan=False)]
)
Variables = dict[Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")], Scalar]
"""Environment variables of a todo."""
Labels = tuple[Text, ...]
RunId = Annotated[str, Field(pattern=f"^{RUN_ID.pattern}$")]
EcosystemId = Annotated[str, Field(pattern=ECOSYSTEM_ID)]


class Record(FrozenModel):
    model_config = ConfigDict(extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _drop_empty_fields(cls, data: Any) -> Any:
        """Treat a field without a value (`labels:`) as absent."""
        if isinstance(data, dict) and None in data.values():
            return {
                key: value for key, value in data.items() if value is not None or key not in cls.model_fields
            }
        return data


class Foreign(Record):
    """A record that other tools may extend: unknown fields stay in the file and are ignored."""

    model_config = ConfigDict(extra="ignore")


class Word(StrEnum):
    """An enumeration whose values are read in any case and written in lower case."""

    @classmethod
    def _missing_(cls, value: object) -> Word | None:
        known = cls._value2member_map_
        return cast(Word | None, known.get(value.lower())) if isinstance(value, str) else None


class Level(Word):
    """Urgency or severity."""

    CRITICAL = "critical"
    HIGH = "high"
    MEDIUM = "medium"
    LOW = "low"


def lower_case(value: object) -> object:
    """Return text in lower case, anything else unchanged."""
    return value.lower() if isinstance(value, str) else value


class Verdict(Word):
    APPROVE = "approve"
    REJECT = "reject"


class Gate(Record):
    """A point where a person's approval is needed; without a timeout the run waits indefinitely."""

    timeout: Duration | None = None
    on_timeout: Verdict = Verdict.REJECT
    two_persons: Annotated[bool, Field(strict=True)] = False
    """The person who ordered the run may not approve it."""


AtGate = Annotated[Gate, true_or_mapping(Gate, "{timeout: 24h, on_timeout: reject}")]
