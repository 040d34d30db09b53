"""Repositories and what they need of each other."""

from __future__ import annotations

from coordination.breakers.records import Breaker
from coordination.dependencies.records import DependencyReport
from coordination.mcp.answers import CutEcosystemStatus, CutRepoStatus, Page, cut, page
from coordination.mcp.declaring import AnyOf, Limit, Most, Offset, RepoName, checks, reads
from coordination.mcp.session import Session
from coordination.models import Dependency, DependencyStatus, DependencyType
from coordination.operations.glance import glance


@reads("Where everything stands")
def coord_get_ecosystem_status(office: Session, limit: Most = 30) -> CutEcosystemStatus:
    """All repositories at a glance: what is ready, blocked, overdue, and what holds up most. Look here first."""
    status = cut(CutEcosystemStatus, office.coord.manager.get_ecosystem_status(), limit, whole=("repos",))
    return status.model_copy(update={"breakers": _breakers(office)})


@reads("Where a repository stands")
def coord_get_repo_status(office: Session, repo: RepoName, limit: Most = 30) -> CutRepoStatus:
    """One repository: its open issues, todos, plans and dependencies, and what blocks it."""
    status = cut(CutRepoStatus, office.coord.manager.get_repo_status(repo), limit)
    own = next((breaker for breaker in _breakers(office) if breaker.name == f"repo:{repo}"), None)
    return status.model_copy(update={"breaker": own})


def _breakers(office: Session) -> tuple[Breaker, ...]:
    """As far as Redis answers at once: nothing is started for it."""
    seen = glance(office.path, office.coord.settings, lambda live: live.breakers())
    return seen.answer if seen else ()


@reads("List dependencies")
def coord_list_dependencies(
    office: Session,
    consumer: AnyOf[str] = (),
    provider: AnyOf[str] = (),
    type: AnyOf[DependencyType] = (),
    status: AnyOf[DependencyStatus] = (),
    limit: Limit = 100,
    offset: Offset = 0,
) -> Page[Dependency]:
    """Dependencies between repositories that fit all filters."""
    found = office.coord.manager.list_dependencies(consumer or None, provider or None, type or None, status or None)
    return page(found, limit, offset)


@checks("Check dependencies")
def coord_check_dependencies(office: Session, consumer: AnyOf[str] = ()) -> DependencyReport:
    """Find out for real whether repositories have what they need of each other: their commands are run, addresses asked,
    versions compared. Statuses that have changed are written into the file.
    """
    return office.coord.manager.check_dependencies(consumer or None)
