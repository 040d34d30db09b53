"""Quick queries about runs, for commands that work without the answer.

They start no process: a running embedded server, or the configured Redis, gets a fraction of a second to
answer. The commands that need Redis report its problems.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeVar

from coordination.backend.daemon import Daemon
from coordination.errors import CoordinationError
from coordination.operations.state import state_folder
from coordination.settings import Settings

if TYPE_CHECKING:
    from coordination.planner.hours import Group
    from coordination.runs.views.live import Live

A = TypeVar("A")
PATIENCE = timedelta(seconds=0.2)


@dataclass(frozen=True, kw_only=True)
class Seen(Generic[A]):
    answer: A


def query_quickly(
    ecosystem: Path, settings: Settings, question: Callable[[Live], A], patience: timedelta = PATIENCE
) -> Seen[A] | None:
    """Return the answer; None if there is no Redis, or it did not answer in time."""
    try:
        url = running_redis(ecosystem, settings)
    except (CoordinationError, OSError):
        return None
    return None if url is None else _query(url, settings, question, patience)


def running_redis(ecosystem: Path, settings: Settings) -> str | None:
    """Return the URL of the configured Redis, or of the embedded server if it runs."""
    if settings.redis_url:
        return settings.redis_url
    state = state_folder(ecosystem)
    if Daemon(state, "server").running() is None:
        return None  # a Redis client, whose import takes 80 ms, is not needed
    from coordination.backend.embedded import EmbeddedServer

    return EmbeddedServer(state, settings).url


def _query(
    url: str, settings: Settings, question: Callable[[Live], A], patience: timedelta
) -> Seen[A] | None:
    """Query in a daemon thread, because looking up a host name cannot be cancelled."""
    from redis import RedisError

    from coordination.backend.client import Profile, connect
    from coordination.backend.keys import Keys
    from coordination.runs.views.live import Live

    seen: list[Seen[A]] = []

    def ask() -> None:
        try:
            with connect(url, Profile.COMMAND, patience) as redis:
                seen.append(Seen(answer=question(Live(redis, Keys(settings.namespace)))))
        except (RedisError, CoordinationError, OSError, LookupError, TypeError, ValueError):
            return  # unreachable, not permitted, or damaged

    thread = threading.Thread(target=ask, name="quick-query", daemon=True)
    thread.start()
    thread.join(patience.total_seconds())
    return next(iter(seen), None)


def learned_durations(
    ecosystem: Path, settings: Settings, groups: Collection[Group]
) -> Mapping[Group, float] | None:
    """Return the median hours of groups of similar todos; None if no Redis answers."""
    seen = query_quickly(ecosystem, settings, lambda live: live.learned(groups))
    return seen.answer if seen else None
