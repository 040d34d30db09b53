"""Holders and waiters of all names at one moment, for people."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any, ClassVar

from pydantic import model_validator

from coordination.backend.keys import LockKeys
from coordination.backend.step_connection import StepConnection
from coordination.backend.steps import lock as steps
from coordination.declared import Column, Table
from coordination.frozen import FrozenModel
from coordination.locks.request import Owner, holder_words, is_internal

AT_ONCE = 100
LOCK = "lock"


class _Request(FrozenModel):
    id: str
    who: str
    """Description: the process, or the todo of a run."""
    kind: str = "process"
    """`process` or `todo`."""
    host: str = ""
    pid: int | None = None
    started: str = ""
    thread: int | None = None
    label: str = ""
    amount: int = 1

    @model_validator(mode="before")
    @classmethod
    def _describe(cls, fields: dict[str, Any]) -> dict[str, Any]:
        return {"who": holder_words(fields), **fields}


class Holder(_Request):
    fence: int | None = None
    since: datetime | None = None
    age_s: float
    ttl_left_s: float | None = None
    """Seconds until it expires unless renewed; None if it is held until its release."""

    @property
    def alive(self) -> bool | None:
        """Return whether the holder's process runs; None if that cannot be determined from this host."""
        if self.kind == "todo" or self.pid is None:
            return None
        thread = self.thread or 0
        return Owner(
            host=self.host, pid=self.pid, started=self.started, thread=thread, label=self.label
        ).alive()


class Waiter(_Request):
    since: datetime | None = None
    waited_s: float
    priority: int = 0


class Held(FrozenModel):
    """A name that is held or waited for."""

    shown: ClassVar = Table(
        columns=(
            Column("LOCK"),
            Column("HOLDER", flexible=True, folds=True),
            Column("OF IT"),
            Column("AGE"),
            Column("TTL"),
            Column("FENCE", wide=True),
            Column("WAITING", flexible=True, folds=True),
        ),
        none="no lock is held",
        no_match="nothing is held",
        next_step="see also: coord lock list --resources",
    )
    what: str
    """`lock:x`, `resource:x`, `slot:x` or `land:x`."""
    kind: str
    name: str
    capacity: int | None = None
    """Capacity of a resource."""
    epoch: int
    """Time at which the data of this Redis began, in µs; a new value means that earlier data was lost."""
    holders: tuple[Holder, ...]
    waiters: tuple[Waiter, ...]
    """Waiting requests, the next one first."""

    @model_validator(mode="before")
    @classmethod
    def _split(cls, fields: dict[str, Any]) -> dict[str, Any]:
        kind, _, name = fields["what"].partition(":")
        return {"kind": kind, "name": name, **fields}

    @property
    def title(self) -> str:
        """Return the name as people type it: `deploy`, `resource:gpu`."""
        return self.name if self.kind == LOCK else self.what

    @property
    def internal(self) -> bool:
        """Return whether coord takes this lock for itself."""
        return self.kind == LOCK and is_internal(self.name)


class Listing:
    def __init__(self, connection: StepConnection, keys: LockKeys) -> None:
        self._connection = connection
        self._keys = keys

    def all(self) -> tuple[Held, ...]:
        found = [held for part in batches(self._connection, self._keys.names) for held in self.of(part)]
        return tuple(
            sorted((h for h in found if h.holders or h.waiters), key=lambda held: (held.kind, held.name))
        )

    def of(self, names: Sequence[str]) -> Iterator[Held]:
        """Return the state of these names, which have a prefix, as in `lock:x`."""
        return map(Held.model_validate, self._connection(steps.ListNames(names=names), [self._keys.head]))


def batches(connection: StepConnection, key: str) -> list[list[str]]:
    """Return the members of a set, sorted, in batches for a step each; reading and handling them in pieces
    blocks other clients only briefly.
    """
    members: set[str] = set()
    cursor = ""
    while cursor != "0":
        cursor, part = connection.send("SSCAN", key, cursor or "0", "COUNT", AT_ONCE)
        members.update(part)
    names = sorted(members)
    return [names[start : start + AT_ONCE] for start in range(0, len(names), AT_ONCE)]
