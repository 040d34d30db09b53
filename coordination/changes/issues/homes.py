"""The repository at whose forge an issue of the file is, or belongs. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from coordination.changes.issues.fields import FINISHED
from coordination.changes.issues.records import IssueAction, IssueResult
from coordination.errors import NotFound
from coordination.forges.locate import HOSTS, ForgeAddress, knows, locate
from coordination.models import Ecosystem, Issue
from coordination.text import require_known


@dataclass(frozen=True, kw_only=True)
class Home:
    """A repository with a forge, and its issues of the file."""

    repo: str
    address: ForgeAddress
    issues: tuple[Issue, ...]

    def reference(self, number: int) -> str:
        """Return the id of an issue at the forge, as the file has it."""
        return f"{place_of(self.address)}#{number}"

    @property
    def touched(self) -> frozenset[str]:
        """Return the repositories whose issues a synchronisation may change."""
        return frozenset({self.repo, *(name for issue in self.issues for name in issue.repos)})


def place_of(address: ForgeAddress) -> str:
    """Return forge and project as in `github:acme/api`; with the host where it is one of your own."""
    host = "" if address.host in HOSTS else f"{address.host}/"
    return f"{address.type}:{host}{address.project}"


def number_of(issue: Issue) -> int | None:
    """Return the number of the issue at its forge; None without one."""
    known = issue.forge.id if issue.forge else None
    return int(known.rpartition("#")[2]) if known else None


def homes_of(ecosystem: Ecosystem, wanted: Sequence[str]) -> tuple[tuple[Home, ...], tuple[IssueResult, ...]]:
    """Return the repositories with their issues, and the failures of issues whose place is not known.

    An issue is at the forge that its id names, else at that of the first of its repositories that has one; a
    finished one is not begun. Raises NotFound for an unknown repository, PlanRefused for one without a forge.
    """
    repos = {repo.name: repo for repo in ecosystem.repos}
    require_known(wanted, repos, "repo", "list-repos")
    for name in wanted:
        locate(repos[name])
    addresses = {name: locate(repo) for name, repo in repos.items() if knows(repo)}
    found: dict[str, list[Issue]] = {name: [] for name in addresses if name in wanted or not wanted}
    lost = []
    for issue in ecosystem.coordination.issues:
        home = _home(issue, addresses)
        if home in found:
            found[home].append(issue)
        elif home is None and _is_wanted(issue, wanted):
            lost.append(_lost(issue))
    homes = tuple(
        Home(repo=name, address=addresses[name], issues=tuple(issues)) for name, issues in found.items()
    )
    return homes, tuple(lost)


def _home(issue: Issue, addresses: Mapping[str, ForgeAddress]) -> str | None:
    """Return the repository; empty where the issue has none, None where its id names another place."""
    known = [name for name in issue.repos if name in addresses]
    if issue.forge and issue.forge.id:
        place = issue.forge.id.rpartition("#")[0].casefold()
        return next((name for name in known if place_of(addresses[name]).casefold() == place), None)
    return "" if issue.status in FINISHED or not known else known[0]


def _is_wanted(issue: Issue, wanted: Collection[str]) -> bool:
    return not wanted or not set(wanted).isdisjoint(issue.repos)


def _lost(issue: Issue) -> IssueResult:
    known = issue.forge.id if issue.forge and issue.forge.id else ""
    return IssueResult(
        issue=issue.id,
        repo=issue.repos[0] if issue.repos else "",
        forge=known,
        title=issue.title,
        action=IssueAction.FAILED,
        error=f"{issue.id} is {known}, which is at the forge of none of its repositories\n"
        f"correct its `repos`, or the `url` of the repository; or remove `forge` from {issue.id}",
        code=NotFound.exit_code,
    )
