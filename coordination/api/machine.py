"""This machine: its first file, its health, Flower, metrics, and the users of Redis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coordination.declared import Effect, operation
from coordination.errors import CoordinationError, Problem, UsageError
from coordination.models import FILE_NAME

if TYPE_CHECKING:
    from wsgiref.simple_server import WSGIServer

    from coordination.api.access import EcosystemAccess
    from coordination.operations.doctor import Checkup
    from coordination.operations.pages import FlowerConfig
    from coordination.settings import Settings


def write_first_file(folder: Path) -> tuple[Path, int]:
    """Write ecosystem.yaml from the git repositories of a folder, with an example plan.

    Return its path and the number of repositories.

    Raises UsageError where there is no repository, Conflict where there is a file.
    """
    from coordination.ecosystem.first_file import DEPTH, find_repos, first_file, write_first
    from coordination.operations.used_ids import ids_of_first_file
    from coordination.tracker.kinds import PLAN, TODO
    from coordination.tracker.transaction import Numbering

    repos, path = find_repos(folder), folder / FILE_NAME
    if not repos:
        raise UsageError(
            f"no git repository was found in {folder.resolve()}, nor in the folders in it, "
            f"{DEPTH} levels deep",
            "clone or create one there (git init), or name the folder that has them: coord init DIR",
        )
    used = ids_of_first_file(path, [folder / repo.path for repo in repos if repo.path])
    plan, todo = (Numbering((), (), kind.first_id) for kind in (PLAN, TODO))
    write_first(path, first_file(repos, plan.next(used), [todo.next(used) for _ in range(3)]))
    return path, len(repos)


def new_ecosystem_id() -> str:
    from coordination.ecosystem.first_file import new_id

    return new_id()


def file_schema() -> dict[str, Any]:
    """Show the JSON Schema of the file, for completion and checks in editors."""
    from coordination.ecosystem.schema import json_schema

    return json_schema()


@dataclass(frozen=True, kw_only=True)
class Validation:
    """Warnings about a valid file, and what cannot be executed."""

    warnings: tuple[Problem, ...]
    refused_plans: tuple[str, ...]
    """Plans that a sweep would refuse."""


def check(access: EcosystemAccess) -> Validation:
    """Check the file and the repositories of this machine. Raises InvalidFile."""
    from coordination.landing.plan_waves import wave_problems
    from coordination.operations.executable import judge_executable

    document = access.document
    verdict = judge_executable(document, access.settings)
    waves = (
        Problem(file=str(document.path), line=0, where=plan, message=why)
        for plan, why in wave_problems(document.ecosystem)
    )
    warnings = (*document.warnings, *verdict.problems, *waves)
    return Validation(warnings=warnings, refused_plans=verdict.refused_plans)


def create_demo(folder: Path) -> Path:
    """Create six small git repositories with a plan over them; return their file."""
    from coordination.demo.create import create

    return create(folder)


def create_demo_of_agents(folder: Path) -> Path:
    """Create three small git repositories whose work a scripted agent does; return their file."""
    from coordination.demo.create import create_for_agents

    return create_for_agents(folder)


def examine(access: EcosystemAccess) -> Checkup:
    """Check the file, Redis, hosts, workers, queues and runs.

    Raises NotFound where neither a file nor a Redis is named.
    """
    from coordination.operations import checkup
    from coordination.operations.doctor import Checkup
    from coordination.services.view import service_reports

    settings = access.settings
    file = checkup.look_at_file(access.path, settings) if access.has_file else None
    folders = [access.path.parent] if access.has_file else []
    machine = checkup.look_at_machine(
        *(settings, folders, access.state, access.changed_folders()),
        asks_for_sandbox=file is not None and file.asks_for_sandbox,
        over_http=file.over_http if file else (),
    )
    found = Checkup(machine=machine, file=file)
    if file and file.problems and not settings.redis_url:
        return found  # the file may name one, for all we know
    try:
        url = access.redis_url
    except CoordinationError as error:
        return Checkup(machine=found.machine, file=file, trouble=error)
    if not settings.redis_url:
        found = replace(found, restarts=access.local.restarts.recent(), state=str(access.state))
    found = checkup.look_at_redis(url, settings, embedded=not settings.redis_url, checkup=found)
    if found.trouble:
        return found
    with access.answering() as connection:
        reports = service_reports(access.state, settings.this_host, connection.registry)
    return replace(found, services=tuple(reports))


def flower_page(access: EcosystemAccess, address: str, port: int, *, read_only: bool) -> FlowerConfig:
    """Return the configuration of Flower for this Redis. Raises Unreachable."""
    from coordination.operations.pages import FlowerConfig, flower_auth

    with access.answering() as connection:
        return FlowerConfig(
            redis_url=connection.url,
            namespace=access.settings.namespace,
            auth=flower_auth(access.settings),
            address=address,
            port=port,
            read_only=read_only,
        )


def serve_metrics(access: EcosystemAccess, host: str, port: int) -> WSGIServer:
    """Serve metrics to Prometheus, in a thread. Raises UsageError where the address is taken."""
    from coordination.operations.metrics import serve

    return serve(access.redis_url, access.settings, host, port)


def acl_line(settings: Settings, role: str, repos: Sequence[str], user: str, password: str) -> str:
    """Return the line of a Redis ACL file for a user with no more rights than the role needs."""
    from coordination.backend.address import parse
    from coordination.backend.keys import Keys
    from coordination.operations.acl import Role, Rules, line

    db = parse(settings.redis_url).db if settings.redis_url else 0
    return line(user, password, Rules(Keys(settings.namespace), db).of(Role(role), repos))


@dataclass(frozen=True, kw_only=True)
class LoadedSteps:
    """A library of steps that was loaded."""

    library: str
    """Its digest."""
    deleted: Sequence[str]
    """The names of the deleted libraries."""


class Steps:
    """The steps of coord, a library of Redis Functions."""

    def __init__(self, access: EcosystemAccess) -> None:
        self._access = access

    @operation("steps.load", Effect.CHANGES, right="administer", tool=False)
    def load(self) -> LoadedSteps:
        """Load the steps of this version into a Redis server. Those that other versions loaded more than 30
        days ago are deleted.

        Workers, `coord up` and the maintenance leader do this by themselves. A user with fewer rights needs
        it done once for each version of coord: by a user with the role keeper, or by an administrator of the
        server.

        Raises Unusable for a user of Redis who may not load functions, NotAllowed.
        """
        from coordination.backend import library
        from coordination.backend.client import Profile, connect, reaching

        self._access.authority.check("steps.load")
        url, timeout = self._access.redis_url, self._access.settings.connect_timeout
        with reaching(url), connect(url, Profile.COMMAND, timeout) as client:
            deleted = library.load(client, url)
        return LoadedSteps(library=library.digest(), deleted=deleted)
