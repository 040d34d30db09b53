"""Release of locks by others than their holders: by people, and by the sweeper.

A person releases a lock by force: the holder's next renewal fails, and the release is recorded.

The sweeper periodically removes entries that dead processes left in queues and indexes, and runs other
periodic jobs. Waiting requests do not depend on it, because they notice themselves when a holder has expired.
It handles names that nobody requests again, index entries of owners that never released, and todos that wait
behind an expired share of a resource. It runs in the maintenance leader; two at once would do no harm, since
the second finds nothing left to remove.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import ClassVar

import redis

from coordination.backend.step_connection import StepConnection
from coordination.backend.steps import lock as steps
from coordination.background import BackgroundService
from coordination.declared import Column, Table
from coordination.errors import Conflict, CoordinationError, NotFound
from coordination.frozen import FrozenModel
from coordination.locks.core import LockCore
from coordination.locks.listing import LOCK, Held, Holder, Listing, batches
from coordination.locks.request import check_name, holder_words
from coordination.text import quoted

KINDS = (LOCK, "resource", "slot", "land")
EVERY = timedelta(seconds=30)

logger = logging.getLogger(__name__)

PeriodicJob = Callable[[], object]


class Released(FrozenModel):
    """A lock that was released by force."""

    shown: ClassVar = Table(
        columns=(
            Column("WHEN", of="at"),
            Column("LOCK", of=lambda one: one.what.removeprefix(f"{LOCK}:")),
            Column("BY"),
            Column("FENCE"),
            Column("WHOSE", of="who", flexible=True, folds=True),
        ),
        none="no lock was released by force",
        next_step="see the held ones: coord lock list",
    )
    at: datetime
    what: str
    by: str
    who: str
    """Description of the former holder."""
    host: str
    pid: int | None
    label: str
    fence: int | None
    since: datetime | None


class ForceRelease:
    """The part of `LockManager` that releases names of other holders by force."""

    _core: LockCore
    _listing: Listing

    def breakable(self, name: str, *, force: bool = False) -> Held:
        """Return the lock (or `resource:NAME`) with its holders if it may be released by force; `force`
        includes live holders.

        Raises NotFound if it is not held, Conflict for a run's todo or a holder that may be alive, which can
        only be determined for processes of this host.
        """
        kind, _, named = name.partition(":")
        check_name("lock's name", named if kind in KINDS else name)
        typed = [name] if kind in KINDS else []
        held = next((held for held in self._listing.of([f"{LOCK}:{name}", *typed]) if held.holders), None)
        if held is None:
            raise NotFound(f"{name} is not held", self._not_held_hint(name))
        for holder in held.holders:
            _refuse_todo(held, holder)
            _refuse_living(held, holder, force)
        return held

    def _not_held_hint(self, name: str) -> str:
        resource = f"resource:{name}"
        if any(held.holders for held in self._listing.of([resource])):
            return f"for the resource of that name: coord lock release {quoted(resource)}"
        return "list what is held: coord lock list --resources"

    def break_(self, held: Held, actor: str) -> None:
        """Release by force what `breakable` found; the holders' next renewal fails, and the next in the queue
        is granted it.

        `actor` is recorded for `broken`. Raises NotFound if it was released in the meantime.
        """
        if not self._break(held, actor, held.holders):
            raise NotFound(
                f"the holder of {held.name} has released it in the meantime",
                "see who holds it now: coord lock list",
            )

    def release_dead(self, name: str) -> None:
        """Release a lock where its holder was a process of this host that has ended without releasing it."""
        for held in self._listing.of([f"{LOCK}:{name}"]):
            if dead := [holder for holder in held.holders if holder.alive is False]:
                self._break(held, "its process has ended", dead)

    def held_by(self, owner: str, *, force: bool = False) -> tuple[Held, ...]:
        """Return what all requests with the label `owner` hold, on any machine, except runs' todos.

        Raises NotFound if there is nothing; without `force`, Conflict for a holder that may be alive.
        """
        check_name("owner's label", owner)
        found = []
        for held in self._listing.all():
            holders = tuple(one for one in held.holders if one.kind != "todo" and one.label == owner)
            for holder in holders:
                _refuse_living(held, holder, force)
            if holders:
                found.append(held.model_copy(update={"holders": holders}))
        if not found:
            raise NotFound(f"{owner} holds nothing", "list all holders: coord lock list --resources")
        return tuple(found)

    def release_all(self, owner: str, actor: str = "", *, force: bool = True) -> tuple[Held, ...]:
        """Release by force what requests with the label `owner` hold; their next renewal fails. Returns what
        was released.

        `actor` is recorded for `broken`. Without `force`, raises Conflict for a holder that may be alive.
        """
        try:
            found = self.held_by(owner, force=force)
        except NotFound:
            return ()
        released: set[str] = set()
        for held in found:
            for holder in held.holders:
                # One step releases all names of a request.
                if holder.id not in released and self._break(held, actor or owner, [holder]):
                    released.add(holder.id)
        return tuple(held for held in found if any(holder.id in released for holder in held.holders))

    def broken(self, limit: int = 100) -> tuple[Released, ...]:
        """Return the releases by force, latest first."""
        entries = self._core.connection.send("XREVRANGE", self._core.keys.released, "+", "-", "COUNT", limit)
        return tuple(
            _released(entry_id, dict(zip(fields[::2], fields[1::2], strict=True)))
            for entry_id, fields in entries
        )

    def _break(self, held: Held, actor: str, holders: Sequence[Holder]) -> int:
        """Release these holders; return the number of requests that still held the name."""
        step = steps.Break(what=held.what, actor=actor, requests=[holder.id for holder in holders])
        return self._core.call(step)


def _refuse_todo(held: Held, holder: Holder) -> None:
    if holder.kind == "todo":
        run = holder.id.partition(" ")[0]
        raise Conflict(
            f"{held.name} is held by {holder.who}", f"the todo releases it when it ends: coord cancel {run}"
        )


def _refuse_living(held: Held, holder: Holder, force: bool) -> None:
    if not force and holder.alive is not False:
        liveness = "which runs" if holder.alive else "which may run"
        raise Conflict(f"{held.name} is held by {holder.who}, {liveness}", "to release it anyway: --force")


def _released(entry_id: str, fields: Mapping[str, str]) -> Released:
    since = fields.get("since")
    return Released(
        at=datetime.fromtimestamp(int(entry_id.partition("-")[0]) / 1000, UTC),
        what=fields["name"],
        by=fields["by"],
        who=holder_words(fields),
        host=fields.get("host", ""),
        pid=int(fields["pid"]) if fields.get("pid") else None,
        label=fields.get("label", ""),
        fence=int(fields["fence"]) if fields.get("fence") else None,
        since=datetime.fromtimestamp(int(since) / 1000, UTC) if since else None,
    )


@dataclass(frozen=True, kw_only=True)
class SweepReport:
    """Counts of one round."""

    places: int = 0
    """Queue places of dead waiters that were removed."""
    shares: int = 0
    """Expired shares that were removed."""
    handed: int = 0
    """Requests that were granted the freed names."""
    idle: int = 0
    """Unused names that were removed."""
    owners: int = 0
    """Index entries of owners without locks that were removed."""
    periodic_jobs: tuple[object, ...] = ()
    """Results of the jobs; None for a failed one."""


class Sweeper(BackgroundService):
    name = "sweeper"

    def __init__(
        self,
        client: redis.Redis,
        namespace: str,
        *,
        periodic_jobs: Sequence[PeriodicJob] = (),
        every: timedelta = EVERY,
    ) -> None:
        super().__init__()
        self._core = LockCore(StepConnection(client), namespace, None)
        self._periodic_jobs = tuple(periodic_jobs)
        self.interval_s = every.total_seconds()

    def stop(self) -> None:
        super().stop()
        self._core.close()

    def run_once(self) -> SweepReport:
        swept = replace(self._names(), owners=self._owners())
        return replace(swept, periodic_jobs=tuple(map(_run_job, self._periodic_jobs)))

    def _names(self) -> SweepReport:
        core = self._core
        swept = [core.call(steps.Sweep(names=part)) for part in batches(core.connection, core.keys.names)]
        return SweepReport(
            places=sum(one.places for one in swept),
            shares=sum(one.shares for one in swept),
            handed=sum(one.granted for one in swept),
            idle=sum(one.idle for one in swept),
        )

    def _owners(self) -> int:
        core = self._core
        return sum(
            core.call(steps.SweepOwners(parties=part)) for part in batches(core.connection, core.keys.parties)
        )

    def failed(self, error: Exception) -> float:
        if not isinstance(error, CoordinationError | redis.RedisError):
            return super().failed(error)
        logger.warning("the sweeper's round was given up, the next follows: %s", error)
        return self.interval_s


def _run_job(job: PeriodicJob) -> object:
    """Run one job; a failure does not prevent the others."""
    try:
        return job()
    except (CoordinationError, redis.RedisError) as error:
        logger.warning("a job of the sweeper failed: %s", error)
        return None
