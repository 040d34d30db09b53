"""`coord.events`: the events of the namespace, listed and followed. `Subscribers`: functions of a script that
are called with events, in a thread of their own, and while a run is waited for.

The thread reads the stream of the namespace; that is the only queue, so a slow function costs no memory here
and delays nothing but the others of the same script. Functions are called one at a time, in the order of the
events.

An event of a run is taken from the run's own stream, where the one of the namespace points: `Run.wait` reads
that, too, and a subscriber gets each event once, whichever of the two comes first.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from typing import Annotated

import redis

from coordination.backend.client import Profile, address_of, reaching
from coordination.backend.keys import Keys
from coordination.background import BackgroundService
from coordination.declared import Effect, Option, operation
from coordination.errors import CoordinationError, Unreachable, UsageError
from coordination.events.kinds import ASKED, GAP, OF_A_RUN, asked_by_name, matching
from coordination.events.records import BEGINNING, EVENTS_OF_REPO, Event, place
from coordination.events.stream import EventStream, Follower, follow
from coordination.runs.views import run_events
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

    @operation("event.list", Effect.READS, tool=False)
    def list(
        self,
        kinds: Annotated[
            Collection[str],
            Option(
                "Select a kind such as todo.settled, or a pattern such as 'run.*'.",
                flag="--kind",
                completes="stream_kinds",
            ),
        ] = (),
        *,
        repo: Annotated[str | None, EVENTS_OF_REPO] = None,
        since: Annotated[
            str | datetime | None,
            Option("Select events from this time on, or after the event of this id.", metavar="TIME|ID"),
        ] = None,
        limit: Annotated[
            int | None,
            Option(
                "List at most so many (default: the latest 20; all with --since or --follow).",
                metavar="N",
                least=1,
            ),
        ] = None,
    ) -> list[Event]:
        """List the events of runs, todos, locks, circuit breakers and commands, oldest first.

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
        that are counted only are written during the call if `kinds` names them. Raises as
        `list` does, and Unreachable where Redis is away for a minute.
        """
        wanted = self._filter(kinds, repo)
        asked = tuple(kind for one in kinds for kind in matching(one) if asked_by_name(one) and kind in ASKED)
        with self._open(Profile.READER) as reader:
            with reaching(address_of(reader)):
                stream = EventStream(reader, self._namespace)
                position = stream.end() if since is None else _position(stream, since)
            hint = f"then: coord event list -f --since {position}"
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
                raise UsageError(f"{one} is only in the events of one run", "follow it: coord watch RUN")
        repos = self._repos()
        if repo is not None and repos:
            require_known([repo], repos, "repo", "repo list")

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
                "start it: coord up; changes of the file: coord history search",
            )
        return client


def _asks(kinds: Collection[str]) -> bool:
    return any(map(asked_by_name, kinds))


def _position(stream: EventStream, since: str | datetime) -> str:
    return since or BEGINNING if isinstance(since, str) else stream.position_at(since)


LOOK_EVERY_S = 0.3
"""Pause between two looks for a server, while none runs."""
AGAIN_AFTER_S = 1.0
MOST_RUNS = 1000
"""Runs of which a subscriber's place is remembered."""

Subscriber = Callable[[Event], object]
logger = logging.getLogger(__name__)


@dataclass
class Subscription:
    pattern: str
    subscriber: Subscriber
    position: str | datetime
    """Its place in the stream of the namespace; a time until a server was found."""
    is_new: bool
    """It gets events from now on; of a run that the script has started or looked up, earlier ones first."""
    asked: tuple[str, ...]
    """Counted kinds that the pattern asks for by name."""
    delivered: OrderedDict[str, tuple[str, str]] = field(default_factory=OrderedDict)
    """Run → the first and last entry of its own stream that it was called with, or that it did not want."""

    def is_news(self, event: Event, read_from: str) -> bool:
        """Return whether an event that was read from a place on is news, and advance to its place. A gap is
        news for a subscriber that has read up to there. It sets back a subscriber whose place is behind the
        end of the stream.
        """
        here, there = place(str(self.position)), place(event.id)
        if event.kind == GAP and there < place(read_from):
            news = here > there
        elif event.kind == GAP:
            news = here == there
        else:
            news = here < there
        if news:
            self.position = event.id
        return news and (event.kind not in ASKED or event.kind in self.asked)

    def is_news_of_run(self, event: Event, since: str | None = None) -> bool:
        """Return whether an event of a run's own stream is news. `since`: the first entry that may be, unless
        it knows the run; None: earlier ones are news, too.
        """
        first, last = self.delivered.get(event.run, (None, None))
        if first is None or last is None:
            if since is not None and place(event.id) < place(since):
                return False
            self._remember(event.run, event.id, event.id)
        elif place(event.id) > place(last):
            self._remember(event.run, first, event.id)
        elif since is not None or place(event.id) >= place(first):
            return False
        return True

    def _remember(self, run: str, first: str, last: str) -> None:
        self.delivered[run] = first, last
        self.delivered.move_to_end(run)
        while len(self.delivered) > MOST_RUNS:
            self.delivered.popitem(last=False)

    def call(self, event: Event) -> None:
        """Call the function if the pattern fits. An error is logged; other subscribers and the run
        continue.
        """
        if fnmatchcase(event.kind, self.pattern):
            try:
                self.subscriber(event)
            except Exception:
                logger.exception("a subscriber to %s failed", self.pattern)


