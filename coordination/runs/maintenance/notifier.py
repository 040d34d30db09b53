"""Notify people through the user's `notify_command`, once for each occurrence.

The worker that leads maintenance reads the namespace's stream of events. What it has read, and the calls that
are still to be made, are one Redis hash, which is changed by compare-and-set. States:

* idle: `position` is the place of the last event that was read.
* calling: `calls` (JSON) are to be made by `owner` until `until` (ms); `tries` of the first one have failed,
  and the next is due at `due` (ms).

Invariants:

1. A position moves on only together with the calls that its events make necessary: no crash loses a notice.
2. Only the owner makes calls. Another worker takes over after `until`, when the owner's program has been
   killed: so each call is made once, however many workers there are, and once more only if a worker died, or
   was frozen, while its program ran.
3. A call that has failed `TRIES` times is dropped, and the log says so: one broken program stops nothing.

Without a position (the first worker with the setting), events of the last minute count. When a worker stops,
it first tells what has just happened: the server of a sweep stops with it.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
import socket
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cached_property

from redis.exceptions import WatchError

from coordination.errors import UsageError
from coordination.runs.maintenance.notices import (
    Call,
    Notice,
    calls_of,
    environment_of,
    line_of,
    notice_of,
)
from coordination.runs.maintenance.program_service import ProgramService
from coordination.user_program import call

HURRY_S = 3.0
"""Time that a call may take once the worker stops."""
TRIES = 3
PAUSES_S = (5.0, 30.0)
"""Pause after the first and the second failure."""
SPARE = timedelta(seconds=15)
"""Time beyond TIMEOUT and `kill_grace` after which another worker takes the calls over."""
READ_AT_ONCE = 1000
ROUNDS = 20
"""Batches of events that are read before the first call is made."""
FIRST_LOOK = timedelta(minutes=1)

logger = logging.getLogger(__name__)

Fields = Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Claim:
    """The calls that this process makes, with the record that says so."""

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
        """Make the calls that are due, if this worker leads; return how many succeeded."""
        return self._tell() if self._leads() else 0

    def finish(self) -> None:
        """Make the calls for all events up to the stop of the worker."""
        self._tell()

    def _tell(self) -> int:
        reported = 0
        while (claim := self._claim()) is not None:
            first, *others = claim.calls
            why = call(
                self._command,
                line_of(first),
                environment_of(first),
                timeout_s=self._timeout.total_seconds(),
                grace_s=min(self._grace.total_seconds(), HURRY_S)
                if self.stopping.is_set()
                else self._grace.total_seconds(),
                stopping=self.stopping,
                stop_within_s=HURRY_S,
            )
            reported += not why
            if not self._settle(claim, others, why) or (why and self.stopping.is_set()):
                break
        return reported

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
        """Return the position behind the events that were read, and their notices."""
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
        """Write the claim; None if another process was faster."""
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
        what = f"{claim.calls[0].get('event')} of {claim.calls[0].get('run') or 'several runs'}"
        if why and tries < TRIES:
            logger.warning("notify_command failed for %s, and is called again: %s", what, why)
            _, now_ms = self._read()
            due = now_ms + round(1000 * PAUSES_S[min(tries, len(PAUSES_S)) - 1])
            self._swap(claim.record, {**claim.record, "tries": str(tries), "due": str(due)})
            return False
        if why:
            logger.error("notify_command failed %d times, %s is not told: %s", TRIES, what, why)
        rest = {"calls": json.dumps(others), "tries": "0"}
        return self._swap(claim.record, {**claim.record, **rest} if others else _idle(claim.record))

    def _read(self) -> tuple[Fields, int]:
        with self._redis.pipeline(transaction=True) as pipeline:
            pipeline.hgetall(self._keys.notices)
            pipeline.time()
            record, (seconds, micros) = pipeline.execute()
        return record, int(seconds) * 1000 + int(micros) // 1000

    def _swap(self, seen: Fields, wanted: Fields) -> bool:
        """Replace the record if it is still the one that was seen."""
        key = self._keys.notices
        with self._redis.pipeline(transaction=True) as pipeline:
            try:
                pipeline.watch(key)
                if pipeline.hgetall(key) != seen:
                    return False
                pipeline.multi()
                pipeline.delete(key)
                if wanted:
                    pipeline.hset(key, mapping=dict(wanted))
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
    known = isinstance(found, list) and all(isinstance(one, dict) for one in found)
    return tuple(found) if known else ()
