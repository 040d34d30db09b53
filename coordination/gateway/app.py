"""The gateway application: it admits clients, runs one session each, and ends within two seconds on TERM or
Ctrl-C.

A recipient has at most one session over all gateways; the latest one wins.
"""

from __future__ import annotations

import asyncio
import signal
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from types import FrameType
from typing import TYPE_CHECKING

import uvicorn
from redis import Redis
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketDisconnected

from coordination.api.authority import CREDENTIAL
from coordination.backend.client import Profile, address_of, connect
from coordination.backend.keys import Keys
from coordination.credentials.store import CredentialStore, credentials_file
from coordination.errors import Unreachable
from coordination.events.stream import EventStream
from coordination.gateway.access import (
    EVERYTHING,
    SUBPROTOCOL,
    Grant,
    Guess,
    TokenGuesses,
    Tokens,
    guess_of,
    is_allowed_origin,
    token_of,
)
from coordination.gateway.client_connection import GOODBYE_S, ClientConnection, receive_resume
from coordination.gateway.clients import Clients, EventListener, Listener
from coordination.gateway.limits import GONE, LATER, POLICY, TOO_SLOW, CloseReason, Left, Limits
from coordination.gateway.redis_executor import RedisExecutor
from coordination.gateway.session import Session
from coordination.gateway.topics import GatewayTopics
from coordination.gateway.webhooks import Webhooks
from coordination.messages import MessageBus
from coordination.messages.bus import open_bus
from coordination.operations.http_limits import http_limits
from coordination.settings import Settings

if TYPE_CHECKING:
    from coordination.api.access import EcosystemAccess

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
            grant = await self._look_up(token, guess)
        except Unreachable as error:
            raise Left(LATER) from error
        if grant is None:
            self._guesses.failed(guess)
            raise Left(POLICY)
        return grant

    async def _look_up(self, token: str, guess: Guess) -> Grant | None:
        """Look the token up. After many wrong tokens, look tokens up one at a time, so that they occupy only
        one thread.
        """
        if not self._guesses.exhausted(guess):
            return await self._executor.once(lambda: self._tokens.grant_of(token))
        async with self._guess_lock:
            return await self._executor.once(lambda: self._tokens.grant_of(token))


async def _close(socket: WebSocket, reason: CloseReason) -> None:
    """Close the connection, with a reason for clients that read it."""
    connection: ClientConnection = socket.state.connection
    if reason is TOO_SLOW:
        connection.hang_up()
    elif reason is not GONE:
        asyncio.get_running_loop().call_later(GOODBYE_S, connection.hang_up)
        await socket.close(reason.code, reason.text)


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


def grant_token(coord: EcosystemAccess, recipient: str, topics: Sequence[str] = ()) -> str:
    """Return a new token of a recipient, for these topics (default: all). Messages to it are kept from now
    on. Raises UsageError, NotAllowed, Unreachable.
    """
    coord.authority.check(CREDENTIAL)
    tokens = open_tokens(coord.redis_url, coord.settings)
    token = tokens.grant(recipient, topics or EVERYTHING)
    with coord.answering() as connection:
        connection.messages.register(recipient)
    return token


def revoke_token(coord: EcosystemAccess, recipient: str) -> None:
    """Revoke the token of a recipient, and end its session. Raises NotFound, NotAllowed, Unreachable."""
    coord.authority.check(CREDENTIAL)
    open_tokens(coord.redis_url, coord.settings).revoke(recipient)


def list_tokens(coord: EcosystemAccess) -> tuple[Grant, ...]:
    """Return the recipients that have a token."""
    return open_tokens(coord.redis_url, coord.settings).list()


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
            ws=ClientConnection,
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
