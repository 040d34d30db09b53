"""What arguments of several tools mean, said once: the model reads it in each tool's schema."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from coordination.runs.view import LAST

RunName = Annotated[str, Field(description=f"A run's id, its beginning or end, or `{LAST}`.")]
PlanName = Annotated[str, Field(description="A plan's id, as coord_list_plans gives it.")]
TodoName = Annotated[str, Field(description="A todo's id, as coord_list_todos gives it.")]
IssueName = Annotated[str, Field(description="An issue's id, as coord_list_issues gives it.")]
RepoName = Annotated[str, Field(description="A repository's name, as coord_get_ecosystem_status gives it.")]
AtOnce = Annotated[int | None, Field(ge=1, description="At most so many todos at once.")]
Wait = Annotated[
    float, Field(ge=0, le=60, description="Answer when the run has ended, or after so many seconds if it has not.")
]
