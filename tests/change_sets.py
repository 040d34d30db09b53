"""Records of change sets, as the steps write them."""

from __future__ import annotations

from redis import Redis

from coordination.backend.keys import Keys
from coordination.branches import set_branch

TIP, BASE = "a" * 40, "b" * 40


def record(
    redis: Redis,
    name: str,
    repo: str,
    *,
    namespace: str = "test",
    todos: str = "",
    run: str = "20260101-000000-aaaa",
    **facts: str,
) -> None:
    """Write a change set in one repository. `todos`: names, separated by blanks."""
    keys = Keys(namespace)
    figures = dict(zip(("commits", "files", "added", "removed"), ["2", "3", "10", "4"], strict=True))
    places = {"branch": set_branch(name, "coord/"), "base": BASE, "tip": TIP, "host": "host-1"}
    known = {**places, "run": run, "runs": run, **figures, **facts}
    redis.hset(keys.changes(name), mapping={f"{fact} {repo}": value for fact, value in known.items()})
    for todo in todos.split():
        redis.hset(keys.changes(name), f"todo {todo}", f"{run} {repo}")
    redis.sadd(keys.change_sets, name)
