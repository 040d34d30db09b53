"""The connected clients of a gateway, and the threads that wake them.

One thread reads a subscription in Redis: new messages, published events, tokens that ended. Another thread
follows the stream of coord's events. After an outage of Redis the gateway looks up what they have missed;
topics.py repeats earlier events.
"""

from __future__ import annotations

import asyncio
import logging

import redis

from coordination.backend.keys import Keys
from coordination.background import BackgroundService
from coordination.errors import Unreachable, Unusable
from coordination.events.kinds import GAP
from coordination.events.stream import EventStream, Follower
from coordination.gateway import frames
from coordination.gateway.access import News, Tokens
from coordination.gateway.limits import POLICY, TAKEN_OVER
from coordination.gateway.redis_executor import RedisExecutor
from coordination.gateway.session import Session
from coordination.gateway.topics import GatewayTopics, topic_event
from coordination.messages.topics import Event, is_of_coord, read_event

CHECKED_EVERY_S = 30.0
LOOK_EVERY_S = 1.0
AGAIN_AFTER_S = 1.0
REFUSED_AGAIN_AFTER_S = 60.0

logger = logging.getLogger(__name__)


class Clients:
    """Connected clients of one event loop; the latest session of a recipient ends its earlier ones."""

    def __init__(self, executor: RedisExecutor, tokens: Tokens, topics: GatewayTopics) -> None:
        self._loop = asyncio.get_running_loop()
        self._executor, self._tokens = executor, tokens
        self._sessions: dict[str, Session] = {}
        self._entered: set[str] = set()
        """Ids of sessions of this gateway whose own news have not arrived here yet."""
        self.topics = topics
        self._to_check: asyncio.Queue[str | None] = asyncio.Queue()

    def __len__(self) -> int:
        return len(self._sessions)

    async def enter(self, session: Session) -> None:
        """Register a session after the recipient's former one has ended and returned its messages."""
        while before := self._sessions.get(session.recipient):
            before.leave(TAKEN_OVER)
            await before.ended.wait()
            self.exit(before)
        self._sessions[session.recipient] = session
        self._entered.add(session.id)
        news = News(recipient=session.recipient, but=session.id)
        await self._executor.do(lambda: self._tokens.tell(news), session.redis_is_away)

    def exit(self, session: Session) -> None:
        if self._sessions.get(session.recipient) is session:
            del self._sessions[session.recipient]

    # Called in the threads of the listeners

    def mail(self, recipient: str) -> None:
        if session := self._sessions.get(recipient):
            self._loop.call_soon_threadsafe(session.wake)

    def news(self, news: News) -> None:
        self._loop.call_soon_threadsafe(self._handle_news, news)

    def event(self, event: Event) -> None:
        self._loop.call_soon_threadsafe(self.topics.hear, event.topic, frames.event(event))

    def event_of_coord(self, event: Event) -> None:
        if self.wants_events:
            self._loop.call_soon_threadsafe(
                self.topics.hear_of_coord, event.id, event.topic, frames.event(event)
            )

    def events_passed(self, position: str) -> None:
        """Record that all events of coord up to the position were passed on."""
        self._loop.call_soon_threadsafe(setattr, self.topics, "position", position)

    def missed_events(self) -> None:
        self._loop.call_soon_threadsafe(self._send_gap)

    @property
    def wants_events(self) -> bool:
        return bool(self.topics.patterns)

    def resubscribed(self) -> None:
        self._loop.call_soon_threadsafe(self._wake_all)

    # Called in the event loop

    def _handle_news(self, news: News) -> None:
        if news.but in self._entered:  # sent by `enter`, which has ended the former session here
            self._entered.discard(news.but)
            return
        session = self._sessions.get(news.recipient)
        if session is None or session.id == news.but:
            return
        if news.but:
            session.leave(TAKEN_OVER)
        else:
            self._to_check.put_nowait(news.recipient)

    def _send_gap(self) -> None:
        self.topics.position = ""
        for session in self._sessions.values():
            session.topics.gap(of_coord=True)

    def _wake_all(self) -> None:
        self._entered.clear()  # earlier news will not arrive any more
        self._to_check.put_nowait(None)
        for session in self._sessions.values():
            session.wake()
            session.topics.gap(of_coord=False)

    async def check_tokens(self) -> None:
        """Check tokens for ever: a token that may have ended at once, all tokens periodically."""
        while True:
            recipient_to_check: str | None = None
            try:
                async with asyncio.timeout(CHECKED_EVERY_S):
                    recipient_to_check = await self._to_check.get()
            except TimeoutError:
                pass
            for session in [
                one for one in self._sessions.values() if recipient_to_check in (None, one.recipient)
            ]:
                await self._check(session)

    async def _check(self, session: Session) -> None:
        try:
            recipient = await self._executor.once(lambda: self._tokens.recipient_of(session.token))
        except Unreachable:
            return  # the next periodic check decides
        if recipient != session.recipient:
            session.leave(POLICY)


