"""The states of services of all hosts, as their workers publish them with each heartbeat."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from coordination.errors import CoordinationError
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
