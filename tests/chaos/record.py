"""Data of a run in Redis at its end, as the oracle judges it."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path

from redis import Redis

from coordination.backend.keys import Keys
from tests.chaos.ledger import Event, Facts, Line, Record, parse, violations

NO_BODY = ("manual", "land", "revert", "noop")
"""Types of actions that execute no command."""


def judged(redis: Redis, run: str, ledger: Path, namespace: str = "coord") -> list[str]:
    """Return the violations in the run."""
    return violations(lines_of(ledger), record(redis, run, namespace))


def lines_of(ledger: Path) -> list[Line]:
    return parse(ledger.read_text()) if ledger.exists() else []


def record(redis: Redis, run: str, namespace: str = "coord") -> Record:
    keys = Keys(namespace).run(run)
    state, places, children, facts, specs = (
        redis.hgetall(key) for key in (keys.state, keys.descriptor, keys.children, keys.facts, keys.spec)
    )
    before = defaultdict(list)
    for todo, names in children.items():
        for child in names.split():
            before[child].append(todo)
    todos = {
        todo: Facts(
            state=at,
            repo=places[todo].split()[2],
            settled_by=int(facts.get(f"{todo} settled_by", 0)) or None,
            before=tuple(before[todo]),
            has_body=places[todo].split()[3] not in NO_BODY,
            begun=f"{todo} intent" in facts,
            carried=f"{todo} run" in facts,
            handed_back=int(facts.get(f"{todo} handed_back", 0)),
            compensates=_has_body(json.loads(specs[todo])["todo"].get("compensate")),
            accepted=f"{todo} accepted" in facts,
        )
        for todo, at in state.items()
    }
    events = [_event(entry, fields) for entry, fields in redis.xrange(keys.events)]
    return Record(run=run, status=redis.hget(keys.meta, "status") or "unknown", todos=todos, events=events)


def _has_body(action: dict[str, object] | None) -> bool:
    return action is not None and action["type"] not in NO_BODY


def _event(entry: str, fields: dict[str, str]) -> Event:
    return Event(
        at_ms=int(entry.partition("-")[0]),
        what=fields["what"],
        todo=fields.get("todo", ""),
        attempt=int(fields.get("attempt") or 0),
        fence=int(fields.get("fence") or 0),
        undo=fields.get("undo") == "1",
    )
