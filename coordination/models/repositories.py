"""Repositories, in which todos work, and resources, which todos of all repositories share."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from coordination.models.checks import Check, Checks
from coordination.models.execution import SandboxRules, Workspace
from coordination.models.values import (
    Command,
    Count,
    Foreign,
    Labels,
    ProgramText,
    Record,
    RepoName,
    ResourceName,
    Text,
    Units,
    Word,
)


class ResourceType(Word):
    """Kind of a resource, shown to people; all kinds behave alike."""

    AGENT = "agent"
    FILE = "file"
    DATABASE = "database"
    API = "api"
    CUSTOM = "custom"


class ForgeRule(Record):
    """Location of the pull requests of a repository, as far as its `url` does not tell it."""

    type: Literal["github", "gitlab", "gitea"] | None = None
    api: Text | None = None
    """Address of the API."""
    project: Text | None = None
    """`owner/name`; at GitLab with all groups."""


class Repo(Foreign):
    name: RepoName
    path: ProgramText | None = None
    url: ProgramText | None = None
    branch: ProgramText = "main"
    role: Text | None = None
    tags: Labels = ()
    slots: Annotated[Count, Field(le=64)] = 1
    prepare: Command | None = None
    qa: Checks = ()
    """Its quality checks."""
    workspace: Workspace = Workspace.WORKTREE
    """Workspace of todos that declare none."""
    submodules: Annotated[bool, Field(strict=True)] | None = None
    """Check out submodules in worktrees; None: those that the checkout has initialised."""
    sandbox: SandboxRules | None = None
    """Sandbox of todos that declare none."""
    forge: ForgeRule | None = None
    """None: as its `url` says."""
    recover: Command | None = None
    """Brings the repository back when it has failed; executed in its folder."""
    owner: Text | None = None
    """Person or team that is notified when the repository cannot be recovered."""

    def check(self, name: str | None) -> Check | None:
        """Return the declared check of this name, or the only one; None if there is none."""
        checks = [check for check in self.qa if name in (None, check.name)]
        return checks[0] if len(checks) == 1 else None


class Resource(Record):
    """A capacity that todos of all repositories share: at most `capacity` units are in use at once, over all
    runs.
    """

    name: ResourceName
    type: ResourceType = ResourceType.CUSTOM
    capacity: Units = 1
    breaker: Annotated[bool, Field(strict=True)] = True
    """Open a circuit breaker if todos that hold the resource keep failing; false for a mere capacity."""


class ResourceNeed(Record):
    """Units of a resource that a todo holds while it runs; a bare name means one unit."""

    name: ResourceName
    amount: Units = 1

    def __str__(self) -> str:
        return self.name if self.amount == 1 else f"{self.name}:{self.amount}"


def _bare_name(value: object) -> object:
    if isinstance(value, str):
        return {"name": value}
    if isinstance(value, dict | ResourceNeed):
        return value
    raise ValueError("needs the name of a resource, or a mapping like {name: gpu, amount: 2}")


def _reject_duplicates(needs: tuple[ResourceNeed, ...]) -> tuple[ResourceNeed, ...]:
    names = [need.name for need in needs]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise ValueError(
            f"names {twice} twice; name it once with the whole amount: {{name: {twice}, amount: N}}"
        )
    return needs


ResourceNeeds = Annotated[
    tuple[Annotated[ResourceNeed, BeforeValidator(_bare_name)], ...], AfterValidator(_reject_duplicates)
]
