"""What arguments of several tools mean, said once: the model reads it in each tool's schema."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, TypeVar

from pydantic import BeforeValidator, Field

from coordination.models import ResourceNeed
from coordination.runs.view import LAST

T = TypeVar("T")


def several(given: Any) -> Any:
    """One value is as good as a list of one; words may have commas between them."""
    return [word.strip() for word in given.split(",") if word.strip()] if isinstance(given, str) else given


AnyOf = Annotated[Sequence[T], BeforeValidator(several), Field(description="Any of these; none: whatever it is.")]
Items = Annotated[Sequence[str] | None, BeforeValidator(several)]

RunName = Annotated[str, Field(description=f"A run's id, its beginning or end, or `{LAST}`.")]
PlanName = Annotated[str, Field(description="A plan's id, as coord_list_plans gives it.")]
TodoName = Annotated[str, Field(description="A todo's id, as coord_list_todos gives it.")]
IssueName = Annotated[str, Field(description="An issue's id, as coord_list_issues gives it.")]
RepoName = Annotated[str, Field(description="A repository's name, as coord_get_ecosystem_status gives it.")]
Repos = Annotated[Items, Field(description="Names of the repositories that it touches.")]
Labels = Annotated[Items, Field(description="Words to find it by.")]
BlockedBy = Annotated[Items, Field(description="Ids of issues, todos or plans that must be finished before.")]
Blocking = Annotated[Items, Field(description="Ids of issues, todos or plans that wait for this one.")]
Resources = Annotated[
    Annotated[Sequence[str | ResourceNeed] | None, BeforeValidator(several)],
    Field(description="Resources of the file that it holds while it runs: names, or {name, amount}."),
]
Severity = Annotated[str | None, Field(description="A free word, such as critical, high, medium, low or migration.")]
Date = Annotated[str | None, Field(description="Like 2026-01-31.")]
Limit = Annotated[int, Field(ge=1, le=1000, description="At most so many; `total` says how many there are.")]
Most = Annotated[int, Field(ge=1, le=10_000, description="At most so many of each list; `left_out` counts the rest.")]
Offset = Annotated[int, Field(ge=0, description="Leave out so many first.")]

AtOnce = Annotated[int | None, Field(ge=1, description="At most so many todos at once.")]
Wait = Annotated[
    float, Field(ge=0, le=60, description="Answer when the run has ended, or after so many seconds if it has not.")
]
