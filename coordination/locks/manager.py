"""Locks by name: exclusive or shared, one or several at once; their release by people, by force."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import ClassVar

from redis import Redis

from coordination.backend.step_connection import StepConnection
from coordination.backend.steps import lock as steps
from coordination.declared import Column, Table
from coordination.errors import Conflict, NotFound
from coordination.frozen import FrozenModel
from coordination.locks.core import LockCore
from coordination.locks.deadlock import Circle, Detector
from coordination.locks.guard import Guard
from coordination.locks.listing import LOCK, Held, Holder, Listing
from coordination.locks.lock import Lock
from coordination.locks.request import (
    TTL,
    WAIT,
    LockTerms,
    Owner,
    check_name,
    holder_words,
    of_locks,
    unique_names,
)
from coordination.locks.resources import Resources, ResourceStats
from coordination.text import quoted

KINDS = (LOCK, "resource", "slot", "land")


@dataclass(frozen=True, kw_only=True)
class LockStats:
    """Figures of the namespace at this moment."""

    held: int
    """Number of held names of locks, resources and slots."""
    waiting: int
    """Number of waiting requests."""
    resources: Mapping[str, ResourceStats]


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


class LockManager:
    """The locks of a namespace. `owner` identifies every caller; without it, each thread is an owner.

    Threads that share an owner count as one party: if one of them waits for a lock of another, that is a
    deadlock.
    """

    def __init__(self, redis: Redis, namespace: str, *, owner: Owner | None = None) -> None:
        self._core = LockCore(StepConnection(redis), namespace, owner)
        self.resources = Resources(self._core)
        self._listing = Listing(self._core.connection, self._core.keys)

    def acquire(
        self,
        name: str,
        *,
        ttl: timedelta = TTL,
        wait: timedelta = WAIT,
        owner: str = "",
        priority: int = 0,
        shared: bool = False,
        keep: bool = True,
    ) -> Lock:
        """Acquire a lock. `wait` 0 is a single try; `owner` is a label for people, recorded with host,
        process and thread.

        With `keep`, a thread renews the lock at a third of its ttl until it is released; without, a hanging
        holder loses it, which may be intended. Raises LockTimeout, DeadlockError, UsageError, Unreachable.
        """
        return self.acquire_many(
            (name,), ttl=ttl, wait=wait, owner=owner, priority=priority, shared=shared, keep=keep
        )

    def acquire_many(
        self,
        names: Iterable[str],
        *,
        ttl: timedelta = TTL,
        wait: timedelta = WAIT,
        owner: str = "",
        priority: int = 0,
        shared: bool = False,
        keep: bool = True,
    ) -> Lock:
        """Acquire all names in one step, with one fence and one release; a waiting request holds none of
        them.
        """
        terms = LockTerms(ttl, wait, owner, priority, keep)
        wanted = unique_names(names)
        return self._core.grant(of_locks(wanted, shared=shared), wanted, terms)

    def guard(self, name: str) -> Guard:
        """Return a register that only the newest holder of the lock may write. Create it before acquiring the
        lock.
        """
        check_name("lock's name", name)
        return Guard(self._core, name)

    def held(self) -> int:
        """Return the number of names that are held at present."""
        return self._census()[0]

    def stats(self) -> LockStats:
        held, waiting = self._census()
        return LockStats(held=held, waiting=waiting, resources=self.resources.all_stats())

    def list(self, *, resources: bool = True, internal: bool = True) -> tuple[Held, ...]:
        """Return the names that are held or waited for. `resources`: also resources and slots that nobody
        waits for; `internal`: also locks that coord takes for itself.
        """
        return tuple(
            held
            for held in self._listing.all()
            if (resources or held.kind == LOCK or held.waiters) and (internal or not held.internal)
        )

    def deadlocks(self) -> tuple[Circle, ...]:
        """Return the present deadlocks. Within about a second, one request of each gives way."""
        waiting = {waiter.id for held in self._listing.all() for waiter in held.waiters}
        return Detector(self._core.connection, self._core.keys).circles(waiting)

    # Released by force: the holder's next renewal fails, and the release is recorded

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

    def close(self) -> None:
        """Stop renewing; held locks expire after their ttl."""
        self._core.close()

    def _census(self) -> steps.Counted:
        return self._core.call(steps.Census())


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
