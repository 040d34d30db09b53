"""The record of an event, and the conversion of stream entries to it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from coordination.backend.steps.namespace import AppendEvent
from coordination.declared import Option
from coordination.errors import UsageError

BEGINNING = "0-0"
"""The position before the first entry of a stream."""
POSITION = re.compile(r"(\d{1,17})-(\d{1,17})")
LATEST_MS = 253_402_300_799_000
"""The last second of the year 9999, in ms."""
_TIME_MS = re.compile(r"[0-9]{1,15}")
_KIND = re.compile(r"[a-z]+(_[a-z]+)*\.[a-z]+(_[a-z]+)*")

Fields = Mapping[str, str]

EVENTS_OF_REPO = Option("Select events that concern this repository.", completes="repo_names")


@dataclass(frozen=True, kw_only=True)
class Event:
    """An event. `kind` is `noun.verb`, one of `kinds.KINDS`; `subject` is the id of the record that it is
    about.

    Texts come from people and programs: show them with `terminal.spelled` or `tables.plain`.
    """

    id: str
    """Its place in the stream, to continue from."""
    at: datetime
    """Time by the server's clock."""
    kind: str
    subject: str = ""
    run: str = ""
    actor: str = ""
    """Person (`user@host`), worker, or empty: coord itself."""
    repos: tuple[str, ...] = ()
    title: str = ""
    data: Fields = field(default_factory=dict)
    entry: str = ""
    """The id of the same event in the run's own stream."""

    @property
    def name(self) -> str:
        return self.kind

    @property
    def todo(self) -> str:
        """The todo that the event is about, or empty."""
        return self.subject if self.kind.startswith("todo.") else ""

    @property
    def facts(self) -> Fields:
        return self.data


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Events in order, and the position after them and after entries that are no events."""

    events: tuple[Event, ...]
    position: str


def event_of(entry_id: str, fields: Fields) -> Event | None:
    """Return the event of an entry; None if it is not one: other programs can write to Redis, too."""
    kind, at = fields.get("kind", ""), fields.get("at", "")
    if not _KIND.fullmatch(kind) or not _TIME_MS.fullmatch(at) or int(at) > LATEST_MS:
        return None
    data = dict(fields)
    for name in ("kind", "at"):
        del data[name]
    return Event(
        id=entry_id,
        at=datetime.fromtimestamp(int(at) / 1000, UTC),
        kind=kind,
        subject=data.pop("subject", ""),
        run=data.pop("run", ""),
        actor=data.pop("actor", ""),
        repos=tuple(data.pop("repos", "").split()),
        title=data.pop("title", ""),
        entry=entry if POSITION.fullmatch(entry := data.pop("entry", "")) else "",
        data=data,
    )


def place(position: str) -> tuple[int, int]:
    """Return a position as numbers that can be compared. Raises UsageError."""
    found = POSITION.fullmatch(position)
    if found is None:
        raise UsageError(
            f"{position!r:.100} is not the id of an event",
            "use an id that coord has given, like 1763870000000-0",
        )
    return int(found[1]), int(found[2])


def append_step(
    kind: str,
    subject: str = "",
    *,
    run: str = "",
    actor: str = "",
    repos: Iterable[str] = (),
    title: str = "",
    data: Fields | None = None,
) -> AppendEvent:
    """Return the step that writes an event. Fields without a value are left out."""
    own = {"run": run, "actor": actor, "repos": " ".join(repos), "title": title}
    fields = {**(data or {}), **{name: value for name, value in own.items() if value}}
    return AppendEvent(kind=kind, subject=subject, fields=fields.items())


LONGEST_ARGUMENT = 300
"""Characters of an argument of a command in its event."""


def one_line(value: object) -> str:
    """Return an argument as the text of an event: one line, not longer than others may read."""
    if isinstance(value, str):
        text = value
    elif isinstance(value, Iterable):
        text = " ".join(map(str, value))
    else:
        text = str(value)
    return text.partition("\n")[0][:LONGEST_ARGUMENT]
