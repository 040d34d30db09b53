"""A client of `coord gateway`, for programs without Redis: an inbox, topics, and a connection that comes back. Needs `coord[web]`.

It reconnects with exponential backoff and full jitter (1 to 60 s), resumes its inbox where it was, and drops what comes twice.
Events of topics are live: what is published while it is away is missed, and a Gap says so.
"""

from __future__ import annotations

import json
import logging
import socket
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import inf
from types import TracebackType
from typing import Any, Self

from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidURI
from websockets.sync.client import ClientConnection, connect
from websockets.uri import parse_uri

from coordination.errors import Conflict, CoordinationError, NotAllowed, Unreachable, UsageError
from coordination.messages.topics import Event, Gap, pattern, topic
from coordination.retry import delay_s

LARGEST_FRAME = 8 * 1024 * 1024
HANDSHAKE_S = 20.0
REMEMBERED = 10_000
"""Ids of messages and events: what comes again is known by them."""
MOST_WAITING = 10_000
"""Events that came while an answer was waited for; beyond that they are dropped, and the Gap says how many."""
TOKEN, TAKEN_OVER, BAD_FRAME = 1008, 4001, 4000

Said = dict[str, Any]
logger = logging.getLogger(__name__)


class Closed(CoordinationError):
    """The client was closed."""


@dataclass(frozen=True, kw_only=True)
class Message:
    """What was sent to this client's recipient. It is acknowledged when the next one is asked for."""

    id: str
    sender: str
    type: str
    payload: Any
    sent_at: datetime
    deliveries: int
    reply_to: str | None = None


@dataclass(frozen=True, kw_only=True)
class Missed:
    """Messages of the inbox that are gone for good: `count`, or None where Redis lost its data and nobody knows."""

    count: int | None


