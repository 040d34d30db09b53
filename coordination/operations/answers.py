"""What the fleet asks the running server: does a worker answer, which runs are under way."""

from __future__ import annotations

from contextlib import closing

from coordination.backend.client import Profile, connect, reaching
from coordination.backend.keys import Keys
from coordination.errors import Unreachable
from coordination.runs.presence import Presence
from coordination.runs.store import RunStore


def worker_answers(namespace: str, url: str, pid: int) -> bool:
    """Whether the worker of this pid has been heard of lately."""
    with closing(connect(url, Profile.COMMAND)) as client, reaching(url):
        return Presence(client, Keys(namespace)).answers(pid)


def live_runs(namespace: str, url: str) -> tuple[str, ...]:
    """The runs that have not ended; none when the server does not say."""
    with closing(connect(url, Profile.COMMAND)) as client:
        try:
            with reaching(url):
                return tuple(RunStore(client, namespace).live_runs())
        except Unreachable:
            return ()
