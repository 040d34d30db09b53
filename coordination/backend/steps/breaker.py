"""Declares the steps in lua/breaker."""

# No `from __future__ import annotations`: Step reads the types of the fields.
import json
from typing import Any, NamedTuple, NotRequired, TypedDict

from coordination.backend.steps.step import OOM, READS, Step, TextStep, checked, text


class Prober(TypedDict):
    """The process that probes; its end ends the probe."""

    probe: str
    """Id of the call."""
    host: str
    pid: int
    started: str


class Access(NamedTuple):
    word: str
    """`closed`, `probe`, `open` or `half-open`."""
    ends_ms: int | None = None
    """Until when it is open or half-open."""
    why: str = ""
    prober: Prober | None = None
    """None if it is not known: a todo, or a process of an earlier version of coord."""


class Allow(Step[Access], name="breaker/allow"):
    breaker: str
    who: str
    by: str
    ttl_ms: int
    host: str
    """With `pid` and `started`: the process whose end ends the probe; empty: the probe outlives it."""
    pid: int
    started: str

    def read(self, reply: Any) -> Access:
        word, *refusal = checked(list, reply)
        if not refusal:
            return Access(word)
        ends_ms, why, prober = refusal
        return Access(word, int(ends_ms), why, json.loads(prober) if prober else None)


class Record(TextStep, name="breaker/record", flags=OOM):
    breaker: str
    who: str
    outcome: str
    why: str
    failures: int
    window_ms: int
    open_ms: int


class Reset(TextStep, name="breaker/reset"):
    breaker: str
    actor: str


class ListedBreaker(TypedDict):
    """Times are in ms, as text; empty if there is none."""

    name: str
    state: str
    failures: int
    threshold: int
    behind: int
    window_ms: str
    why: str
    failed_at: str
    since: str
    opened_at: str
    until: str
    probe_by: str
    prober: NotRequired[Prober]


class ListedBreakers(NamedTuple):
    now_ms: int
    breakers: list[ListedBreaker]


class Breakers(Step[ListedBreakers], name="breaker/list", flags=READS):
    def read(self, reply: Any) -> ListedBreakers:
        found = json.loads(text(reply))
        return ListedBreakers(int(found["now"]), found["breakers"])
