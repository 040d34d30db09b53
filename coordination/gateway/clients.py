"""The sessions of a gateway. A recipient has at most one session over all gateways; the latest one wins."""

from __future__ import annotations

import asyncio

from coordination.errors import Unreachable
from coordination.gateway import frames
from coordination.gateway.access import News, Tokens
from coordination.gateway.limits import POLICY, TAKEN_OVER
from coordination.gateway.redis_executor import RedisExecutor
from coordination.gateway.session import Session
from coordination.gateway.topics import GatewayTopics
from coordination.messages.topics import Event

CHECKED_EVERY_S = 30.0


class Clients:
    """Connected clients of one event loop. The listener's thread hands its news over to the loop."""

    def __init__(self, executor: RedisExecutor, tokens: Tokens, topics: GatewayTopics) -> None:
        self._loop = asyncio.get_running_loop()
        self._executor, self._tokens = executor, tokens
        self._here: dict[str, Session] = {}
        self._entered: set[str] = set()
        """Sessions of this gateway whose news it has not heard yet; a later session may be here by then."""
        self.topics = topics
        self._to_check: asyncio.Queue[str | None] = asyncio.Queue()

    def __len__(self) -> int:
        return len(self._here)

    async def enter(self, session: Session) -> None:
        """Register a session after ending the recipient's former one, which has then
        returned its messages.
        """
        while before := self._here.get(session.recipient):
            before.leave(TAKEN_OVER)
            await before.ended.wait()
            self.exit(before)
        self._here[session.recipient] = session
        self._entered.add(session.id)
        news = News(recipient=session.recipient, but=session.id)
        await self._executor.do(lambda: self._tokens.tell(news), session.redis_is_away)

    def exit(self, session: Session) -> None:
        if self._here.get(session.recipient) is session:
            del self._here[session.recipient]

    # Called in the listener's thread

    def mail(self, recipient: str) -> None:
        if session := self._here.get(recipient):
            self._loop.call_soon_threadsafe(session.look)

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
        """Note that all events of coord up to the position were passed on."""
        self._loop.call_soon_threadsafe(setattr, self.topics, "position", position)

    def missed_events(self) -> None:
        self._loop.call_soon_threadsafe(self._tell_gap)

    @property
    def wants_events(self) -> bool:
        return bool(self.topics.patterns)

    def resubscribed(self) -> None:
        self._loop.call_soon_threadsafe(self._wake_all)

    # Called in the event loop

    def _handle_news(self, news: News) -> None:
        if news.but in self._entered:  # `enter` has ended the former session here
            self._entered.discard(news.but)
            return
        session = self._here.get(news.recipient)
        if session is None or session.id == news.but:
            return
        if news.but:
            session.leave(TAKEN_OVER)
        else:
            self._to_check.put_nowait(news.recipient)

    def _tell_gap(self) -> None:
        self.topics.position = ""
        for session in self._here.values():
            session.topics.gap(of_coord=True)

    def _wake_all(self) -> None:
        self._entered.clear()  # earlier news will not arrive any more
        self._to_check.put_nowait(None)
        for session in self._here.values():
            session.look()
            session.topics.gap(of_coord=False)

    async def check_tokens(self) -> None:
        """Check tokens for ever: when one may have ended, and periodically."""
        while True:
            recipient_to_check: str | None = None
            try:
                async with asyncio.timeout(CHECKED_EVERY_S):
                    recipient_to_check = await self._to_check.get()
            except TimeoutError:
                pass
            for session in [
                one for one in self._here.values() if recipient_to_check in (None, one.recipient)
            ]:
                await self._check(session)

    async def _check(self, session: Session) -> None:
        try:
            recipient = await self._executor.once(lambda: self._tokens.recipient_of(session.token))
        except Unreachable:
            return  # unknown for now; it is checked again
        if recipient != session.recipient:
            session.leave(POLICY)
