"""One client, from its first frame to its last: what is there for it goes out as far as its window, what it says is done.

Whatever ends a session ends it here: the connection, the client's own fault, a reader of the same name elsewhere, a token
that was revoked. Then what the client had in hand goes back, so that it is delivered again at once.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from datetime import timedelta
from functools import partial
from typing import Any, TypeVar

from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketDisconnected

from coordination.errors import Conflict, CoordinationError, NotAllowed, Unreachable
from coordination.gateway import frames
from coordination.gateway.access import Grant
from coordination.gateway.limits import BAD_FRAME, GONE, TOO_SLOW, CloseReason, Left, Limits
from coordination.gateway.line import Line, heard
from coordination.gateway.redis_executor import RedisExecutor
from coordination.gateway.topics import ClientTopics
from coordination.gateway.window import Window
from coordination.messages import Message, MessageBus, Position, Taken
from coordination.messages.topics import Patterns

READER = "gateway"
"""Of every session: a later one takes back what an earlier one had in hand, be it on a gateway that is no more."""
EXTENDS_PER_IDLE = 4
COORD_ALONE = "worker:"
"""Workers take what is written there for coord's own word."""

T = TypeVar("T")


class Session:
    """`bus` sends as the recipient."""

    def __init__(
        self,
        socket: WebSocket,
        grant: Grant,
        token: str,
        bus: MessageBus,
        executor: RedisExecutor,
        limits: Limits,
        here: Patterns[ClientTopics],
    ) -> None:
        self.id = secrets.token_hex(8)
        self.recipient, self.token = grant.recipient, token
        self.topics = ClientTopics(here, grant.topics, limits, self._say)
        self.ended = asyncio.Event()
        """What it had in hand has gone back."""
        self._socket, self._bus, self._executor, self._limits = socket, bus, executor, limits
        self._line: Line = socket.state.line
        self._saying = asyncio.Lock()
        self._look = asyncio.Event()
        self._left: asyncio.Future[CloseReason] = asyncio.get_running_loop().create_future()
        self._away = False
        self._untold: tuple[Message, ...] = ()
        """Taken for the client, and nobody has told it yet."""

    def look(self) -> None:
        """Something may be there."""
        self._look.set()

    def leave(self, ending: CloseReason) -> None:
        if not self._left.done():
            self._left.set_result(ending)

    async def serve(self, resume: frames.Resume) -> CloseReason:
        """Until it ends; returns how."""
        self._window = Window(self._limits.window, _position(resume.resume))
        works = (
            self._deliver(),
            self._listen(),
            self.topics.tell(),
            self._keep(),
            self._line.gone.wait(),
            self._leaving(),
        )
        tasks = [asyncio.ensure_future(work) for work in works]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self.topics.close()
            for task in tasks:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
            await self._hand_back()
            self.ended.set()
        return await self._ending(results)

    # What goes out

    async def _deliver(self) -> None:
        await self._do(lambda: self._bus.hand_back_all(self.recipient, READER))
        while True:
            self._look.clear()
            wait_s = await self._hand_over(self._window.room) if self._window.room else None
            with suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._look.wait()

    async def _hand_over(self, room: int) -> float:
        """What is there, up to `room`; returns for how many seconds nothing more is to be expected."""
        taken = await self._do(partial(self._take, room))
        welcome, self._away = self._window.looked(taken, anew=self._away), False
        self._window.hold(taken.messages, time.monotonic())
        self._untold = ()
        if welcome:
            await self._say(frames.welcome(self.recipient, **vars(welcome)))
        letters = deque(frames.message(message) for message in taken.messages)
        if not letters:
            return self._pause_s(taken.due)
        del taken  # what waits for a slow client waits once
        self._window.measured(sum(map(len, letters)))
        while letters:
            await self._say(letters.popleft())
        return 0

    def _take(self, room: int) -> Taken:
        """In a thread, which goes on when the session has ended meanwhile."""
        taken = self._bus.take(self.recipient, READER, room, self._window.since)
        self._untold = taken.messages
        return taken

    def _pause_s(self, due: timedelta | None) -> float:
        interval_s = self._limits.interval_s
        return interval_s if due is None else min(due.total_seconds(), interval_s)

    async def _say(self, text: str) -> None:
        """One frame at a time, and the next one when the kernel has it; raises Left where that takes too long."""
        try:
            async with self._saying, asyncio.timeout(self._limits.send_s):
                await self._socket.send_text(text)
                await self._line.flushed()
        except TimeoutError:
            raise Left(TOO_SLOW) from None

    # What comes in

    async def _listen(self) -> None:
        while True:
            frame = frames.read(await heard(self._socket))
            match frame:
                case frames.Ack():
                    await self._refusing({"ack": frame.ack}, self._ack(frame.ack))
                case frames.Nack():
                    await self._refusing({"nack": frame.nack}, self._nack(frame.nack, frame.why))
                case frames.Extend():
                    await self._refusing({"extend": frame.extend}, self._extend(frame.extend))
                case frames.Send():
                    await self._refusing({"seq": frame.send.seq}, self._send(frame.send))
                case frames.Subscribe():
                    wanted = _several(frame.subscribe)
                    await self._refusing({"subscribe": wanted}, self.topics.subscribe(wanted))
                case frames.Unsubscribe():
                    await self.topics.unsubscribe(_several(frame.unsubscribe))
                case frames.Publish():
                    what = {"publish": frame.publish.topic[:200], "seq": frame.publish.seq}
                    await self._refusing(what, self._publish(frame.publish))
                case frames.Resume():
                    raise frames.BadFrame("resume is the first frame, and only that", "go on with ack, or send")

    async def _refusing(self, what: dict[str, Any], operation: Awaitable[None]) -> None:
        try:
            await operation
        except CoordinationError as error:
            await self._say(frames.refused(what, error))

    async def _ack(self, message_id: str) -> None:
        message = self._window.of(message_id)
        ours = await self._do(lambda: self._bus.ack(message))
        self._window.done(message_id)
        self._look.set()
        if not ours:
            raise _lost(message_id)

    async def _nack(self, message_id: str, why: str) -> None:
        message = self._window.of(message_id)
        back = await self._do(lambda: self._bus.nack(message, why))
        self._window.dropped(back or {message.offset})
        self._look.set()
        if not back:
            raise _lost(message_id)

    async def _extend(self, message_id: str) -> None:
        message = self._window.of(message_id)
        if await self._do(lambda: self._bus.extend(message)):
            self._window.dropped({message.offset})
            self._look.set()
            raise _lost(message_id)
        self._window.extended(message_id, time.monotonic())

    async def _send(self, letter: frames.Letter) -> None:
        for whom in (letter.to, letter.reply_to or ""):
            if whom.startswith(COORD_ALONE):
                raise NotAllowed(f"nothing of a client's goes to {whom[:100]!r}", "workers hear from coord alone")
        ttl = None if letter.ttl_s is None else timedelta(seconds=letter.ttl_s)

        def operation() -> str:
            return self._bus.send(
                letter.to,
                letter.type,
                letter.payload,
                ttl=ttl,
                priority=letter.priority,
                reply_to=letter.reply_to,
                sequence=letter.seq,
            )

        message_id = await self._executor.do(operation, self.redis_is_away, takes_room=True)
        await self._say(frames.sent(letter.seq, message_id))

    async def _publish(self, given: frames.Publication) -> None:
        self.topics.may_publish(given.topic)

        def operation() -> int:
            return self._bus.publish(given.topic, given.payload, type=given.type, sequence=given.seq)

        reached = await self._executor.do(operation, self.redis_is_away, takes_room=True)
        await self._say(frames.published(given.topic, given.seq, reached))

    # What goes on meanwhile

    async def _keep(self) -> None:
        """What waits behind the message that the client works on is not taken from it."""
        idle_s = self._bus.limits.idle.total_seconds()
        while True:
            await asyncio.sleep(idle_s / EXTENDS_PER_IDLE)
            if behind := self._window.behind(time.monotonic(), idle_s):
                lost = await self._do(partial(self._bus.extend, *behind))
                self._window.dropped({message.offset for message in lost})
            self._look.set()

    async def _leaving(self) -> None:
        raise Left(await self._left)

    async def _do(self, operation: Callable[[], T]) -> T:
        return await self._executor.do(operation, self.redis_is_away)

    async def redis_is_away(self, error: Unreachable) -> None:
        if not self._away:
            self._away = True
            await self._say(frames.away(error))

    async def _hand_back(self) -> None:
        """Where Redis is away, the next session, or the idle time, does it."""
        rest = (*self._window.held, *self._untold)
        with suppress(Unreachable):
            await self._executor.once(lambda: self._bus.hand_back(*rest))

    async def _ending(self, results: Sequence[object]) -> CloseReason:
        """Out of what became of the works: the first that failed says how it ended."""
        error = next((one for one in results if isinstance(one, Exception)), None)
        match error:
            case None | WebSocketDisconnect() | WebSocketDisconnected():
                return GONE
            case Left():
                return error.ending
            case frames.BadFrame():
                with suppress(Left, WebSocketDisconnect, WebSocketDisconnected):
                    await self._say(frames.refused({}, error))
                return BAD_FRAME
        raise error


def _several(said: str | list[str]) -> list[str]:
    return [said] if isinstance(said, str) else said


def _position(said: frames.Position | None) -> Position | None:
    return Position(said.epoch, said.offset, said.trimmed) if said else None


def _lost(message_id: str) -> Conflict:
    return Conflict(
        f"message {message_id[:100]} was no longer in your hands", "what was not done in time is delivered again"
    )
