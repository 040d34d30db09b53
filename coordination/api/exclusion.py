"""Locks, resources and circuit breakers: listed, released by force, closed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, ClassVar

from coordination.breakers.records import Breaker
from coordination.declared import (
    Column,
    Confirm,
    Effect,
    Listing,
    Option,
    Table,
    agreed,
    operation,
)
from coordination.environment import actor
from coordination.errors import UsageError
from coordination.frozen import FrozenModel
from coordination.locks.listing import Held
from coordination.locks.manager import Released
from coordination.text import counted

if TYPE_CHECKING:
    from coordination.api.access import EcosystemAccess
    from coordination.locks.resources import ResourceStats
    from coordination.models import Resource

RELEASED_SHOWN = 100


class ResourceView(FrozenModel):
    """A resource of the file, with its use."""

    shown: ClassVar = Table(
        columns=(
            Column("RESOURCE", of="name"),
            Column("TYPE"),
            Column("CAPACITY"),
            Column("USED"),
            Column("WAITING"),
            Column("UTILISATION", of=lambda one: f"{one.utilisation:.0%}"),
            Column("LONGEST WAIT", of=lambda one: f"{one.longest_wait_s:.1f} s"),
        ),
        none="the file declares no resource",
        next_step="declare one: coord help file",
    )

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


class Locks:
    """`coord.lock`."""

    def __init__(self, access: EcosystemAccess) -> None:
        self._access = access

    @operation(
        "lock.list",
        Effect.READS,
        for_agents="A todo that waits for a resource of the file is a waiter named `TODO of run RUN`.",
    )
    def list(
        self,
        *,
        resources: Annotated[
            bool, Option("Include resources and repository slots that nobody waits for.")
        ] = False,
        internal: Annotated[
            bool, Option("Include the locks that coord takes for itself.", flag="--all")
        ] = False,
    ) -> Listing[Held]:
        """List the locks with their holders and waiters, ages and times to live."""
        with self._access.answering() as connection:
            every = connection.locks.list(resources=resources)
        held = tuple(one for one in every if internal or not one.internal)
        notes = []
        if held:
            began = datetime.fromtimestamp(held[0].epoch // 1_000_000, UTC)
            notes.append(f"Redis has lost nothing since {began.isoformat()}")
        if hidden := len(every) - len(held):
            notes.append(f"{counted(hidden, 'internal lock')} hidden: coord lock list --all")
        return Listing.of(held, "\n".join(notes))

    @operation("lock.released", Effect.READS)
    def released(self) -> tuple[Released, ...]:
        """List the locks that were released by force, latest first."""
        with self._access.answering() as connection:
            return connection.locks.broken(RELEASED_SHOWN)

    @operation(
        "lock.release",
        Effect.UNDOES,
        right="release-lock",
        for_agents="Call it only if a person told you to.",
    )
    def release(
        self,
        name: Annotated[str | None, Option("A lock, or `resource:NAME`.", completes="lock_names")] = None,
        *,
        owner: Annotated[str | None, Option("Release all locks of this owner.", metavar="LABEL")] = None,
        force: Annotated[
            bool, Option("Release it even if the holder runs, or may run on another host.")
        ] = False,
        confirm: Confirm = agreed,
    ) -> Sequence[Held]:
        """Release a lock that somebody else holds, or all locks of an owner. The holder is notified, and the
        next waiter gets it. The release is recorded: coord lock released.

        Return the released locks.

        Raises NotFound where it is not held; Conflict for a run's todo, and for a holder that may be alive;
        NotAllowed; UsageError unless either a name or an owner is given.
        """
        if (name is None) == (owner is None):
            raise UsageError(
                "which lock?", "name one: coord lock release NAME; or all of an owner: --owner LABEL"
            )
        self._access.authority.check("lock.release")
        with self._access.answering() as connection:
            locks = connection.locks
            if owner is not None:
                for held in locks.held_by(owner, force=force):
                    confirm(_question(held), held)
                return locks.release_all(owner, actor(), force=force)
            found = locks.breakable(name or "", force=force)
            confirm(_question(found), found)
            locks.break_(found, actor())
            return (found,)


class Resources:
    """`coord.resource`."""

    def __init__(self, access: EcosystemAccess) -> None:
        self._access = access

    @operation("resource.list", Effect.READS)
    def list(self) -> tuple[ResourceView, ...]:
        """List the resources of the file: capacity, use, waiters."""
        declared = self._access.document.ecosystem.resources
        with self._access.answering() as connection:
            known = connection.locks.resources.all_stats()
        return tuple(_resource_view(one, known.get(one.name)) for one in declared)


class Breakers:
    """`coord.breaker`."""

    def __init__(self, access: EcosystemAccess) -> None:
        self._access = access

    @operation("breaker.reset", Effect.CHANGES, right="release-lock")
    def reset(
        self,
        name: Annotated[
            str,
            Option(
                "`repo:api`, `resource:db`, or an unambiguous part of such a name.",
                completes="breaker_names",
            ),
        ],
    ) -> Breaker:
        """Close a circuit breaker: its failures are forgotten, and the todos behind it continue. The reset is
        recorded: coord status.

        Return its former state.

        Raises NotFound, NotAllowed.
        """
        self._access.authority.check("breaker.reset")
        with self._access.answering() as connection:
            return connection.breakers.reset(name, actor())


def _question(found: Held) -> str:
    held = ", ".join(f"{holder.who} for {holder.age_s:.0f} s" for holder in found.holders)
    return f"{found.title} is held by {held}: release it?"


def _resource_view(resource: Resource, stats: ResourceStats | None) -> ResourceView:
    view = ResourceView(name=resource.name, type=resource.type, capacity=resource.capacity)
    if stats is None:  # no run has declared it yet
        return view
    used = asdict(stats) | {"capacity": view.capacity, "utilisation": round(stats.utilisation, 4)}
    return view.model_copy(update=used)
