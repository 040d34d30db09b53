"""The gateway application: it admits clients, runs one session each, and ends within two seconds on TERM or
Ctrl-C.

A recipient has at most one session over all gateways; the latest one wins. A subscription in Redis wakes all
clients (new messages, events, tokens that ended); changes that it misses during an outage of Redis are looked
up afterwards. topics.py repeats earlier events.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from types import FrameType

import redis
import uvicorn
from redis import Redis
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketDisconnected

from coordination.backend.client import Profile, address_of, connect
from coordination.backend.keys import Keys
from coordination.background import BackgroundService
from coordination.credentials.store import CredentialStore, credentials_file
from coordination.errors import Unreachable, Unusable
from coordination.events.kinds import GAP
from coordination.events.stream import EventStream, Follower
from coordination.gateway.access import (
    SUBPROTOCOL,
    Grant,
    Guess,
    News,
    TokenGuesses,
    Tokens,
    guess_of,
    is_allowed_origin,
    token_of,
)
from coordination.gateway.clients import Clients
from coordination.gateway.limits import GONE, LATER, POLICY, TOO_SLOW, CloseReason, Left, Limits
from coordination.gateway.line import GOODBYE_S, Line, receive_resume
from coordination.gateway.redis_executor import RedisExecutor
from coordination.gateway.session import Session
from coordination.gateway.topics import GatewayTopics, topic_event
from coordination.gateway.webhooks import Webhooks
from coordination.messages import MessageBus
from coordination.messages.bus import open_bus
from coordination.messages.topics import is_of_coord, read_event
from coordination.operations.http_limits import http_limits
from coordination.settings import Settings

LOOK_EVERY_S = 1.0
AGAIN_AFTER_S = 1.0
REFUSED_AGAIN_AFTER_S = 60.0

logger = logging.getLogger(__name__)


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
        """Wait for a message and pass it on; return whether one came."""
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
        """Pass on what is new; return how many events."""
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


SENDER = "gateway:webhooks"
"""Name of the sender of messages about webhooks."""


class Gateway:
    """State shared by all clients. `bus_of` returns the bus of a sender; `reader` must block without a
    timeout of its own.
    """

    def __init__(
        self,
        redis: Redis,
        reader: Redis,
        keys: Keys,
        bus_of: Callable[[str], MessageBus],
        pages: Collection[str],
        limits: Limits,
    ) -> None:
        self._redis, self._reader, self._keys = redis, reader, keys
        self._bus_of, self._pages, self._limits = bus_of, pages, limits
        self._tokens = Tokens(redis, keys.gateway)
        self._guesses = TokenGuesses(limits.tries)
        self._guess_lock = asyncio.Lock()
        self._connected = 0

    def app(self) -> Starlette:
        routes = [
            WebSocketRoute("/", self._accept),
            Route("/webhooks/{name}", self._webhook, methods=["POST"]),
        ]
        return Starlette(routes=routes, lifespan=self._open)

    @asynccontextmanager
    async def _open(self, _: Starlette) -> AsyncIterator[None]:
        self._executor = RedisExecutor(self._tokens.ping)
        topics = GatewayTopics(EventStream(self._redis, self._keys.namespace), address_of(self._redis))
        self._clients = Clients(self._executor, self._tokens, topics)
        credentials = CredentialStore(credentials_file())
        self._webhooks = Webhooks(credentials, self._bus_of(SENDER), self._executor, self._guesses)
        listeners = (
            Listener(self._reader, self._keys, self._clients),
            EventListener(self._reader, self._keys.namespace, self._clients),
        )
        checking = asyncio.create_task(self._clients.check_tokens())
        for listener in listeners:
            listener.start()
        try:
            yield
        finally:
            checking.cancel()
            for listener in listeners:
                listener.stop()
            self._executor.close()

    async def _accept(self, socket: WebSocket) -> None:
        if not is_allowed_origin(socket.headers, self._pages):
            await socket.close()  # before it is accepted, which answers 403
            return
        self._connected += 1
        try:
            offered = socket.scope["subprotocols"]
            await socket.accept(SUBPROTOCOL if SUBPROTOCOL in offered else None)
            await _close(socket, await self._serve(socket, token_of(socket.headers, offered)))
        except (WebSocketDisconnect, WebSocketDisconnected):
            pass
        finally:
            self._connected -= 1

    async def _webhook(self, request: Request) -> Response:
        return await self._webhooks.receive(request)

    async def _serve(self, socket: WebSocket, token: str) -> CloseReason:
        if self._connected > self._limits.clients:
            return LATER
        try:
            grant = await self._admit(socket, token)
            resume = await receive_resume(socket, self._limits.hello_s)
        except Left as left:
            return left.reason
        bus = self._bus_of(grant.recipient)
        session = Session(socket, grant, token, bus, self._executor, self._limits, self._clients.topics)
        try:
            await self._clients.enter(session)
            return await session.serve(resume)
        finally:
            session.ended.set()
            self._clients.exit(session)

    async def _admit(self, socket: WebSocket, token: str) -> Grant:
        """Return the grant of the token. Raises Left."""
        guess = guess_of(token, socket.client.host if socket.client else "")
        try:
            grant = await self._owner(token, guess)
        except Unreachable as error:
            raise Left(LATER) from error
        if grant is None:
            self._guesses.failed(guess)
            raise Left(POLICY)
        return grant

    async def _owner(self, token: str, guess: Guess) -> Grant | None:
        """Look the token up; when there are many guesses, one at a time, so that they occupy
        one thread only.
        """
        if not self._guesses.exhausted(guess):
            return await self._executor.once(lambda: self._tokens.grant_of(token))
        async with self._guess_lock:
            return await self._executor.once(lambda: self._tokens.grant_of(token))


async def _close(socket: WebSocket, reason: CloseReason) -> None:
    """Close the connection, with a reason for clients that read it."""
    line: Line = socket.state.line
    if reason is TOO_SLOW:
        line.hang_up()
    elif reason is not GONE:
        asyncio.get_running_loop().call_later(GOODBYE_S, line.hang_up)
        await socket.close(reason.code, reason.words)


def open_gateway(url: str, settings: Settings, pages: Collection[str]) -> tuple[Gateway, Limits]:
    redis = _client(url, settings, Profile.WORKER)
    limits = Limits(
        window=settings.gateway_window,
        ping_s=settings.gateway_ping.total_seconds(),
        send_s=settings.gateway_send_timeout.total_seconds(),
        proxies=settings.gateway_proxies,
    )

    def bus_of(recipient: str) -> MessageBus:
        return open_bus(redis, settings, recipient)

    reader = _client(url, settings, Profile.READER)
    return Gateway(redis, reader, Keys(settings.namespace), bus_of, pages, limits), limits


def open_tokens(url: str, settings: Settings) -> Tokens:
    return Tokens(_client(url, settings, Profile.COMMAND), Keys(settings.namespace).gateway)


def open_gateway_bus(url: str, settings: Settings) -> MessageBus:
    return open_bus(_client(url, settings, Profile.COMMAND), settings)


def _client(url: str, settings: Settings, profile: Profile) -> Redis:
    return connect(url, profile, settings.connect_timeout)


STOPS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
GRACE_S = 2
BACKLOG = 2048
"""Number of connections that wait to be accepted: all clients of a stopped gateway reconnect at once."""


def serve(
    gateway: Gateway, listening: socket.socket, limits: Limits, tls: ssl.SSLContext | None = None
) -> None:
    """Run the gateway until it is stopped. `tls`: None for plain HTTP."""
    server = uvicorn.Server(
        uvicorn.Config(
            gateway.app(),
            http=http_limits(limits.hello_s, limits.clients),
            ws=Line,
            ws_max_size=limits.frame_bytes,
            ws_ping_interval=limits.ping_s,
            ws_ping_timeout=limits.ping_s,
            ws_per_message_deflate=False,  # would take 0.3 MiB for each client that requests it
            backlog=BACKLOG,
            proxy_headers=bool(limits.proxies),
            forwarded_allow_ips=list(limits.proxies),
            timeout_graceful_shutdown=GRACE_S,
            log_config=None,
            access_log=False,
            ssl_context_factory=None if tls is None else lambda *_: tls,
        )
    )

    def stop(_number: int, _frame: FrameType | None) -> None:
        server.should_exit = True

    # uvicorn restores these handlers and raises the signal again; they ignore it then.
    for number in STOPS:
        signal.signal(number, stop)
    server.run(sockets=[listening])
