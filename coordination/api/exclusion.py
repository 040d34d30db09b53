"""Locks, resources and circuit breakers: listed, released by force, closed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from coordination.environment import actor
from coordination.frozen import FrozenModel

if TYPE_CHECKING:
    from coordination.api.access import EcosystemAccess
    from coordination.breakers.records import Breaker
    from coordination.locks.listing import Held
    from coordination.locks.release import Released
    from coordination.locks.resources import ResourceStats
    from coordination.models import Resource

RELEASED_SHOWN = 100


class ResourceView(FrozenModel):
    """A resource of the file, with its use."""

    name: str
    type: str
    capacity: int
    used: int = 0
    waiting: int = 0
    utilisation: float = 0.0
    """Used share of the capacity since its first use: 0 to 1."""
    longest_wait_s: float = 0.0
    granted: int = 0
    mean_wait_s: float = 0.0


@dataclass(frozen=True, kw_only=True)
class LockList:
    held: Sequence[Held]
    hidden: int
    """Number of internal locks that were left out."""


class Exclusion:
    """`coord.exclusion`."""

    def __init__(self, access: EcosystemAccess) -> None:
        self._access = access

    def list_locks(self, *, resources: bool = False, internal: bool = False) -> LockList:
        """List the locks with their holders and waiters, ages and times to live.

        `resources`: also the resources in use. `internal`: also the locks that coord takes for itself.
        """
        with self._access.answering() as connection:
            every = connection.locks.list(resources=resources)
        held = tuple(one for one in every if internal or not one.internal)
        return LockList(held=held, hidden=len(every) - len(held))

    def list_released(self) -> tuple[Released, ...]:
        """List the locks that were released by force, latest first."""
        with self._access.answering() as connection:
            return connection.locks.broken(RELEASED_SHOWN)

    def list_resources(self) -> tuple[ResourceView, ...]:
        """List the resources of the file: capacity, use, waiters."""
        declared = self._access.document.ecosystem.resources
        with self._access.answering() as connection:
            known = connection.locks.resources.all_stats()
        return tuple(_resource_view(one, known.get(one.name)) for one in declared)

    def release_locks(
        self,
        name: str = "",
        *,
        owner: str | None = None,
        force: bool = False,
        confirm: Callable[[Held], object] = lambda held: None,
    ) -> Sequence[Held]:
        """Release a lock that somebody else holds, or all locks of an owner. The holder is notified, and the
        next waiter gets it.

        `owner`: release all locks of this owner instead. `force`: even if a holder runs, or may run on
        another host. `confirm`: called with each lock before any is released; an exception releases none.
        Return the released locks.

        Raises NotFound where it is not held; Conflict for a run's todo, and for a holder that may be alive;
        NotAllowed.
        """
        self._access.authority.check("release_lock")
        with self._access.answering() as connection:
            locks = connection.locks
            found = (
                (locks.breakable(name, force=force),) if owner is None else locks.held_by(owner, force=force)
            )
            for held in found:
                confirm(held)
            if owner is not None:
                return locks.release_all(owner, actor(), force=force)
            for held in found:
                locks.break_(held, actor())
            return found

    def reset_breaker(self, name: str) -> Breaker:
        """Close a circuit breaker: its failures are forgotten, and the todos behind it continue.

        `name`: `repo:api`, `resource:db`, or an unambiguous part of such a name. Return its former state.

        Raises NotFound, NotAllowed.
        """
        self._access.authority.check("reset_breaker")
        with self._access.answering() as connection:
            return connection.breakers.reset(name, actor())


def _resource_view(resource: Resource, stats: ResourceStats | None) -> ResourceView:
    view = ResourceView(name=resource.name, type=resource.type, capacity=resource.capacity)
    if stats is None:  # no run has declared it yet
        return view
    used = asdict(stats) | {"capacity": view.capacity, "utilisation": round(stats.utilisation, 4)}
    return view.model_copy(update=used)
