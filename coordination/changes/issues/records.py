"""Options of a synchronisation of issues, and the records that commands show."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from pydantic import BaseModel, ConfigDict

from coordination.errors import CoordinationError


class Side(StrEnum):
    FILE = "file"
    FORGE = "forge"


@dataclass(frozen=True, kw_only=True)
class IssueSyncOptions:
    """The options of `coord issue sync`."""

    repos: tuple[str, ...] = ()
    """Empty: all repositories whose forge is known."""
    pull: bool = False
    """Create issues in the file for open ones of the forge that it lacks."""
    prefer: Side = Side.FILE
    """The side whose value wins where both have changed a field."""
    dry_run: bool = False


class IssueAction(StrEnum):
    CREATED = "created"
    """At the forge."""
    LINKED = "linked"
    """An earlier synchronisation had created it at the forge, and ended before it could note that."""
    PULLED = "pulled"
    """Created in the file."""
    UPDATED = "updated"
    UNCHANGED = "unchanged"
    FAILED = "failed"
    WOULD_CREATE = "would_create"
    WOULD_LINK = "would_link"
    WOULD_PULL = "would_pull"
    WOULD_UPDATE = "would_update"


class FieldConflict(BaseModel):
    """A field that both sides have changed."""

    model_config = ConfigDict(frozen=True)

    field: str
    file: str
    """The value of the file; of labels, their names with commas."""
    forge: str
    kept: Side
    """The side whose value both have now."""


class IssueResult(BaseModel):
    """The result of `coord issue sync` for one issue, or for a repository as a whole (without `issue`)."""

    model_config = ConfigDict(frozen=True)

    issue: str = ""
    """Id in the file; empty for one that was not pulled."""
    repo: str
    forge: str = ""
    """Id at the forge, as in `github:acme/api#7`."""
    url: str = ""
    title: str = ""
    action: IssueAction
    to_forge: tuple[str, ...] = ()
    """Fields whose values the forge has got."""
    to_file: tuple[str, ...] = ()
    conflicts: tuple[FieldConflict, ...] = ()
    error: str = ""
    """Fact and next command of a failure."""
    code: int = 0
    """The exit code that belongs to the failure."""

    def failed(self, error: CoordinationError) -> IssueResult:
        """Return it as a failure."""
        update = {"action": IssueAction.FAILED, "error": str(error), "code": error.exit_code}
        return self.model_copy(update=update)


class IssueSyncReport(BaseModel):
    model_config = ConfigDict(frozen=True)

    results: tuple[IssueResult, ...]
    not_pulled: int = 0
    """Open issues of the forges that the file lacks; `pull` creates them."""
