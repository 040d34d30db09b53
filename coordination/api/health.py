"""Health of repositories and services: shown, and repositories disconnected and connected."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

from coordination.backend.daemon import wait_until
from coordination.declared import Effect, Option, operation
from coordination.environment import actor
from coordination.errors import ExitCode, NotFound, Unreachable
from coordination.frozen import FrozenModel
from coordination.health.records import Health, HealthState, Kind, Overall, overall
from coordination.health.store import Disconnections, HealthStore
from coordination.runs.records import LIVE
from coordination.text import did_you_mean, require_known

if TYPE_CHECKING:
    from coordination.api.access import EcosystemAccess
    from coordination.runs.connection import Connection

ENDED_S = 30.0
"""Time for a cancelled recovery to end; after that a stop is refused as a conflict with it."""
NOBODY_LOOKS = "no worker looks at the health: the last round is more than 30 s ago, or there was none"


class HealthView(FrozenModel):
    """Health of a repository, a remote, a service or the disks of a host. Times are UTC."""

    id: str
    """`KIND:NAME`."""
    kind: Kind
    name: str
    repo: str
    state: HealthState
    required: bool
    why: str
    since: datetime
    looked_at: datetime | None
    latency_s: float | None
    method: str
    failures: int
    """Failed looks in a row."""
    breaker: str
    run: str
    """The present or the last recovery."""
    vain: int
    """Recoveries in a row that have not helped."""
    vain_why: str
    """Reason why the last of them failed, or could not start."""
    given_up: bool
    """It is not recovered any more until it is healthy again."""
    recovered: int
    """Recoveries that have helped."""
    recovered_at: datetime | None
    recovery_s: float | None
    """Time from failed to healthy of the last recovery."""


OF_SUBJECT = ("kind", "name", "repo", "required")
"""The fields of HealthView that are those of the subject. All others are those of the record."""


class HealthReport(FrozenModel):
    """Health of all, or of one repository or service."""

    state: Overall
    why: str = ""
    """Reason why nothing is known, if no worker monitors it."""
    looked_at: datetime | None = None
    """The last round of the monitor."""
    worker: str = ""
    """The worker that looks."""
    subjects: tuple[HealthView, ...]

    @property
    def exit_code(self) -> ExitCode:
        return ExitCode.SUCCESS if self.state is Overall.HEALTHY else ExitCode.FAILED


class Disconnected(FrozenModel):
    """A repository that was disconnected."""

    repo: str
    handed_back: tuple[str, ...]
    """Todos that were running there, as `RUN TODO`."""


class Connected(FrozenModel):
    """A repository that was connected again."""

    repo: str


Repository = Annotated[str, Option("A repository's name.", completes="repo_names")]


class HealthOperations:
    """`coord.health()` and what belongs to it."""

    def __init__(self, access: EcosystemAccess) -> None:
        self._access = access

    @operation(
        "repo.health",
        Effect.READS,
        for_agents="`state` of all is healthy, degraded (something optional is down) or critical (something "
        "required is down, or no worker looks).",
    )
    def __call__(
        self,
        name: Annotated[
            str | None,
            Option(
                "A repository or service, or KIND:NAME (default: all).",
                metavar="[REPO|SERVICE]",
                completes="service_names",
            ),
        ] = None,
    ) -> HealthReport:
        """Show the health of repositories, remotes, services and disks. A worker looks at all of them every
        30 seconds.

        `name`: only a repository or service. Starts nothing.

        Raises NotFound for an unknown name; Unreachable where no Redis runs.
        """
        if self._access.running_redis() is None:
            raise Unreachable("nothing runs here, so nothing looks at the health", "start it: coord up")
        with self._access.answering() as connection:
            store = HealthStore(connection.redis, connection.keys)
            off = Disconnections(connection.store).all()
            records = [_connected(one, off) for one in store.records()]
            monitor = store.monitor()
        chosen = self._select(records, name)
        return HealthReport(
            state=Overall.CRITICAL if monitor is None else overall(chosen),
            why=NOBODY_LOOKS if monitor is None else "",
            looked_at=None if monitor is None else _time(monitor.at),
            worker="" if monitor is None else monitor.worker,
            subjects=tuple(map(_view, chosen)),
        )

    @operation(
        "repo.disconnect",
        Effect.CHANGES,
        right="release-lock",
        event="disconnect",
        for_agents="Call it only if a person told you to.",
    )
    def disconnect(
        self,
        repo: Repository,
        *,
        why: Annotated[str, Option("Say why; it is recorded.", flag="--reason", metavar="TEXT")] = "",
    ) -> Disconnected:
        """Disconnect a repository. No todo starts in it, running ones are handed back, and it is not
        recovered. Todos that need it wait until it is connected again: coord repo connect.

        Raises NotFound, NotAllowed.
        """
        self._check(repo, "disconnect")
        with self._access.reached() as connection:
            disconnections = Disconnections(connection.store)
            back = disconnections.disconnect(repo, connection.dispatcher, by=actor(), why=why)
        self._access.announce("disconnect", repo, repos=[repo], title=why, data={"handed_back": len(back)})
        return Disconnected(repo=repo, handed_back=tuple(f"{run} {todo}" for run, todo in back))

    @operation(
        "repo.connect",
        Effect.CHANGES,
        right="release-lock",
        event="connect",
        for_agents="Call it only if a person told you to.",
    )
    def connect(self, repo: Repository) -> Connected:
        """Connect a repository again. Todos start in it within five seconds.

        Raises NotFound, NotAllowed.
        """
        self._access.authority.check("connect", [repo])
        with self._access.reached() as connection:
            Disconnections(connection.store).connect(repo)
        self._access.announce("connect", repo, repos=[repo])
        return Connected(repo=repo)

    def _check(self, repo: str, operation: str) -> None:
        declared = {one.name for one in self._access.document.ecosystem.repos}
        require_known([repo], declared, "repo", "repo list")
        self._access.authority.check(operation, [repo])

    def _select(self, records: Iterable[Health], name: str | None) -> list[Health]:
        if name is None:
            return list(records)
        known = list(records)
        found = [one for one in known if name in (one.id, one.subject.name, one.subject.repo)]
        ecosystem = self._access.document.ecosystem
        names = {one.name for one in ecosystem.repos}
        names |= {one.name for one in ecosystem.coordination.services}
        names |= {one.subject.name for one in known}
        kind, _, rest = name.partition(":")
        bare = rest if kind in list(Kind) else name
        if not found and bare not in names:
            near = did_you_mean(name, names)
            raise NotFound(f"nothing is named {name!r}{near}", "list all: coord repo health")
        return found


def unhealthy(connection: Connection, repos: Collection[str], *, remote: bool) -> Iterator[str]:
    """Yield what is wrong with these repositories before a run begins in them: its todos would wait.
    `remote`: the workers are not started by this command, so a repository may have none.
    """
    off = Disconnections(connection.store).all()
    for repo in sorted(off.keys() & set(repos)):
        yield f"{repo} is disconnected, its todos wait: coord repo connect {repo}"
    unserved = connection.registry.unserved(repos) if remote else {}
    for repo, waits_for in unserved.items():
        yield f"no worker can work on {repo}, its todos wait for {waits_for}"
    for one in HealthStore(connection.redis, connection.keys).records():
        name, kind = one.subject.name, one.subject.kind
        if kind is Kind.REPO and name in repos and one.is_down and name not in off and name not in unserved:
            yield f"{name} is {one.verdict}: {one.why}; see: coord repo health {name}"


def end_recoveries(connection: Connection, services: Collection[str]) -> None:
    """Cancel the recoveries of services that a person stops, and wait for their ends: a stop wins."""
    for one in HealthStore(connection.redis, connection.keys).records():
        named = one.subject.kind is Kind.SERVICE and one.subject.name in services
        if named and one.recovery_from is not None and connection.store.status(one.run) in LIVE:
            connection.dispatcher.follow(connection.store.cancel(one.run, actor()))
            run = one.run
            wait_until(lambda run=run: connection.store.status(run) not in LIVE, ENDED_S)  # type: ignore[misc]


def _connected(record: Health, off: Collection[str]) -> Health:
    """Return the record as it is to be shown: the monitor takes two seconds to see a disconnection."""
    connected = record.subject.repo not in off
    if connected == record.subject.connected or not record.subject.repo:
        return record
    return record.model_copy(update={"subject": record.subject.model_copy(update={"connected": connected})})


def _view(record: Health) -> HealthView:
    """Return the fields of a record and OF_SUBJECT; times, in seconds, become UTC."""
    names = HealthView.model_fields.keys() - OF_SUBJECT
    return HealthView.model_validate(
        {name: getattr(record, name) for name in names}
        | {name: getattr(record.subject, name) for name in OF_SUBJECT}
        | {"why": record.reason}
    )


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
