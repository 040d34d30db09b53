"""Client of `coord gateway` for programs without Redis access: an inbox and topics. Needs the extra `[web]`.

The client reconnects with exponential backoff and full jitter (1 to 60 s), resumes its inbox at its position
and drops duplicates. Events of topics are live: events published while the client is disconnected are lost,
which a Gap reports. The events of coord (`events.KIND`) are repeated from the last one on.
"""

from __future__ import annotations

import json
import logging
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import timedelta
from math import inf
from pathlib import Path
from typing import Any, Self

from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidURI
from websockets.sync.client import ClientConnection, connect
from websockets.uri import parse_uri

from coordination.errors import Conflict, CoordinationError, NotAllowed, Unreachable, Unusable, UsageError
from coordination.gateway.frames import GatewayFrame, Message, Missed, ReceivedItems
from coordination.messages.topics import Event, Gap, is_of_coord, pattern, topic
from coordination.retry import delay_s

LARGEST_FRAME = 8 * 1024 * 1024
HANDSHAKE_S = 20.0
TOKEN, TAKEN_OVER, BAD_FRAME = 1008, 4001, 4000

logger = logging.getLogger(__name__)


class Closed(CoordinationError):
    """The client was closed."""


class Client:
    """Connection to a gateway. Only one thread may use it at a time, but any thread may close it.

    With the `position` of an earlier client, a new client resumes where that one stopped.
    """

    def __init__(
        self,
        url: str,
        token: str,
        *,
        position: Mapping[str, Any] | None = None,
        patience: timedelta | None = None,
        ca: str | Path | None = None,
    ) -> None:
        """Prepare a connection, which is made on first use.

        `url` is `ws://HOST:8770/` or `wss://…`. `ca` names a PEM file with the authorities that may have
        signed the gateway's certificate (default: those of the system). `patience` limits how long the
        gateway may be unreachable before Unreachable is raised; None means for ever. Raises UsageError for
        another kind of URL, and for a file without certificates.
        """
        try:
            parse_uri(url)
        except (InvalidURI, ValueError) as error:
            raise UsageError(
                f"{url!r} is not an address of a gateway", "name it like ws://HOST:8770/ or wss://HOST/"
            ) from error
        self._url, self._token = url, token
        self._tls = _trusting(ca) if url.startswith("wss:") else None
        self._patience_s = inf if patience is None else patience.total_seconds()
        self._received = ReceivedItems(position)
        self._topics: set[str] = set()
        self._connection: ClientConnection | None = None
        self._handshaking: ClientConnection | None = None
        """Connection during its handshake."""
        self._closed = threading.Event()
        self._reconnecting = False
        """The outage has been logged."""
        self._seq = 0

    @property
    def position(self) -> GatewayFrame | None:
        """Return the position in the inbox; store it to resume in another process."""
        return self._received.position

    @property
    def events_position(self) -> str | None:
        """Return the id of the last event of coord that `listen` has returned, for `subscribe(since=…)` in
        another process.
        """
        return self._received.events_position

    def listen(self, wait_s: float = inf) -> Iterator[Message | Event | Gap | Missed]:
        """Yield items that arrive within `wait_s` seconds.

        A message is acknowledged when the next item is requested or the time is up; if the caller's loop
        fails, it is delivered again. Raises NotAllowed for an invalid token, Conflict if the same recipient
        connects elsewhere, Unreachable, Closed.
        """
        end = time.monotonic() + wait_s
        while True:
            self._check_not_closed()
            self._ack_open()
            while not self._received.waiting:
                left_s = end - time.monotonic()
                if left_s <= 0:
                    return
                self._receive(left_s, end)
            yield self._received.next()

    def ack(self, message: Message) -> None:
        """Acknowledge the message, so that it is not delivered again."""
        self._received.finish(message.id)
        self._send_frame({"ack": message.id})

    def nack(self, message: Message, why: str = "") -> None:
        """Refuse the message for now; it is delivered again after a delay."""
        self._received.give_up(message.id)
        self._send_frame({"nack": message.id, "why": why[:2000]})

    def extend(self, message: Message) -> None:
        """Prolong the time to process the message; without this it is delivered again after 30 s."""
        self._send_frame({"extend": message.id})

    def send(self, to: str, type: str, payload: Any = None, **more: Any) -> str:
        """Send a message as the token's recipient; return its id.

        `more`: `ttl_s`, `priority`, `reply_to`. The message is sent once, however often the connection
        breaks. Raises Conflict if the gateway refuses it.
        """
        seq = self._next_seq()
        return str(
            self._request(
                {"send": {"to": to, "type": type, "payload": payload, "seq": seq, **more}}, "sent", seq
            )["id"]
        )

    def publish(self, on: str, payload: Any = None, *, type: str = "event") -> int:
        """Publish an event as the token's recipient; return the number of programs and inboxes that it
        reached.
        """
        seq = self._next_seq()
        frame = {"publish": {"topic": topic(on), "payload": payload, "type": type, "seq": seq}}
        return int(self._request(frame, "published", seq)["reached"])

    def subscribe(self, *patterns: str, since: str | None = None) -> None:
        """Subscribe to topics (`vbia_events`, `a.*`) now and after each reconnection.

        `since`: the id of an event of coord; the events of coord after it come first, and a Gap with `first`
        where some of them were deleted. `0-0` is the beginning. Raises NotAllowed, Conflict.
        """
        new = sorted({pattern(name) for name in patterns} - self._topics)
        if new or (patterns and since):
            start = {} if since is None else {"since": since}
            self._request({"subscribe": new or sorted(patterns), **start}, "subscribed")
            self._topics.update(new)

    def unsubscribe(self, *patterns: str) -> None:
        """Unsubscribe from topics, by the patterns that `subscribe` got."""
        removed = sorted(self._topics & set(patterns))
        if removed:
            self._topics.difference_update(removed)
            self._request({"unsubscribe": removed}, "subscribed")

    def close(self) -> None:
        """Close the connection for good. A thread that waits for a frame or a connection gets Closed."""
        self._closed.set()
        connection, handshaking, self._connection = self._connection, self._handshaking, None
        if handshaking is not None:
            _shut_down(handshaking)
        if connection is not None:
            connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # Connection

    def _ack_open(self) -> None:
        if self._received.open is not None:
            self.ack(self._received.open)

    def _send_frame(self, frame: GatewayFrame) -> None:
        """Send a frame without an answer. It is not repeated after a disconnection: the gateway redelivers
        the message, and its id is known.
        """
        if self._connection is not None:
            try:
                self._connection.send(json.dumps(frame))
            except ConnectionClosed as closed:
                self._handle_disconnect(closed)

    def _request(self, frame: GatewayFrame, answer: str, seq: int | None = None) -> GatewayFrame:
        """Send a frame until it is answered, over several connections if necessary; other frames wait for
        `listen`.
        """
        end = time.monotonic() + self._patience_s
        while True:
            connection = self._connected(end)
            try:
                connection.send(json.dumps(frame))
                while (
                    received := self._receive_frame(connection, max(0.0, min(end - time.monotonic(), 3600.0)))
                ) is None or not _answers(received, answer, seq, frame):
                    if time.monotonic() >= end:
                        raise Unreachable(
                            f"the gateway at {self._url} does not answer",
                            "see whether it is running: coord gateway",
                        )
            except ConnectionClosed as closed:
                self._handle_disconnect(closed)
                continue
            if "refused" in received:
                raise Conflict(received["refused"]["message"], received["refused"]["hint"])
            content: GatewayFrame = received[answer]
            return content

    def _receive(self, wait_s: float, end: float) -> None:
        connection = self._connected(end)
        if not self._received.waiting:
            try:
                self._receive_frame(connection, min(wait_s, 3600.0))
            except ConnectionClosed as closed:
                self._handle_disconnect(closed)

    def _receive_frame(self, connection: ClientConnection, wait_s: float) -> GatewayFrame | None:
        """Receive one frame and store its item for `listen`. Raises ConnectionClosed."""
        try:
            received: GatewayFrame = json.loads(connection.recv(wait_s))
        except TimeoutError:
            return None
        if again := self._received.take(received):
            self._send_frame({"ack": again})
        return received

    def _connected(self, end: float = inf) -> ClientConnection:
        """Return the connection, made with backoff if necessary. Raises NotAllowed, Conflict, Unreachable
        after the patience.
        """
        failures, patient_until = 0, time.monotonic() + self._patience_s
        while self._connection is None:
            self._check_not_closed()
            try:
                self._connection = connection = self._connect()
                if self._closed.is_set():
                    connection.close()
                    self._check_not_closed()
                self._reconnecting = False
                return connection
            except ssl.SSLCertVerificationError as error:
                raise Unusable(
                    f"the certificate of the gateway at {self._url} is not accepted: {error.verify_message}",
                    "use the name that the certificate has; name its authority: Client(…, ca=FILE)",
                ) from error
            except (OSError, InvalidHandshake, ConnectionClosed, TimeoutError) as error:
                self._check_not_closed()
                if isinstance(error, ConnectionClosed):
                    self._handle_disconnect(error)
                self._log_reconnecting(error)
                if time.monotonic() >= patient_until:
                    raise Unreachable(
                        f"no gateway answers at {self._url}: {error}",
                        "see whether it is running: coord gateway",
                    ) from error
                self._closed.wait(min(delay_s(failures), max(0.0, patient_until - time.monotonic())))
                failures += 1
        return self._connection

    def _connect(self) -> ClientConnection:
        headers = {"Authorization": f"Bearer {self._token}"}
        create_connection: Any = self._create_connection  # the parameter is declared as a class
        try:
            handshaking = connect(
                self._url,
                additional_headers=headers,
                max_size=LARGEST_FRAME,
                open_timeout=HANDSHAKE_S,
                compression=None,
                create_connection=create_connection,
                ssl=self._tls,
            )
            connection = handshaking.__enter__()  # closed by `close`
            self._resume(connection)
        finally:
            self._handshaking = None
        return connection

    def _create_connection(self, *args: Any, **options: Any) -> ClientConnection:
        """Keep the connection during its handshake, so that `close` can shut it down."""
        self._handshaking = handshaking = ClientConnection(*args, **options)
        if self._closed.is_set():
            _shut_down(handshaking)
        return handshaking

    def _resume(self, connection: ClientConnection) -> None:
        try:
            connection.send(json.dumps({"resume": self.position}))
            while "welcome" not in (self._receive_frame(connection, HANDSHAKE_S) or _raise_timeout()):
                pass
            since = self._received.events_received
            repeated = {name for name in self._topics if since and is_of_coord(name)}
            if live := self._topics - repeated:
                self._subscribe_again(connection, live)
                self._received.add(Gap())
            if repeated:
                self._subscribe_again(connection, repeated, since=since)
        except BaseException:
            connection.close()
            raise

    def _subscribe_again(self, connection: ClientConnection, patterns: set[str], **more: Any) -> None:
        connection.send(json.dumps({"subscribe": sorted(patterns), **more}))
        while "subscribed" not in (self._receive_frame(connection, HANDSHAKE_S) or _raise_timeout()):
            pass

    def _check_not_closed(self) -> None:
        if self._closed.is_set():
            raise Closed("this client was closed", "make another one, with the position of this one")

    def _log_reconnecting(self, why: Exception) -> None:
        """Log the outage once."""
        if not self._reconnecting:
            self._reconnecting = True
            logger.warning("reconnecting to the gateway at %s: %s", self._url, why)

    def _handle_disconnect(self, closed: ConnectionClosed) -> None:
        self._connection = None
        self._check_not_closed()
        code = closed.rcvd.code if closed.rcvd else None
        if code == TOKEN:
            raise NotAllowed(
                "the gateway does not know this token", "get a new one: coord gateway --grant YOU"
            ) from closed
        if code == TAKEN_OVER:
            raise Conflict(
                "the same recipient connected elsewhere", "use one client at a time per recipient"
            ) from closed
        if code == BAD_FRAME:
            raise UsageError(
                "the gateway did not understand this client", "install the same version on both"
            ) from closed
        self._log_reconnecting(closed)

    def _next_seq(self) -> int:
        """Return a number that grows over restarts, too: the clock in µs."""
        self._seq = max(self._seq + 1, time.time_ns() // 1000)
        return self._seq


def _trusting(ca: str | Path | None) -> ssl.SSLContext:
    """Return a context that verifies name and certificate. Raises UsageError."""
    try:
        context = ssl.create_default_context(cafile=ca)
    except OSError as error:  # ssl.SSLError too
        raise UsageError(f"{ca} holds no certificates: {error}", "name a PEM file of authorities") from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _shut_down(connection: ClientConnection) -> None:
    """Shut the socket down, which ends a thread's wait for it, without a closing handshake."""
    with suppress(OSError):
        connection.socket.shutdown(socket.SHUT_RDWR)


def _raise_timeout() -> GatewayFrame:
    raise TimeoutError("the gateway does not answer")


def _answers(received: GatewayFrame, answer: str, seq: int | None, frame: GatewayFrame) -> bool:
    """Return whether `received` answers this frame, positively or with a refusal."""
    if answer in received:
        return seq is None or received[answer]["seq"] == seq
    refused = received.get("refused")
    return refused is not None and (
        refused.get("seq") == seq if seq is not None else next(iter(frame)) in refused
    )


__all__ = ["Client", "Closed", "Event", "Gap", "Message", "Missed"]
