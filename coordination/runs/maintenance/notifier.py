"""Notify people through the user's `notify_command`, once for each occurrence.

`notice_of` decides which events people must know. A burst of notices becomes one call: a thousand failed runs
must not start a thousand programs.

The worker that leads maintenance reads the namespace's stream of events. The position up to which it has read
and the calls that are still to be made are one Redis hash, which is changed by compare-and-set. States:

* idle: `position` is the place of the last event that was read.
* calling: `calls` (JSON) are to be made by `owner` until `until` (ms); `tries` of the first one have failed,
  and the next is due at `due` (ms).

Invariants:

1. A position moves on only together with the calls that its events make necessary: no crash loses a notice.
2. Only the owner makes calls. Another worker takes over after `until`, when the owner's program has been
   killed: so each call is made once, however many workers there are, and once more only if a worker died, or
   was frozen, while its program ran.
3. A call that has failed `TRIES` times is dropped and logged: one broken program stops nothing.

Without a position (the first worker with the setting), events of the last minute count. A worker that stops
first makes the calls for all events up to then: the server of a sweep stops with it.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
import socket
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any

from redis.exceptions import WatchError

from coordination.errors import UsageError
from coordination.events.kinds import GAP
from coordination.events.records import Event
from coordination.runs.maintenance.program_service import ProgramService
from coordination.runs.records import RunStatus, TodoState, WaitReason
from coordination.terminal import spelled
from coordination.user_program import NotStarted, run

SUMMARY = "summary"
SINGLE = 5
"""Number of notices up to which each has a call of its own."""
NAMED = 20
"""Number of notices that a summary contains."""
LONGEST = 500
"""Characters of a text that is passed on."""

KINDS: Mapping[str, str] = {
    "run.failed": "A run ended as failed.",
    "run.timed_out": "A run exceeded its time limit and is ended.",
    "run.rolling_back": "A run is undone because a todo failed.",
    "run.rollback_failed": "A rollback ended, and something could not be undone.",
    "run.stuck": "Nothing will ever move a run: a fault of coord.",
    "todo.waiting": "A todo or milestone waits for a person: an approval, or a manual todo.",
    "todo.compensation_failed": "A todo could not be undone.",
    "access.break_glass": "A person declared an emergency, and has most rights for one hour.",
    "access.expiring": "A key, credential or certificate expires soon, or cannot be used any more.",
    "health.given_up": "Something has failed, and five recoveries were in vain.",
    "events.gap": "Events were deleted before they were read: notices may be missing.",
}
"""All kinds of notices."""
BREAK_GLASS = "access.break_glass"
NEXT = {
    GAP: "coord history search",
    BREAK_GLASS: "coord event list --kind 'access.*'",
    "access.expiring": "coord doctor",
    "health.given_up": "coord repo health",
}
"""The next command of notices that are about no run."""


@dataclass(frozen=True, kw_only=True)
class Notice:
    event: str
    """One of KINDS."""
    id: str
    """Position of its event in the stream: the same for a call that is repeated."""
    at: str
    run: str = ""
    plan: str = ""
    todo: str = ""
    status: str = ""
    title: str = ""
    """The reason as text, without control characters: people and programs have written it."""
    next: str = ""
    """The next command."""


Call = Mapping[str, Any]
"""The JSON object that a call of the command reads."""


def notice_of(event: Event) -> Notice | None:
    """Return the notice of an event; None for an event of which people need not be notified."""
    kind = _kind(event)
    if kind is None:
        return None
    return Notice(
        event=kind,
        id=event.id,
        at=event.at.isoformat(timespec="milliseconds"),
        run=_text(event.run),
        plan=_text(event.data.get("plan", "")),
        todo=_text(event.todo),
        status=_text(event.data.get("status", "")),
        title=_text(_title(event)),
        next=NEXT.get(kind) or f"coord show-run {_text(event.run)}",
    )


def _kind(event: Event) -> str | None:
    data = event.data
    match event.kind:
        case "run.ended" if data.get("status") == RunStatus.FAILED:
            return "run.failed"
        case "run.ended" if data.get("status") == RunStatus.ROLLBACK_FAILED:
            return "run.rollback_failed"
        case "run.rolling_back" if not event.actor:  # nobody has asked for it
            return "run.rolling_back"
        case "run.timed_out" | "run.stuck" | "access.break_glass" | "access.expiring" | "health.given_up":
            return event.kind
        case "todo.parked" if WaitReason(data.get("reason", "")).asks_person:
            return "todo.waiting"
        case "todo.settled" if data.get("state") == TodoState.COMPENSATION_FAILED:
            return "todo.compensation_failed"
        case "events.gap":
            return GAP
    return None


def _title(event: Event) -> str:
    if event.kind == BREAK_GLASS:
        return f"{event.actor} until {event.data.get('until', '?')}: {event.title}"
    return event.title or event.data.get("why", "") or _counts(event)


def _counts(event: Event) -> str:
    """Return `2 failed, 3 skipped` for the end of a run."""
    ends = (TodoState.FAILED, TodoState.SKIPPED, TodoState.CANCELLED, TodoState.COMPENSATION_FAILED)
    return ", ".join(f"{n} {state}" for state in ends if (n := event.data.get(state, "0")) != "0")


def _text(text: str) -> str:
    return spelled(text[:LONGEST])


def calls_of(notices: Sequence[Notice]) -> list[Call]:
    """Return the calls of the command: one for each notice, or a single one for a burst."""
    if len(notices) <= SINGLE:
        return [asdict(notice) for notice in notices]
    return [
        {
            "event": SUMMARY,
            "id": notices[-1].id,
            "at": notices[-1].at,
            "count": len(notices),
            "events": dict(Counter(notice.event for notice in notices)),
            "notices": [asdict(notice) for notice in notices[:NAMED]],
            "title": _in_words(notices),
            "next": "coord list-runs",
        }
    ]


def _in_words(notices: Iterable[Notice]) -> str:
    counts = Counter(notice.event for notice in notices)
    return ", ".join(f"{n} {kind}" for kind, n in counts.most_common())


def environment_of(call: Call) -> dict[str, str]:
    """Return the main facts as environment variables. Values never contain control characters."""
    names = ("event", "run", "plan", "todo", "status", "title", "next", "at", "id", "count")
    return {f"COORD_{name.upper()}": str(call[name])[:LONGEST] for name in names if call.get(name)}


def line_of(call: Call) -> bytes:
    return json.dumps(call, ensure_ascii=False).encode("utf-8", errors="replace") + b"\n"


HURRY_S = 3.0
"""Longest time of a call once the worker stops."""
TRIES = 3
PAUSES_S = (5.0, 30.0)
"""Pause after the first and the second failure."""
SPARE = timedelta(seconds=15)
"""Time after TIMEOUT and `kill_grace` after which another worker takes the calls over."""
READ_AT_ONCE = 1000
ROUNDS = 20
"""Batches of events that are read before the first call is made."""
FIRST_LOOK = timedelta(minutes=1)

logger = logging.getLogger(__name__)

Fields = Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Claim:
    """The calls that this process makes, with the record in Redis that gives it the right to."""

    record: Fields
    calls: tuple[Call, ...]
    tries: int = 0


class Notifier(ProgramService):
    name = "notifier"
    join_s = 2 * HURRY_S

    @cached_property
    def _owner(self) -> str:
        return f"{socket.gethostname()} {os.getpid()} {secrets.token_hex(4)}"

    def run_once(self) -> int:
        """Make the calls that are due; return how many succeeded."""
        reported = 0
        while (claim := self._claim()) is not None:
            first, *others = claim.calls
            grace_s = self._grace.total_seconds()
            try:
                why = run(
                    self._command,
                    environment_of(first),
                    given=line_of(first),
                    timeout_s=self._timeout.total_seconds(),
                    grace_s=min(grace_s, HURRY_S) if self.stopping.is_set() else grace_s,
                    stopping=self.stopping,
                    stop_within_s=HURRY_S,
                ).failure
            except NotStarted as error:
                why = str(error)
            reported += not why
            if not self._settle(claim, others, why) or (why and self.stopping.is_set()):
                break
        return reported

    def finish(self) -> None:
        """Make the calls for all events up to the stop."""
        self.run_once()

    # The record

    def _claim(self) -> Claim | None:
        """Take the calls that are due, or those of new events; None if another process has them."""
        record, now_ms = self._read()
        if "calls" not in record:
            return self._claim_new(record, now_ms)
        mine = record.get("owner") == self._owner
        if now_ms < _number(record, "due") or (not mine and now_ms < _number(record, "until")):
            return None
        calls = _calls(record["calls"])
        tries = _number(record, "tries")
        if not calls:  # nobody can read them
            self._swap(record, _idle(record))
            return None
        return self._keep(record, Claim(record=record, calls=calls, tries=tries), now_ms)

    def _claim_new(self, record: Fields, now_ms: int) -> Claim | None:
        position, notices = self._new_notices(record, now_ms)
        calls = tuple(calls_of(notices))
        if calls:
            return self._keep(record, Claim(record={"position": position}, calls=calls), now_ms)
        if position != record.get("position"):
            self._swap(record, {"position": position})
        return None

    def _new_notices(self, record: Fields, now_ms: int) -> tuple[str, list[Notice]]:
        """Return the position after the events that were read, and their notices."""
        since = record.get("position") or self._start(now_ms)
        notices: list[Notice] = []
        for _ in range(ROUNDS):
            try:
                batch = self._stream.read(since, READ_AT_ONCE)
            except UsageError:  # not written by coord
                return self._start(now_ms), notices
            notices += filter(None, map(notice_of, batch.events))
            if batch.position == since:
                break
            since = batch.position
        return since, [self._with_plan(notice) for notice in notices]

    def _with_plan(self, notice: Notice) -> Notice:
        if notice.plan or not notice.run:
            return notice
        plan = self._redis.hget(self._keys.run(notice.run).meta, "plan_id")
        return replace(notice, plan=plan or "")

    def _start(self, now_ms: int) -> str:
        moment = datetime.fromtimestamp(now_ms / 1000, UTC) - FIRST_LOOK
        return self._stream.position_at(moment)

    def _keep(self, seen: Fields, claim: Claim, now_ms: int) -> Claim | None:
        """Write the claim; return None if another process was faster."""
        longest = self._timeout + self._grace + SPARE
        record = {
            **_idle(claim.record),
            "calls": json.dumps(list(claim.calls)),
            "owner": self._owner,
            "until": str(now_ms + round(longest / timedelta(milliseconds=1))),
            "tries": str(claim.tries),
        }
        return replace(claim, record=record) if self._swap(seen, record) else None

    def _settle(self, claim: Claim, others: list[Call], why: str) -> bool:
        """Record the result of the first call; return whether others are due now."""
        tries = claim.tries + 1 if why else 0
        event = f"{claim.calls[0].get('event')} of {claim.calls[0].get('run') or 'several runs'}"
        if why and tries < TRIES:
            logger.warning("notify_command failed for %s, and is called again: %s", event, why)
            _, now_ms = self._read()
            due = now_ms + round(1000 * PAUSES_S[min(tries, len(PAUSES_S)) - 1])
            self._swap(claim.record, {**claim.record, "tries": str(tries), "due": str(due)})
            return False
        if why:
            logger.error("notify_command failed %d times, %s is not reported: %s", TRIES, event, why)
        next_calls = {"calls": json.dumps(others), "tries": "0"}
        return self._swap(claim.record, {**claim.record, **next_calls} if others else _idle(claim.record))

    def _read(self) -> tuple[Fields, int]:
        with self._redis.pipeline(transaction=True) as pipeline:
            pipeline.hgetall(self._keys.notices)
            pipeline.time()
            record, (seconds, micros) = pipeline.execute()
        return record, int(seconds) * 1000 + int(micros) // 1000

    def _swap(self, seen: Fields, new: Fields) -> bool:
        """Replace the record if it is still the one that was seen."""
        key = self._keys.notices
        with self._redis.pipeline(transaction=True) as pipeline:
            try:
                pipeline.watch(key)
                if pipeline.hgetall(key) != seen:
                    return False
                pipeline.multi()
                pipeline.delete(key)
                if new:
                    pipeline.hset(key, mapping=dict(new))
                pipeline.execute()
            except WatchError:
                return False
        return True


def _idle(record: Fields) -> Fields:
    return {"position": record["position"]} if "position" in record else {}


def _number(record: Fields, name: str) -> int:
    text = record.get(name, "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 16 else 0


def _calls(text: str) -> tuple[Call, ...]:
    """Return the calls in a text; none if it is invalid, because anybody may have written it to Redis."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return ()
    is_valid = isinstance(found, list) and all(isinstance(call, dict) for call in found)
    return tuple(found) if is_valid else ()
