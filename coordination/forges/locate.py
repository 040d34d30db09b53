"""Find the forge and the project of a repository, by its `url` or its field `forge`."""

from __future__ import annotations

from dataclasses import dataclass

from coordination.forges.models import ForgeType


@dataclass(frozen=True, kw_only=True)
class ForgeAddress:
    """A repository at a forge."""

    type: ForgeType
    api: str
    """Address of the API without a slash at its end, as in https://api.github.com."""
    project: str
    """`owner/name`; at GitLab with all groups."""