class Listener(BackgroundService):
    """Reads the subscription; each round blocks until a message arrives, at most `LOOK_EVERY_S`.

    `pubsub_redis` must block without a timeout of its own, and decode responses.
    """

    name = "gateway listener"
    interval_s = 0.0
    first_at_once = True

    def __init__(self, pubsub_redis: redis.Redis, keys: Keys, clients: Clients) -> None:
        super().__init__()
        self._clients = clients
        self._news = keys.gateway.news
        self._mail, self._live = keys.messages.mail(""), keys.messages.live("")
        self._subscription = pubsub_redis.pubsub(ignore_subscribe_messages=True)

    def run_once(self) -> bool:
        """Wait for a message and pass it on; return whether one arrived."""
        subscription = self._subscription
        if not subscription.subscribed:
            subscription.psubscribe(f"{self._mail}*", f"{self._live}*")
            subscription.subscribe(self._news)
            self._clients.resubscribed()
        message = subscription.get_message(timeout=LOOK_EVERY_S)
        if message is None:
            return False
        if message["channel"] == self._news:
            self._process_news(message["data"])
        elif message["channel"].startswith(self._live):
            self._process_event(message["channel"].removeprefix(self._live), message["data"])
        else:
            self._clients.mail(message["channel"].removeprefix(self._mail))
        return True

    def failed(self, error: Exception) -> float:
        # Other programs can write to these channels, too.
        if not isinstance(error, redis.RedisError | UnicodeDecodeError):
            return super().failed(error) or LOOK_EVERY_S
        logger.debug("not listening: %s", error)
        self._subscription.reset()
        return LOOK_EVERY_S

    def finish(self) -> None:
        self._subscription.close()

    def _process_event(self, topic: str, text: str) -> None:
        if is_of_coord(topic):  # no program of coord publishes there
            return
        event = read_event(topic, text) if self._clients.wants_events else None
        if event is not None:
            self._clients.event(event)

    def _process_news(self, text: str) -> None:
        try:
            news = News.read(text)
        except (ValueError, TypeError) as error:
            logger.warning("ignored a foreign message on the gateways' channel: %s", error)
        else:
            self._clients.news(news)


class EventListener(BackgroundService):
    """Follows the stream of events from now on; each round blocks until an event arrives, at most a second.

    `reader` must block without a timeout of its own, and decode replies.
    """

    name = "gateway events"
    interval_s = 0.0
    first_at_once = True

    def __init__(self, reader: redis.Redis, namespace: str, clients: Clients) -> None:
        super().__init__()
        self._reader, self._namespace, self._clients = reader, namespace, clients
        self._follower: Follower | None = None

    def run_once(self) -> int:
        """Pass new events on; return their number."""
        if self._follower is None:
            end = EventStream(self._reader, self._namespace).end()
            self._follower = Follower(self._reader, self._namespace, end)
        events = self._follower.read()
        for event in events:
            if event.kind == GAP:
                self._clients.missed_events()
            else:
                self._clients.event_of_coord(topic_event(event))
        self._clients.events_passed(self._follower.position)
        return len(events)

    def failed(self, error: Exception) -> float:
        if isinstance(error, Unusable | redis.NoPermissionError):
            logger.warning("the gateway may not read events; give its user the present rights: coord acl")
            return REFUSED_AGAIN_AFTER_S
        if isinstance(error, Unreachable | redis.RedisError):
            logger.debug("no events: %s", error)
            return AGAIN_AFTER_S
        return super().failed(error) or AGAIN_AFTER_S
