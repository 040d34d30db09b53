"""One client's session: it delivers messages within the window and executes the client's frames.

It ends with the connection, by the client's fault, by a session of the same recipient elsewhere, or by a
revoked token. The messages in flight are then returned, so that they are delivered again at once.
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
from coordination.gateway.client_connection import ClientConnection, receive
from coordination.gateway.limits import BAD_FRAME, GONE, TOO_SLOW, CloseReason, Left, Limits, Window
from coordination.gateway.redis_executor import RedisExecutor
from coordination.gateway.topics import ClientTopics, GatewayTopics
from coordination.messages import Message, MessageBus, Position, Taken

READER = "gateway"
"""Reader name of every session, so that a later session can take back an earlier one's messages, also from
another gateway.
"""
EXTENDS_PER_IDLE = 4
INTERNAL_RECIPIENTS = "worker:"
"""Prefix of recipients that clients may not write to, because workers execute their messages."""

T = TypeVar("T")


class Session:
    """One client. `bus` sends as the recipient."""

    def __init__(
        self,
        socket: WebSocket,
        grant: Grant,
        token: str,
        bus: MessageBus,
        executor: RedisExecutor,
        limits: Limits,
        gateway_topics: GatewayTopics,
    ) -> None:
        self.id = secrets.token_hex(8)
        self.recipient, self.token = grant.recipient, token
        self.topics = ClientTopics(
            gateway_topics,
            grant.topics,
            limits,
            self._send_frame,
            lambda since: self._do(partial(gateway_topics.read, since)),
        )
        self.ended = asyncio.Event()
        """Set when the messages in flight have been returned."""
        self._socket, self._bus, self._executor, self._limits = socket, bus, executor, limits
        self._connection: ClientConnection = socket.state.connection
        self._sending = asyncio.Lock()
        self._wake = asyncio.Event()
        self._left: asyncio.Future[CloseReason] = asyncio.get_running_loop().create_future()
        self._away = False
        self._unsent: tuple[Message, ...] = ()
        """Messages taken for the client that were not sent yet."""

    def wake(self) -> None:
        """Wake the delivery, because there may be messages."""
        self._wake.set()

    def leave(self, reason: CloseReason) -> None:
        if not self._left.done():
            self._left.set_result(reason)

    async def serve(self, resume: frames.Resume) -> CloseReason:
        """Serve the client until the session ends; return the reason."""
        self._window = Window(self._limits.window, _position(resume.resume))
        coroutines = (
            self._deliver(),
            self._receive_frames(),
            self.topics.send_waiting(),
            self._extend_waiting(),
            self._connection.gone.wait(),
            self._wait_for_leave(),
        )
        tasks = [asyncio.ensure_future(work) for work in coroutines]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self.topics.close()
            for task in tasks:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
            await self._hand_back()
            self.ended.set()
        return await self._close_reason(results)

    # Outgoing

    async def _deliver(self) -> None:
        await self._do(lambda: self._bus.hand_back_all(self.recipient, READER))
        while True:
            self._wake.clear()
            wait_s = await self._deliver_batch(self._window.room) if self._window.room else None
            with suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._wake.wait()

    async def _deliver_batch(self, room: int) -> float:
        """Deliver up to `room` messages; return the seconds until more can be expected."""
        taken = await self._do(partial(self._take, room))
        welcome, self._away = self._window.observe(taken, anew=self._away), False
        self._window.add(taken.messages, time.monotonic())
        self._unsent = ()
        if welcome:
            await self._send_frame(frames.welcome(self.recipient, **vars(welcome)))
        outgoing = deque(frames.message(message) for message in taken.messages)
        if not outgoing:
            return self._pause_s(taken.due)
        del taken  # messages for a slow client are kept in memory only once
        self._window.adapt_batch_size(sum(map(len, outgoing)))
        while outgoing:
            await self._send_frame(outgoing.popleft())
        return 0

    def _take(self, room: int) -> Taken:
        """Take messages. Runs in a thread, which may finish after the session has ended."""
        taken = self._bus.take(self.recipient, READER, room, self._window.since)
        self._unsent = taken.messages
        return taken

    def _pause_s(self, due: timedelta | None) -> float:
        interval_s = self._limits.interval_s
        return interval_s if due is None else min(due.total_seconds(), interval_s)

    async def _send_frame(self, text: str) -> None:
        """Send one frame, and wait until the kernel has it. Raises Left if that takes too long."""
        try:
            async with self._sending, asyncio.timeout(self._limits.send_s):
                await self._socket.send_text(text)
                await self._connection.flushed()
        except TimeoutError:
            raise Left(TOO_SLOW) from None

    # Incoming

    async def _receive_frames(self) -> None:
        while True:
            frame = frames.read(await receive(self._socket))
            match frame:
                case frames.Ack():
                    await self._reply_errors({"ack": frame.ack}, self._ack(frame.ack))
                case frames.Nack():
                    await self._reply_errors({"nack": frame.nack}, self._nack(frame.nack, frame.why))
                case frames.Extend():
                    await self._reply_errors({"extend": frame.extend}, self._extend(frame.extend))
                case frames.Send():
                    await self._reply_errors({"seq": frame.send.seq}, self._send(frame.send))
                case frames.Subscribe():
                    patterns = _as_list(frame.subscribe)
                    subscribing = self.topics.subscribe(patterns, frame.since)
                    await self._reply_errors({"subscribe": patterns}, subscribing)
                case frames.Unsubscribe():
                    await self.topics.unsubscribe(_as_list(frame.unsubscribe))
                case frames.Publish():
                    publication = {"publish": frame.publish.topic[:200], "seq": frame.publish.seq}
                    await self._reply_errors(publication, self._publish(frame.publish))
                case frames.Resume():
                    raise frames.BadFrame(
                        "resume is only allowed as the first frame", "continue with ack or send"
                    )

    async def _reply_errors(self, frame_id: dict[str, Any], operation: Awaitable[None]) -> None:
        """Execute a frame; `frame_id` identifies it in a refusal."""
        try:
            await operation
        except CoordinationError as error:
            await self._send_frame(frames.refused(frame_id, error))

    async def _ack(self, message_id: str) -> None:
        message = self._window.message(message_id)
        acknowledged = await self._do(lambda: self._bus.ack(message))
        self._window.acknowledge(message_id)
        self._wake.set()
        if not acknowledged:
            raise _lost(message_id)

    async def _nack(self, message_id: str, why: str) -> None:
        message = self._window.message(message_id)
        returned_offsets = await self._do(lambda: self._bus.nack(message, why))
        self._window.drop(returned_offsets or {message.offset})
        self._wake.set()
        if not returned_offsets:
            raise _lost(message_id)

    async def _extend(self, message_id: str) -> None:
        message = self._window.message(message_id)
        if await self._do(lambda: self._bus.extend(message)):
            self._window.drop({message.offset})
            self._wake.set()
            raise _lost(message_id)
        self._window.extend(message_id, time.monotonic())

    async def _send(self, request: frames.OutgoingMessage) -> None:
        for recipient in (request.to, request.reply_to or ""):
            if recipient.startswith(INTERNAL_RECIPIENTS):
                raise NotAllowed(
                    f"clients cannot send to {recipient[:100]!r}", "only coord sends messages to workers"
                )
        ttl = None if request.ttl_s is None else timedelta(seconds=request.ttl_s)

        def operation() -> str:
            return self._bus.send(
                request.to,
                request.type,
                request.payload,
                ttl=ttl,
                priority=request.priority,
                reply_to=request.reply_to,
                sequence=request.seq,
            )

        message_id = await self._executor.do(operation, self.redis_is_away, takes_room=True)
        await self._send_frame(frames.sent(request.seq, message_id))

    async def _publish(self, given: frames.Publication) -> None:
        self.topics.may_publish(given.topic)

        def operation() -> int:
            return self._bus.publish(given.topic, given.payload, type=given.type, sequence=given.seq)

        reached = await self._executor.do(operation, self.redis_is_away, takes_room=True)
        await self._send_frame(frames.published(given.topic, given.seq, reached))

    # Background

    async def _extend_waiting(self) -> None:
        """Extend the messages that wait behind the oldest one, which the client processes."""
        idle_s = self._bus.limits.idle.total_seconds()
        while True:
            await asyncio.sleep(idle_s / EXTENDS_PER_IDLE)
            if behind_oldest := self._window.behind_oldest(time.monotonic(), idle_s):
                lost = await self._do(partial(self._bus.extend, *behind_oldest))
                self._window.drop({message.offset for message in lost})
            self._wake.set()

    async def _wait_for_leave(self) -> None:
        raise Left(await self._left)

    async def _do(self, operation: Callable[[], T]) -> T:
        return await self._executor.do(operation, self.redis_is_away)

    async def redis_is_away(self, error: Unreachable) -> None:
        if not self._away:
            self._away = True
            await self._send_frame(frames.away(error))

    async def _hand_back(self) -> None:
        """Return the messages in flight to the inbox; while Redis is unreachable, the next session or the
        idle time does that.
        """
        rest = (*self._window.messages, *self._unsent)
        with suppress(Unreachable):
            await self._executor.once(lambda: self._bus.hand_back(*rest))

    async def _close_reason(self, results: Sequence[object]) -> CloseReason:
        """Return the reason why the session ends: that of the first task that failed."""
        error = next((one for one in results if isinstance(one, Exception)), None)
        match error:
            case None | WebSocketDisconnect() | WebSocketDisconnected():
                return GONE
            case Left():
                return error.reason
            case frames.BadFrame():
                with suppress(Left, WebSocketDisconnect, WebSocketDisconnected):
                    await self._send_frame(frames.refused({}, error))
                return BAD_FRAME
        raise error


def _as_list(received: str | list[str]) -> list[str]:
    return [received] if isinstance(received, str) else received


def _position(received: frames.Position | None) -> Position | None:
    return Position(received.epoch, received.offset, received.trimmed) if received else None


def _lost(message_id: str) -> Conflict:
    return Conflict(
        f"message {message_id[:100]} is no longer in flight",
        "it is delivered again unless it was acknowledged",
    )
