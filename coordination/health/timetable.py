"""The timetable of health: when each subject is looked at, which state follows, and when recovery begins.

Pure: callers pass `now` in seconds since 1970. The caller (monitor.py) owns the looks, the breakers and the
recoveries.

States of a subject and their changes::

    healthy ─ failed look ─► degraded ─ all tries failed ─► failed, unreachable ─ begins ─► recovering
       ▲                        │                                 ▲      │                      │
       └────── one success ─────┴─────────────────────────────────┼──────┴──────────────────────┤
                                                                  └────── recovery failed ───────┘

Invariants. 1. A subject has one look at a time. 2. A recovery begins only for a subject that is declared,
connected, down and not in recovery, if its breaker allows it, and at most every 120 s. 3. A subject is given
up after five failed recoveries in a row, until it is healthy again. 4. A subject that is not declared or not
desired any more has no record, so a stop ends its recovery. 5. For one lease after Redis was away, failed
looks are ignored, because workers and supervisors could not report. 6. A clock that is set back
delays no look and no recovery.

Times. A look begins less than EVERY_S after the previous one began, and takes at most LOOK_S. With three
tries 2 s apart, a subject is found failed at most 50 s after a fault.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping

from coordination.breakers.records import BreakerState
from coordination.health.records import DOWN, Health, HealthState, Look, Subject

LOOK_S = 5.0
"""Longest duration of a look in seconds."""
TRIES = 3
TRY_AGAIN_S = 2.0
EVERY_S = 30.0
"""Longest time in seconds between two looks."""
SHARE = 0.93
"""Share of EVERY_S after which the next look is due: the monitor needs time for its own rounds."""
JITTER = 1 / 7
"""Share by which the time between two looks varies."""
RECOVER_EVERY_S = 120.0
"""Shortest time in seconds between the starts of two recoveries."""
GIVE_UP_AFTER = 5
FLAPPING_S = 600.0
CHANGES = 3
"""Number of changes within FLAPPING_S above which a subject is flapping."""


class Timetable:
    """Schedules the looks and recoveries of all subjects, and knows their breakers. Not thread-safe."""

    def __init__(
        self,
        records: Iterable[Health] = (),
        *,
        every_s: float = EVERY_S,
        spread: Callable[[], float] = random.random,
    ) -> None:
        """`records`: those of the former leader; `every_s`: longest time in seconds between two looks;
        `spread` returns a random number between 0 and 1.
        """
        self._every_s = every_s * SHARE
        self._records = {one.id: one for one in records}
        self._looks: dict[str, float] = {}
        """Subject → the time at which its present look began."""
        self._spread = spread
        self._trusted_from = self._lease_s = 0.0

    @property
    def records(self) -> Mapping[str, Health]:
        return self._records

    def watch(self, subjects: Iterable[Subject], now: float) -> None:
        """Set the subjects. New ones are due within the first seconds, others keep their records."""
        before, self._records = self._records, {}
        for subject in subjects:
            known = before.get(subject.id)
            if known is None:
                first = now + self._spread() * self._every_s * JITTER
                known = Health(subject=subject, since=now, next_look=first)
            elif known.subject != subject:
                known = self._reconnected(known, subject, now)
            self._records[subject.id] = known
        self._looks = {name: began for name, began in self._looks.items() if name in self._records}

    def due(self, now: float) -> tuple[str, ...]:
        """Return the subjects to check now; each is due again after `take` got its result."""
        found = tuple(
            one.id
            for one in self._records.values()
            if one.subject.connected and self._is_due(one.next_look, now) and one.id not in self._looks
        )
        self._looks.update(dict.fromkeys(found, now))
        return found

    def redis_was_away(self, now: float, lease_s: float) -> None:
        """Ignore failed looks for one lease, and repeat all looks made while Redis was away."""
        self._trusted_from, self._lease_s = now + lease_s, lease_s
        self._looks.clear()

    def take(self, subject: str, look: Look, began: float, now: float) -> Health | None:
        """Record the result of a look that was due at `began`; return the record. Return None for an outdated
        result: the subject was removed, disconnected or restarted in the meantime.
        """
        record = self._records.get(subject)
        if record is None or self._looks.get(subject) != began:
            return None
        del self._looks[subject]
        if look.healthy:
            record = self._healthy(record, began, now)
        elif self._trusted_from - self._lease_s <= now < self._trusted_from:
            return self._set(record, now, next_look=now + TRY_AGAIN_S)
        else:
            record = self._failed(record, look, began, now)
        facts = {"looked_at": now, "latency_s": look.latency_s, "method": look.method, "why": look.why}
        return self._set(record, now, **facts)

    def breakers(self, states: Mapping[str, BreakerState]) -> None:
        """Set the states of the breakers. `states`: subject → state; other breakers are closed."""
        for subject, record in self._records.items():
            state = states.get(subject, BreakerState.CLOSED)
            if record.breaker is not state:
                self._records[subject] = record.model_copy(update={"breaker": state})

    def may_recover(self, now: float) -> tuple[str, ...]:
        """Return the subjects whose recovery is due and whose breaker was not open when last read."""
        return tuple(
            one.id
            for one in self._records.values()
            if one.recovery_due is not None
            and self._is_due(one.recovery_due, now, RECOVER_EVERY_S)
            and self._recovers(one)
        )

    def recovery_began(self, subject: str, run: str, now: float) -> None:
        record = self._records.get(subject)
        if record is None:
            return
        due = {"recovery_from": now, "recovery_due": now + RECOVER_EVERY_S, "run": run}
        self._set(self._with_verdict(record, HealthState.RECOVERING, now), now, **due)

    def recovery_refused(self, subject: str, now: float, until: float) -> None:
        """Try again later: the breaker is open, or a person changes the service."""
        if record := self._records.get(subject):
            self._set(record, now, recovery_due=max(until, now + TRY_AGAIN_S))

    def under_recovery(self) -> tuple[Health, ...]:
        """Return the records of the subjects that are in recovery."""
        return tuple(one for one in self._records.values() if one.recovery_from is not None)

    def recovery_ended(self, subject: str, why: str, now: float) -> Health | None:
        """Record the end of a recovery. `why`: the reason of its failure, empty if it succeeded. The next
        looks decide whether it has helped. Return the record, None for a removed subject.
        """
        record = self._records.get(subject)
        if record is None or record.recovery_from is None:
            return record
        self._looks.pop(subject, None)
        if not why:
            return self._set(record, now, recovery_from=None, next_look=now, failures=0)
        return self._recovery_failed(record, now, why=why)

    # Rules

    def _is_due(self, at: float, now: float, most_s: float = 0.0) -> bool:
        """Return whether a time is past, or so far ahead that the clock must have been set back."""
        return at <= now or at > now + max(most_s, self._every_s) + TRY_AGAIN_S

    def _recovers(self, record: Health) -> bool:
        return (
            record.subject.recoverable
            and record.subject.connected
            and not record.given_up
            and record.recovery_from is None
            and record.verdict in DOWN
            and record.breaker is not BreakerState.OPEN
        )

    def _healthy(self, record: Health, began: float, now: float) -> Health:
        if record.recovery_from is not None:  # until the restart ends, this may be the old process
            return record.model_copy(update={"next_look": now + TRY_AGAIN_S})
        facts: dict[str, object] = {
            "failures": 0,
            "vain": 0,
            "vain_why": "",
            "given_up": False,
        }
        if record.verdict is HealthState.RECOVERING and record.failed_at is not None:
            took_s = max(0.0, now - record.failed_at)
            facts |= {"recovered": record.recovered + 1, "recovered_at": now, "recovery_s": took_s}
        facts |= {"failed_at": None, "next_look": began + self._pause_s()}
        return self._with_verdict(record, HealthState.HEALTHY, now).model_copy(update=facts)

    def _failed(self, record: Health, look: Look, began: float, now: float) -> Health:
        if record.recovery_from is not None:
            return record.model_copy(update={"next_look": now + TRY_AGAIN_S})
        down = HealthState.FAILED if look.reported else HealthState.UNREACHABLE
        facts: dict[str, object] = {"failures": record.failures + 1, "next_look": began + self._pause_s()}
        was_down = record.verdict in (HealthState.FAILED, HealthState.UNREACHABLE)
        if record.failures + 1 < TRIES and not look.final and not was_down:
            facts["next_look"] = now + TRY_AGAIN_S
            recovering = record.verdict is HealthState.RECOVERING  # the restart ended, the looks decide
            turned = record if recovering else self._with_verdict(record, HealthState.DEGRADED, now)
            return turned.model_copy(update=facts)
        if record.verdict is HealthState.RECOVERING:
            return self._recovery_failed(record.model_copy(update=facts), now)
        if record.failed_at is None:
            # A recovery that helped for a moment only does not make the next one begin earlier.
            facts |= {"failed_at": now, "recovery_due": max(now, record.recovery_due or now)}
        return self._with_verdict(record, down, now).model_copy(update=facts)

    def _recovery_failed(self, record: Health, now: float, **facts: object) -> Health:
        vain, why = record.vain + 1, facts.get("why", "")
        turned = self._with_verdict(record, HealthState.FAILED, now)
        facts |= {"vain": vain, "vain_why": why, "given_up": vain >= GIVE_UP_AFTER, "recovery_from": None}
        return self._set(turned, now, **facts)

    def _reconnected(self, record: Health, subject: Subject, now: float) -> Health:
        """Return the record of a changed subject; one whose connection has changed gets a new record."""
        if subject.connected == record.subject.connected:
            return record.model_copy(update={"subject": subject})
        self._looks.pop(subject.id, None)
        return Health(
            subject=subject,
            since=now,
            next_look=now,
            recovered=record.recovered,
            recovered_at=record.recovered_at,
            recovery_s=record.recovery_s,
        )

    def _with_verdict(self, record: Health, verdict: HealthState, now: float) -> Health:
        if verdict is record.verdict:
            return record
        changes = record.changes
        known = HealthState.UNKNOWN not in (verdict, record.verdict)
        if known and HealthState.HEALTHY in (verdict, record.verdict):
            changes = (*changes, now)
        return record.model_copy(update={"verdict": verdict, "since": now, "changes": changes})

    def _set(self, record: Health, now: float, **facts: object) -> Health:
        changes = tuple(at for at in record.changes if abs(now - at) < FLAPPING_S)
        facts |= {"changes": changes, "flapping": len(changes) > CHANGES}
        self._records[record.id] = record.model_copy(update=facts)
        return self._records[record.id]

    def _pause_s(self) -> float:
        return self._every_s * (1 - JITTER * self._spread())