class Subscribers(BackgroundService):
    """`connect` returns a new client of the server, or None while none runs; it starts none. `handles`: the
    runs that the script has started or looked up.
    """

    name = "coord subscribers"
    interval_s = 0.0
    first_at_once = True

    def __init__(
        self,
        connect: Callable[[Profile], redis.Redis | None],
        namespace: Callable[[], str],
        handles: Collection[str],
    ) -> None:
        super().__init__()
        self._handles = handles
        self._connect, self._namespace = connect, namespace
        self._all: tuple[Subscription, ...] = ()
        self._adding, self._calling = threading.Lock(), threading.RLock()
        self._reader: redis.Redis | None = None
        self._follower: Follower | None = None

    def on(self, pattern: str, subscriber: Subscriber, since: str | datetime | None = None) -> None:
        """Subscribe to a kind, or to several: `todo.*`, `*`. `since`: an event's id or a time, to get earlier
        events first. Raises UsageError for an unknown kind or id.
        """
        kinds = matching(pattern)
        asked = tuple(kind for kind in kinds if kind in ASKED) if asked_by_name(pattern) else ()
        if isinstance(since, str):
            place(since)
        end = self._end(asked)
        made = Subscription(pattern, subscriber, end if since is None else since, since is None, asked)
        with self._adding:
            self._all = (*self._all, made)
            self.start()

    def tell(self, event: Event) -> None:
        """Call the subscribers with an event of a run that is waited for, unless they had it."""
        with self._calling:
            for one in self._all:
                if one.is_news_of_run(event):
                    one.call(event)

    def run_once(self) -> None:
        """Read what is new, at most for a second, and call the subscribers."""
        follower = self._follower or self._followed()
        if follower is None:
            self.stopping.wait(LOOK_EVERY_S)
            return
        before = self._resolved(follower.stream)
        since = follower.position = min((str(one.position) for one in before), key=place)
        follower.asked = tuple({kind for one in before for kind in one.asked})
        events = follower.read()
        # also those that came meanwhile, unless they need earlier events first
        now = self._resolved(follower.stream)
        subscriptions = [one for one in now if place(str(one.position)) >= place(since)]
        for event in events:
            with self._calling:
                if self.stopping.is_set():
                    return
                self._pass_on(event, [one for one in subscriptions if one.is_news(event, since)])
        for one in subscriptions:
            one.position = max(str(one.position), follower.position, key=place)

    def failed(self, error: Exception) -> float:
        self._disconnect()
        if self.stopping.is_set():
            return AGAIN_AFTER_S
        if isinstance(error, Unreachable | redis.RedisError | OSError):
            logger.info("subscribers wait for Redis: %s", error)
        else:
            super().failed(error)
        return AGAIN_AFTER_S

    def interrupt(self) -> None:
        if (reader := self._reader) is not None:
            with suppress(redis.RedisError, OSError):
                reader.connection_pool.disconnect()

    def finish(self) -> None:
        self._disconnect()

    def _pass_on(self, event: Event, wanting: list[Subscription]) -> None:
        entries = self._entries(event, wanting) if event.entry and event.run and wanting else []
        whole = event.run in self._handles
        for entry in entries:
            for one in wanting:
                if one.is_news_of_run(entry, since=BEGINNING if whole and one.is_new else event.entry):
                    one.call(entry)
        if not entries:
            for one in wanting:
                one.call(event)

    def _entries(self, event: Event, wanting: list[Subscription]) -> list[Event]:
        """Return the entries of the run's own stream that a subscriber may lack, up to that of the event."""
        assert self._reader is not None
        known = [one.delivered[event.run][1] for one in wanting if event.run in one.delivered]
        begin = min((*known, event.entry), key=place)
        if event.run in self._handles and any(
            one.is_new and event.run not in one.delivered for one in wanting
        ):
            begin = BEGINNING
        found = self._reader.xrange(Keys(self._namespace()).run(event.run).events, begin, event.entry)
        made = [run_event for entry in found if (run_event := run_events.event_of(*entry)) is not None]
        return [run_event.as_event(event.run) for run_event in made]

    def _end(self, asked: Collection[str]) -> str | datetime:
        """Return the present end of the stream, and ask for counted kinds from then on; without a server
        return the time.
        """
        now = datetime.now(UTC)
        try:
            if (client := self._connect(Profile.COMMAND)) is None:
                return now
            with client:
                stream = EventStream(client, self._namespace())
                if asked:
                    stream.ask(asked)
                return stream.end()
        except (CoordinationError, redis.RedisError, OSError):
            return now

    def _resolved(self, stream: EventStream) -> tuple[Subscription, ...]:
        """Return the subscriptions, each with a position in the stream."""
        found = self._all
        for one in found:
            if isinstance(one.position, datetime):
                one.position = stream.position_at(one.position)
        return found

    def _followed(self) -> Follower | None:
        self._reader = self._connect(Profile.READER)
        self._follower = self._reader and Follower(self._reader, self._namespace())
        return self._follower

    def _disconnect(self) -> None:
        reader, self._reader, self._follower = self._reader, None, None
        if reader is not None:
            with suppress(redis.RedisError, OSError):
                reader.close()
