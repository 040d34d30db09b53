"""Values that todos share, read and written from outside."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from coordination.mcp.declaring import changes, reads
from coordination.mcp.session import Session

Key = Annotated[str, Field(description="Its name.")]
Run = Annotated[
    str, Field(description="A run's id, or `last`: what its todos share. Neither run nor plan: what all share.")
]
Plan = Annotated[str, Field(description="A plan's id: what all its runs share.")]
Ttl = Annotated[float | None, Field(gt=0, le=31_536_000, description="How long it is kept, if not for an hour.")]


class Shared(BaseModel):
    model_config = ConfigDict(frozen=True)

    key: str
    found: bool
    value: Any = None


@reads("Read a shared value")
def coord_context_get(office: Session, key: Key, run: Run = "", plan: Plan = "") -> Shared:
    """A value that todos share: a run sees what its plan has, and the plan what all share. What is not found may have expired."""
    absent = object()
    value = office.coord.context(plan=plan, run=run).get(key, absent)
    return Shared(key=key, found=False) if value is absent else Shared(key=key, found=True, value=value)


@changes("Share a value")
def coord_context_set(
    office: Session,
    key: Key,
    value: Annotated[JsonValue, Field(description="Any JSON.")],
    run: Run = "",
    plan: Plan = "",
    ttl_s: Ttl = None,
) -> Shared:
    """Share a value with the todos of a run, of a plan, or with all; those within see it, those further out do not."""
    office.coord.context(plan=plan, run=run).set(key, value, None if ttl_s is None else timedelta(seconds=ttl_s))
    return Shared(key=key, found=True, value=value)
