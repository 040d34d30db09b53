"""Release of a lock by a person: the holder learns of it at its next renewal, and the release is recorded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime

from pydantic import BaseModel, ConfigDict

from coordination.backend.keys import LockKeys
from coordination.backend.step_connection import StepConnection
from coordination.backend.steps import lock as steps
from coordination.errors import Conflict, NotFound
from coordination.locks.listing import LOCK, Held, Holder, Listing
from coordination.locks.request import check_name, holder_words
from coordination.text import quoted

KINDS = (LOCK, "resource", "seat", "land")


class Released(BaseModel):
    """A lock that was released by force."""

    model_config = ConfigDict(frozen=True)

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
    def __init__(self, line: StepConnection, keys: LockKeys) -> None:
        self._line = line
        self._keys = keys
        self._listing = Listing(line, keys)

    def find(self, name: str, *, force: bool = False) -> Held:
        """Return what is held under the name: the lock `name`, else `resource:x` if it is written so.

        Raises NotFound, and Conflict for a run's todo. Without `force`, raises Conflict unless the holder is
        known to be dead, which can only be determined for processes of this host.
        """
        kind, _, named = name.partition(":")
        check_name("lock's name", named if kind in KINDS else name)
        typed = [name] if kind in KINDS else []
        found = next((held for held in self._listing.of([f"{LOCK}:{name}", *typed]) if held.holders), None)
        if found is None:
            raise NotFound(f"{name} is not held", self._not_held_hint(name))
        for holder in found.holders:
            _refuse_todo(found, holder)
            if not force and holder.alive is not False:
                raise Conflict(
                    f"{found.name} is held by {holder.who}, {_liveness_text(holder)}",
                    "to release it anyway: --force",
                )
        return found

    def _not_held_hint(self, name: str) -> str:
        resource = f"resource:{name}"
        if any(held.holders for held in self._listing.of([resource])):
            return f"for the resource of that name: coord release-lock {quoted(resource)}"
        return "list what is held: coord list-locks --resources"

    def release(self, found: Held, actor: str) -> None:
        """Release the lock from the holders that `find` found. Raises NotFound if none of them holds it any
        more.
        """
        if not self._break(found, actor, found.holders):
            raise NotFound(
                f"the holder of {found.name} has released it in the meantime",
                "see who holds it now: coord list-locks",
            )

    def of_owner(self, owner: str, *, force: bool = False) -> tuple[Held, ...]:
        """Return what requests with this label hold, without other holders and without runs' todos.

        Raises NotFound if there is nothing. Without `force`, raises Conflict unless the holders are known to
        be dead.
        """
        check_name("owner's label", owner)
        found = []
        for held in self._listing.all():
            holders = tuple(
                holder for holder in held.holders if holder.kind != "todo" and holder.label == owner
            )
            if living := [holder for holder in holders if not force and holder.alive is not False]:
                raise Conflict(
                    f"{held.name} is held by {living[0].who}, {_liveness_text(living[0])}",
                    "to release it anyway: --force",
                )
            if holders:
                found.append(held.model_copy(update={"holders": holders}))
        if not found:
            raise NotFound(f"{owner} holds nothing", "list all holders: coord list-locks --resources")
        return tuple(found)

    def release_all(self, found: Sequence[Held], actor: str) -> tuple[Held, ...]:
        """Release all names of each request in one step; return those that were still held."""
        gone: set[str] = set()
        for held in found:
            for holder in held.holders:
                if holder.id not in gone and self._break(held, actor, [holder]):
                    gone.add(holder.id)
        return tuple(held for held in found if any(holder.id in gone for holder in held.holders))

    def _break(self, held: Held, actor: str, holders: Sequence[Holder]) -> int:
        """Release these holders; return the number of requests that still held the name."""
        step = steps.Break(what=held.what, actor=actor, requests=[holder.id for holder in holders])
        return self._line(step, [self._keys.head])

    def released(self, limit: int = 100) -> tuple[Released, ...]:
        """Return the forced releases, latest first."""
        entries = self._line.send("XREVRANGE", self._keys.released, "+", "-", "COUNT", limit)
        return tuple(_released(moment, dict(_pairs(words))) for moment, words in entries)


def _refuse_todo(found: Held, holder: Holder) -> None:
    if holder.kind == "todo":
        run = holder.id.partition(" ")[0]
        raise Conflict(
            f"{found.name} is held by {holder.who}", f"the todo releases it when it ends: coord cancel {run}"
        )


def _liveness_text(holder: Holder) -> str:
    return "which runs" if holder.alive else "which may run"


def _pairs(words: Sequence[str]) -> Iterator[tuple[str, str]]:
    return zip(words[::2], words[1::2], strict=True)


def _released(moment: str, words: Mapping[str, str]) -> Released:
    since = words.get("since")
    return Released(
        at=datetime.fromtimestamp(int(moment.partition("-")[0]) / 1000, UTC),
        what=words["name"],
        by=words["by"],
        who=holder_words(words),
        host=words.get("host", ""),
        pid=int(words["pid"]) if words.get("pid") else None,
        label=words.get("label", ""),
        fence=int(words["fence"]) if words.get("fence") else None,
        since=datetime.fromtimestamp(int(since) / 1000, UTC) if since else None,
    )
