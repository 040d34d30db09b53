"""Services: programs of repositories that stay up, and the probes that tell whether they work."""

from __future__ import annotations

from datetime import timedelta
from graphlib import CycleError, TopologicalSorter
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator

from coordination.models.values import (
    Command,
    Count,
    Duration,
    Record,
    RelativePath,
    RepoName,
    VariableValue,
    Word,
    reject_null,
)
from coordination.text import cycle_text

ServiceName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=50)]
UnitName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9:_.@-]*$", max_length=200)]
LOCAL_NAMES = ("localhost", "127.0.0.1", "::1")
Port = Annotated[int, Field(strict=True, ge=1, le=65535)]


def _check_variable(name: str) -> str:
    if not name or "=" in name:
        raise ValueError("is not the name of a variable: it is empty, or contains =")
    return reject_null(name)


class HttpProbe(Record):
    """A GET request that must be answered with this status."""

    url: Annotated[str, Field(pattern=r"^https?://[^\s]+$", max_length=2000)]
    status: Annotated[Count, Field(ge=100, le=599)] = 200


class FileProbe(Record):
    """A file that the service writes regularly."""

    path: RelativePath
    max_age: Duration
    """Maximum time since its last change, because a file that merely exists proves nothing."""


class Probe(Record):
    """The check that a service works; exactly one of the first five fields."""

    http: HttpProbe | None = None
    tcp: Port | None = None
    """A port of the service's host that accepts connections."""
    command: Command | None = None
    """A command that must exit with 0, run in the folder of the repository."""
    file: FileProbe | None = None
    process: Literal[True] | None = None
    """The process must be alive."""
    timeout: Duration = timedelta(seconds=5)
    """Time limit of one try."""
    tries: Annotated[Count, Field(le=20)] = 3
    """Number of failed looks in a row after which a working service is degraded."""
    every: Duration = timedelta(seconds=2)
    """Time between two looks."""

    @property
    def port(self) -> int | None:
        """Return the port of the service's host that it checks; None for another kind of probe."""
        if self.http is None:
            return self.tcp
        url = urlsplit(self.http.url)
        try:
            known = url.port or {"http": 80, "https": 443}[url.scheme]
        except ValueError:  # no number
            return None
        return known if url.hostname in LOCAL_NAMES else None

    @model_validator(mode="after")
    def _has_one_kind(self) -> Self:
        kinds = ("http", "tcp", "command", "file", "process")
        if sum(getattr(self, kind) is not None for kind in kinds) != 1:
            raise ValueError("needs exactly one of http, tcp, command, file, process")
        return self


class Restart(Word):
    """When the supervisor starts a service again whose process has ended."""

    NO = "no"
    ON_FAILURE = "on-failure"
    """After any exit code but 0."""
    ALWAYS = "always"


class Service(Record):
    """A program of a repository that stays up, on the machine where the repository lives; exactly one of
    `command` and `unit`.
    """

    name: ServiceName
    repo: RepoName
    command: Command | None = None
    """The command that runs in the foreground."""
    unit: UnitName | None = None
    """A systemd service unit of the worker's user, which systemd starts, stops and restarts."""
    cwd: RelativePath | None = None
    """Folder in the repository; without it the repository's."""
    env: dict[Annotated[str, AfterValidator(_check_variable)], VariableValue] = {}
    required: Annotated[bool, Field(strict=True)] = False
    """Nothing works without it: if it fails, the services that were started with it are stopped."""
    depends_on: tuple[ServiceName, ...] = ()
    start_timeout: Duration = timedelta(seconds=60)
    """Time from its start until its probe passes."""
    probe: Probe = Field(default_factory=lambda: Probe(process=True))
    restart: Restart = Restart.ON_FAILURE
    stop_grace: Duration = timedelta(seconds=10)
    """Time to end after SIGTERM, before SIGKILL."""

    @model_validator(mode="after")
    def _has_one_program(self) -> Self:
        if (self.command is None) == (self.unit is None):
            raise ValueError("needs exactly one of command, unit")
        if self.unit is not None and (self.cwd or self.env or self.restart is not Restart.ON_FAILURE):
            raise ValueError("cwd, env and restart of a unit are in its unit file: remove them here")
        return self

    @property
    def unit_file(self) -> str:
        """Return the full name of its unit; empty for a command."""
        return "" if self.unit is None else self.unit.removesuffix(".service") + ".service"


def _reject_circle(services: tuple[Service, ...]) -> tuple[Service, ...]:
    edges = {service.name: service.depends_on for service in services}
    try:
        TopologicalSorter(edges).prepare()
    except CycleError as error:
        circle = cycle_text(error.args[1][::-1])
        raise ValueError(
            f"depend on each other in a circle: {circle}; remove one of these names from `depends_on`"
        ) from error
    return services


Services = Annotated[tuple[Service, ...], AfterValidator(_reject_circle)]


class ServiceStep(Word):
    """A transition of a service."""

    START = "start"
    STOP = "stop"
    RESTART = "restart"
    LOGS = "logs"
    """Change nothing; return the end of its log."""


class ServiceAction(Record):
    """Brings a service into a state on its host; made by `coord service` only."""

    type: Literal["service"]
    step: ServiceStep
    name: ServiceName
    service: Service | None = None
    """Its declaration; only a start and a restart need it."""
    lines: Annotated[Count, Field(ge=1)] | None = None
    """Number of requested lines of its log."""
    if_wanted: Annotated[bool, Field(strict=True)] = False
    """Change nothing if the service is no longer meant to be up: a stop wins over a recovery."""


class IntegrationCheck(Record):
    """A command that must exit with 0 when all services are up."""

    name: ServiceName
    repo: RepoName
    """The repository in whose worktree it runs."""
    command: Command
    timeout: Duration = timedelta(seconds=90)
