"""The states of services of all hosts, as their workers publish them with each heartbeat."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from coordination.errors import Conflict, CoordinationError, NotFound
from coordination.runs.presence import Presence
from coordination.services.host import ServiceHost, ServiceState, ServiceStatus

DOWN = (ServiceState.STOPPED, ServiceState.FAILED)
"""States in which a service can start on another host."""

_STATES = TypeAdapter(tuple[ServiceStatus, ...])


class PublishedService(BaseModel):
    """The state of a service on a host."""

    model_config = ConfigDict(frozen=True)

    host: str
    status: ServiceStatus
    age_s: float = 0.0
    """Time since its worker published it; 0 for this machine."""
    away: bool = False
    """No worker of the host serves its repository now."""

    @property
    def is_up(self) -> bool:
        return self.status.state not in DOWN


def states_of(state: Path) -> Mapping[str, str]:
    """Return repository → the states of its services in a state folder, as a worker publishes them."""
    host = ServiceHost(state)
    found: defaultdict[str, list[ServiceStatus]] = defaultdict(list)
    if host.folder.is_dir():
        try:
            for one in host.states().values():
                found[one.repo].append(one.model_copy(update={"why": one.why[:2000]}))
        except CoordinationError:  # a damaged file: the commands on this machine say so
            return {}
    return {repo: _STATES.dump_json(tuple(states)).decode() for repo, states in found.items()}


def published(presence: Presence) -> Iterator[PublishedService]:
    """Yield the states of all hosts. What cannot be read is skipped: its worker writes it again."""
    served = {(worker.host, repo) for worker in presence.workers() for repo in worker.repos}
    for host, repo, age_s, text in presence.services():
        try:
            states = _STATES.validate_json(text)
        except ValidationError:
            continue
        for one in states:
            if one.repo == repo:
                yield PublishedService(host=host, status=one, age_s=age_s, away=(host, repo) not in served)


def forget(presence: Presence, host: str, names: Collection[str] = ()) -> tuple[PublishedService, ...]:
    """Delete the published states of these services, or all, on a host that is gone; return them. Raises
    Conflict while a worker of the host lives, which would publish them again; NotFound.
    """
    if there := next((worker for worker in presence.workers() if worker.host == host), None):
        raise Conflict(
            f"host {host} is not gone: its worker {there.id} lives",
            "stop the services instead: coord service stop",
        )
    known = [one for one in published(presence) if one.host == host]
    gone = tuple(one for one in known if not names or one.status.name in names)
    missing = sorted(set(names) - {one.status.name for one in gone})
    if missing or not gone:
        what = f"service {', '.join(missing)}" if missing else "a service"
        raise NotFound(f"no state of {what} on host {host!r} is published", "list them: coord service list")
    for repo in {one.status.repo for one in gone}:
        left = tuple(one.status for one in known if one.status.repo == repo and one not in gone)
        presence.replace_services(host, repo, _STATES.dump_json(left).decode() if left else "")
    return gone


def on_all_hosts(
    here: str, local: Mapping[str, ServiceStatus], others: Iterable[PublishedService]
) -> Mapping[str, tuple[PublishedService, ...]]:
    """Return service → its states: one for each host on which it is up, else the latest.

    `local`: the states on the host `here`, which are newer than the published ones.
    """
    found: defaultdict[str, list[PublishedService]] = defaultdict(list)
    for name, status in local.items():
        found[name].append(PublishedService(host=here, status=status))
    for one in others:
        if one.host != here or one.status.name not in local:
            found[one.status.name].append(one)
    return {name: tuple(_relevant(states)) for name, states in sorted(found.items())}


def _relevant(states: list[PublishedService]) -> list[PublishedService]:
    return [one for one in states if one.is_up] or [max(states, key=lambda one: one.status.since)]
