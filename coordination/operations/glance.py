"""A look at what runs do, for whoever came for something else: an answer at once, or none.

Nothing is started for it and nobody waits: the embedded server is asked if it runs, a configured Redis for as long as
nobody notices. Whatever is wrong with Redis is said by the commands that need it.

What earlier runs have taught of how long todos take, for whoever looks ahead: an answer at once, or none.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeVar

from coordination.backend.daemon import Daemon
from coordination.errors import CoordinationError
from coordination.operations.folder import state_folder
from coordination.settings import Settings

if TYPE_CHECKING:
    from coordination.planner.graph import PlanGraph
    from coordination.runs.views.live import Live

A = TypeVar("A")
PATIENCE = timedelta(seconds=0.2)


@dataclass(frozen=True, kw_only=True)
class Seen(Generic[A]):
    answer: A


def glance(
    ecosystem: Path, settings: Settings, question: Callable[[Live], A], patience: timedelta = PATIENCE
) -> Seen[A] | None:
    """What was seen; None where there is no Redis, or it did not answer in time."""
    try:
        url = running_redis(ecosystem, settings)
    except (CoordinationError, OSError):
        return None
    return None if url is None else _asked(url, settings, question, patience)


def running_redis(ecosystem: Path, settings: Settings) -> str | None:
    """The Redis that is configured, or the embedded server where it runs: nothing is started."""
    if settings.redis_url:
        return settings.redis_url
    state = state_folder(ecosystem)
    if Daemon(state, "server").running() is None:
        return None  # known without importing a client, which takes 80 ms
    from coordination.backend.embedded import EmbeddedServer

    return EmbeddedServer(state, settings).url


def _asked(url: str, settings: Settings, question: Callable[[Live], A], patience: timedelta) -> Seen[A] | None:
    """In a thread, since looking up a host's name cannot be given up; it ends with the process."""
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
            return  # away, not allowed, or damaged: nothing was seen

    thread = threading.Thread(target=ask, name="glance", daemon=True)
    thread.start()
    thread.join(patience.total_seconds())
    return next(iter(seen), None)


def knowing(ecosystem: Path, settings: Settings, graph: PlanGraph) -> PlanGraph:
    """The graph as it is where all of it is estimated, or no Redis answers."""
    if not graph.unknown:
        return graph
    seen = glance(ecosystem, settings, lambda live: live.learned(graph.unknown))
    return graph.with_learned(seen.answer) if seen else graph
