"""`coord.events`: the events of the namespace, listed and followed. Functions that are called with them are
in
`subscribers.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from datetime import datetime

import redis

from coordination.backend.client import Profile, address_of, reaching
from coordination.errors import Unreachable, UsageError
from coordination.events.kinds import ASKED, GAP, OF_A_RUN, asked_by_name, matching
from coordination.events.records import Event
from coordination.events.stream import EventStream, follow
from coordination.messages.live import BEGINNING
from coordination.text import require_known

LIMIT = 20
AT_ONCE = 1000


class Events:
    """Starts no server. `connect` returns a new client of the one that runs, else None; `repos` the names of
    the repositories of the file, none without a file.
    """

    def __init__(
        self,
        connect: Callable[[Profile], redis.Redis | None],
        namespace: str,
        repos: Callable[[], Collection[str]],
    ) -> None:
        self._connect, self._namespace, self._repos = connect, namespace, repos

    def list(
        self,
        kinds: Collection[str] = (),
        *,
        repo: str | None = None,
        since: str | datetime | None = None,
        limit: int | None = None,
    ) -> list[Event]:
        """Return events, oldest first: after an id, or from a time on, at most `limit`; without `since` the
        latest ones (default: 20). `kinds`: kinds or patterns such as `todo.*`; `repo`: that name this
        repository.

        Raises Unreachable where no server runs; UsageError, NotFound.
        """
        wanted = self._filter(kinds, repo)
        with self._open(Profile.COMMAND) as client, reaching(address_of(client)):
            stream = EventStream(client, self._namespace)
            if since is None:
                return stream.latest(limit or LIMIT, wanted)
            found, position = list[Event](), _position(stream, since)
            while limit is None or len(found) < limit:
                batch = stream.read(position, AT_ONCE, asked=_asks(kinds))
                found += filter(wanted, batch.events)
                if batch.position == position:
                    break
                position = batch.position
        return found if limit is None else found[:limit]

    def follow(
        self, kinds: Collection[str] = (), *, repo: str | None = None, since: str | datetime | None = None
    ) -> Iterator[Event | None]:
        """Yield events for ever, from now on or after `since`, and None after each second without one. Kinds
        that are counted only are written while this goes on, if `kinds` asks for them by name. Raises as
        `list` does, and Unreachable where Redis is away for a minute.
        """
        wanted = self._filter(kinds, repo)
        asked = tuple(kind for one in kinds for kind in matching(one) if asked_by_name(one) and kind in ASKED)
        with self._open(Profile.READER) as reader:
            with reaching(address_of(reader)):
                stream = EventStream(reader, self._namespace)
                position = stream.end() if since is None else _position(stream, since)
            hint = f"then: coord events -f --since {position}"
            for event in follow(reader, self._namespace, position, asked=asked, hint=hint):
                if event is None or wanted(event):
                    yield event

    def position(self) -> str:
        """Return the place behind the newest event, to follow from later. Raises Unreachable."""
        with self._open(Profile.COMMAND) as client, reaching(address_of(client)):
            return EventStream(client, self._namespace).end()

    def _filter(self, kinds: Collection[str], repo: str | None) -> Callable[[Event], bool]:
        known = {kind for one in kinds for kind in matching(one)}
        for one in kinds:
            if {*matching(one)} <= OF_A_RUN.keys():
                raise UsageError(f"{one} is told to those who follow a run", "follow it: coord watch RUN")
        repos = self._repos()
        if repo is not None and repos:
            require_known([repo], repos, "repo", "list-repos")

        def fits(event: Event) -> bool:
            if event.kind == GAP:
                return True
            return (event.kind in known or not known) and (repo is None or repo in event.repos)

        return fits

    def _open(self, profile: Profile) -> redis.Redis:
        client = self._connect(profile)
        if client is None:
            raise Unreachable(
                "no server runs here, and it has the events of runs",
                "start it: coord up; changes of the file: coord history",
            )
        return client


def _asks(kinds: Collection[str]) -> bool:
    return any(map(asked_by_name, kinds))


def _position(stream: EventStream, since: str | datetime) -> str:
    return since or BEGINNING if isinstance(since, str) else stream.position_at(since)