class Client:
    """Not for several threads at a time, but any may close it. Who is told of the position of an earlier client goes on from there."""

    def __init__(
        self, url: str, token: str, *, position: Mapping[str, Any] | None = None, patience: timedelta | None = None
    ) -> None:
        """`url`: `ws://HOST:8770/`, or `wss://`. `patience`: how long the gateway may be away before it is Unreachable; for ever
        where nothing is said. Raises UsageError for another kind of URL.
        """
        try:
            parse_uri(url)
        except (InvalidURI, ValueError) as error:
            raise UsageError(
                f"{url!r} is no address of a gateway", "name it like ws://HOST:8770/ or wss://HOST/"
            ) from error
        self._url, self._token = url, token
        self._patience_s = inf if patience is None else patience.total_seconds()
        self.position: Said | None = dict(position) if position else None
        """How far the inbox was read: keep it, to go on in another process."""
        self._topics: set[str] = set()
        self._line: ClientConnection | None = None
        self._coming: ClientConnection | None = None
        """Shakes hands."""
        self._closed = threading.Event()
        self._reconnecting = False
        """And the log says so."""
        self._been_in = False
        self._waiting: deque[Message | Event | Gap | Missed] = deque()
        self._dropped = 0
        self._seen: OrderedDict[str, None] = OrderedDict()
        self._open: Message | None = None
        """Handed out, and neither acknowledged nor refused."""
        self._seq = 0

    def listen(self, wait_s: float = inf) -> Iterator[Message | Event | Gap | Missed]:
        """Yield what comes within that time. A message is acknowledged when the next one is asked for, or the time is over; where
        the body fails it is delivered again.

        Raises NotAllowed for a token that does not hold, Conflict where the same recipient came in elsewhere, Unreachable, Closed.
        """
        end = time.monotonic() + wait_s
        while True:
            self._check_not_closed()
            self._settle()
            while not self._waiting:
                left_s = end - time.monotonic()
                if left_s <= 0:
                    return
                self._receive(left_s, end)
            found = self._waiting.popleft()
            if isinstance(found, Message):
                self._open = found
            yield found

    def ack(self, message: Message) -> None:
        """The message is done with."""
        self._remember(message.id)
        self._forget_open(message)
        self._say({"ack": message.id})

    def nack(self, message: Message, why: str = "") -> None:
        """The message cannot be done now: it comes again after a while."""
        self._forget_open(message)
        self._say({"nack": message.id, "why": why[:2000]})

    def extend(self, message: Message) -> None:
        """The message is still being worked on: without this it is delivered again after 30 s."""
        self._say({"extend": message.id})

    def send(self, to: str, type: str, payload: Any = None, **more: Any) -> str:
        """Send a message, as the token's recipient; return its id. `more`: `ttl_s priority reply_to`. It is sent once, however
        often the connection breaks. Raises Conflict where it is refused.
        """
        seq = self._next_seq()
        return str(
            self._ask({"send": {"to": to, "type": type, "payload": payload, "seq": seq, **more}}, "sent", seq)["id"]
        )

    def publish(self, on: str, payload: Any = None, *, type: str = "event") -> int:
        """Publish an event, as the token's recipient; return how many programs and inboxes it reached."""
        seq = self._next_seq()
        frame = {"publish": {"topic": topic(on), "payload": payload, "type": type, "seq": seq}}
        return int(self._ask(frame, "published", seq)["reached"])

    def subscribe(self, *patterns: str) -> None:
        """Subscribe to topics (`vbia_events`, `a.*`), also after each reconnection. Raises NotAllowed, Conflict."""
        wanted = sorted({pattern(one) for one in patterns} - self._topics)
        if wanted:
            self._ask({"subscribe": wanted}, "subscribed")
            self._topics.update(wanted)

    def unsubscribe(self, *patterns: str) -> None:
        gone = sorted(self._topics & set(patterns))
        if gone:
            self._topics.difference_update(gone)
            self._ask({"unsubscribe": gone}, "subscribed")

    def close(self) -> None:
        """End the connection for good. Who waits in another thread gets Closed, be it for a frame or for the gateway."""
        self._closed.set()
        line, coming, self._line = self._line, self._coming, None
        if coming is not None:
            _cut(coming)
        if line is not None:
            line.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    # The connection

    def _settle(self) -> None:
        if self._open is not None:
            self.ack(self._open)

    def _forget_open(self, message: Message) -> None:
        if self._open is not None and self._open.id == message.id:
            self._open = None

    def _say(self, frame: Said) -> None:
        """What is lost with the connection needs no repetition: the message comes again, and is known by its id."""
        if self._line is not None:
            try:
                self._line.send(json.dumps(frame))
            except ConnectionClosed as closed:
                self._lost(closed)

    def _ask(self, frame: Said, answer: str, seq: int | None = None) -> Said:
        """Say it until it is answered, over as many connections as it takes; what else comes waits for `listen`."""
        end = time.monotonic() + self._patience_s
        while True:
            line = self._connected(end)
            try:
                line.send(json.dumps(frame))
                while (said := self._hear(line, max(0.0, min(end - time.monotonic(), 3600.0)))) is None or not _answers(
                    said, answer, seq, frame
                ):
                    if time.monotonic() >= end:
                        raise Unreachable(f"the gateway at {self._url} does not answer", "is it up? coord gateway")
            except ConnectionClosed as closed:
                self._lost(closed)
                continue
            if "refused" in said:
                raise Conflict(said["refused"]["message"], said["refused"]["hint"])
            found: Said = said[answer]
            return found

    def _receive(self, wait_s: float, end: float) -> None:
        line = self._connected(end)
        if not self._waiting:
            try:
                self._hear(line, min(wait_s, 3600.0))
            except ConnectionClosed as closed:
                self._lost(closed)

    def _hear(self, line: ClientConnection, wait_s: float) -> Said | None:
        """Take the next frame; what is for `listen` waits there. Raises ConnectionClosed."""
        try:
            said: Said = json.loads(line.recv(wait_s))
        except TimeoutError:
            return None
        for word, take in self._takes.items():
            if word in said:
                take(said[word])
        return said

    @property
    def _takes(self) -> Mapping[str, Callable[[Any], None]]:
        return {
            "welcome": self._welcomed,
            "message": self._message,
            "event": self._event,
            "gap": lambda gap: self._waiting.append(Gap(missed=gap["missed"])),
        }

    def _connected(self, end: float = inf) -> ClientConnection:
        """Come in, with backoff. Raises NotAllowed, Conflict, Unreachable after the patience."""
        failures, patient_until = 0, time.monotonic() + self._patience_s
        while self._line is None:
            self._check_not_closed()
            try:
                self._line = line = self._come()
                if self._closed.is_set():
                    line.close()
                    self._check_not_closed()
                self._reconnecting = False
                return line
            except (OSError, InvalidHandshake, ConnectionClosed, TimeoutError) as error:
                self._check_not_closed()
                if isinstance(error, ConnectionClosed):
                    self._lost(error)
                self._say_reconnecting(error)
                if time.monotonic() >= patient_until:
                    raise Unreachable(
                        f"no gateway answers at {self._url}: {error}", "is it up? coord gateway"
                    ) from error
                self._closed.wait(min(delay_s(failures), max(0.0, patient_until - time.monotonic())))
                failures += 1
        return self._line

    def _come(self) -> ClientConnection:
        headers = {"Authorization": f"Bearer {self._token}"}
        begun: Any = self._begun  # declared as a class
        try:
            coming = connect(
                self._url,
                additional_headers=headers,
                max_size=LARGEST_FRAME,
                open_timeout=HANDSHAKE_S,
                compression=None,
                create_connection=begun,
            )
            line = coming.__enter__()  # left by `close`
            self._resume(line)
        finally:
            self._coming = None
        return line

    def _begun(self, *words: Any, **more: Any) -> ClientConnection:
        """Keep the connection, that `close` can cut it while it shakes hands."""
        self._coming = coming = ClientConnection(*words, **more)
        if self._closed.is_set():
            _cut(coming)
        return coming

    def _resume(self, line: ClientConnection) -> None:
        try:
            line.send(json.dumps({"resume": self.position}))
            while "welcome" not in (self._hear(line, HANDSHAKE_S) or _silence()):
                pass
            if self._topics:
                line.send(json.dumps({"subscribe": sorted(self._topics)}))
                while "subscribed" not in (self._hear(line, HANDSHAKE_S) or _silence()):
                    pass
                self._waiting.append(Gap())
        except BaseException:
            line.close()
            raise

    def _check_not_closed(self) -> None:
        if self._closed.is_set():
            raise Closed("this client was closed", "make another one, with the position of this one")

    def _say_reconnecting(self, why: Exception) -> None:
        """Once in an outage."""
        if not self._reconnecting:
            self._reconnecting = True
            logger.warning("reconnecting to the gateway at %s: %s", self._url, why)

    def _lost(self, closed: ConnectionClosed) -> None:
        self._line = None
        self._check_not_closed()
        code = closed.rcvd.code if closed.rcvd else None
        if code == TOKEN:
            raise NotAllowed(
                "the gateway does not know this token", "get a new one: coord gateway --grant YOU"
            ) from closed
        if code == TAKEN_OVER:
            raise Conflict("the same recipient came in elsewhere", "one client at a time has a recipient") from closed
        if code == BAD_FRAME:
            raise UsageError(
                "the gateway did not understand this client", "install the same version on both"
            ) from closed
        self._say_reconnecting(closed)

    # What comes

    def _welcomed(self, welcome: Said) -> None:
        if not welcome["recovered"]:
            self._waiting.append(Missed(count=welcome["missed"] or None))
        self.position = {name: welcome[name] for name in ("epoch", "offset", "trimmed")}

    def _message(self, given: Said) -> None:
        if self.position is not None:
            self.position["offset"] = max(self.position["offset"], given["offset"])
        waits = any(isinstance(one, Message) and one.id == given["id"] for one in self._waiting)
        if given["id"] in self._seen:
            self._say({"ack": given["id"]})
        elif not waits and not (self._open is not None and self._open.id == given["id"]):
            self._waiting.append(
                Message(
                    id=given["id"],
                    sender=given["from"],
                    type=given["type"],
                    payload=given["payload"],
                    sent_at=datetime.fromisoformat(given["sent_at"]),
                    deliveries=given["deliveries"],
                    reply_to=given["reply_to"],
                )
            )

    def _event(self, given: Said) -> None:
        name = f"event {given['id']}"  # its copy in an inbox has the same id
        if name in self._seen:
            return
        self._remember(name)
        if len(self._waiting) >= MOST_WAITING:
            self._dropped += 1
            return
        if self._dropped:
            self._waiting.append(Gap(missed=self._dropped))
            self._dropped = 0
        at = datetime.fromisoformat(given["at"])
        event = Event(
            id=given["id"],
            topic=given["topic"],
            type=given["type"],
            payload=given["payload"],
            sender=given["from"],
            at=at,
        )
        self._waiting.append(event)

    def _remember(self, name: str) -> None:
        self._seen[name] = None
        if len(self._seen) > REMEMBERED:
            self._seen.popitem(last=False)

    def _next_seq(self) -> int:
        """Grow over restarts, too: the clock in µs."""
        self._seq = max(self._seq + 1, time.time_ns() // 1000)
        return self._seq


def _cut(line: ClientConnection) -> None:
    """End what waits for it, without saying goodbye."""
    with suppress(OSError):
        line.socket.shutdown(socket.SHUT_RDWR)


def _silence() -> Said:
    raise TimeoutError("the gateway says nothing")


def _answers(said: Said, answer: str, seq: int | None, frame: Said) -> bool:
    """Whether that is the answer to this frame, or its refusal."""
    if answer in said:
        return seq is None or said[answer]["seq"] == seq
    refused = said.get("refused")
    return refused is not None and (refused.get("seq") == seq if seq is not None else next(iter(frame)) in refused)


__all__ = ["Client", "Closed", "Event", "Gap", "Message", "Missed"]
