"""Who holds what, and who waits for it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from coordination.locks.listing import Held
from coordination.mcp.declaring import reads
from coordination.mcp.session import Session


@reads("List locks")
def coord_list_locks(
    office: Session,
    resources: Annotated[
        bool, Field(description="Resources and seats in repositories, too, where nobody waits for them.")
    ] = False,
) -> Sequence[Held]:
    """The locks that are held: by whom, since when, for how long unless renewed, and who waits for them, next one first.

    A todo that waits for a resource of the file is among those who wait, as `TODO of run RUN`.
    """
    return office.coord.locks.list(resources=resources)
