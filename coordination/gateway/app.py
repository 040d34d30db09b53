"""The application: a client comes in, is one session, and leaves.

A gateway made from an address and settings, from its start to its end; on TERM or Ctrl-C clients have two seconds to go.
"""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from types import FrameType

import uvicorn
from redis import Redis
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketDisconnected

from coordination.backend.client import Profile, connect
from coordination.backend.keys import Keys
from coordination.errors import Unreachable
from coordination.gateway.access import SUBPROTOCOL, Grant, Guess, Tokens, Tries, guess_of, may_ask, token_of
from coordination.gateway.clients import Clients
from coordination.gateway.limits import GONE, LATER, POLICY, TOO_SLOW, CloseReason, Left, Limits
from coordination.gateway.line import GOODBYE_S, Line, hello
from coordination.gateway.listener import Listener
from coordination.gateway.redis_executor import RedisExecutor
from coordination.gateway.session import Session
from coordination.messages import MessageBus
from coordination.messages.bus import open_bus
from coordination.operations.listening import http_limits
from coordination.settings import Settings


class Gateway:
    """What all clients share. `bus_of` makes the bus on which a recipient sends; `reader` waits without a timeout of its own."""

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
        self._tries = Tries(limits.tries)
        self._guessing = asyncio.Lock()
        self._connected = 0

    def app(self) -> Starlette:
        return Starlette(routes=[WebSocketRoute("/", self._come)], lifespan=self._open)

    @asynccontextmanager
    async def _open(self, _: Starlette) -> AsyncIterator[None]:
        self._executor = RedisExecutor(self._tokens.ping)
        self._clients = Clients(self._executor, self._tokens)
        listener = Listener(self._reader, self._keys, self._clients)
        doubting = asyncio.create_task(self._clients.doubt())
        listener.start()
        try:
            yield
        finally:
            doubting.cancel()
            listener.stop()
            self._executor.close()

    async def _come(self, socket: WebSocket) -> None:
        if not may_ask(socket.headers, self._pages):
            await socket.close()  # before it is accepted: an answer 403
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

    async def _serve(self, socket: WebSocket, token: str) -> CloseReason:
        if self._connected > self._limits.clients:
            return LATER
        try:
            grant = await self._admitted(socket, token)
            resume = await hello(socket, self._limits.hello_s)
        except Left as left:
            return left.ending
        bus = self._bus_of(grant.recipient)
        session = Session(socket, grant, token, bus, self._executor, self._limits, self._clients.topics)
        try:
            await self._clients.enter(session)
            return await session.serve(resume)
        finally:
            session.ended.set()
            self._clients.exit(session)

    async def _admitted(self, socket: WebSocket, token: str) -> Grant:
        """Whose token that is, and what for; raises Left."""
        guess = guess_of(token, socket.client.host if socket.client else "")
        try:
            grant = await self._owner(token, guess)
        except Unreachable as error:
            raise Left(LATER) from error
        if grant is None:
            self._tries.failed(guess)
            raise Left(POLICY)
        return grant

    async def _owner(self, token: str, guess: Guess) -> Grant | None:
        """Look the token up. Where guesses are many, one at a time: they take one of the threads, not all."""
        if not self._tries.exhausted(guess):
            return await self._executor.once(lambda: self._tokens.grant_of(token))
        async with self._guessing:
            return await self._executor.once(lambda: self._tokens.grant_of(token))


async def _close(socket: WebSocket, ending: CloseReason) -> None:
    """In words where the client reads them, and for good."""
    line: Line = socket.state.line
    if ending is TOO_SLOW:
        line.hang_up()
    elif ending is not GONE:
        asyncio.get_running_loop().call_later(GOODBYE_S, line.hang_up)
        await socket.close(ending.code, ending.words)


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
"""Clients of a gateway that was stopped come all at once."""


def serve(gateway: Gateway, listening: socket.socket, limits: Limits) -> None:
    """Until we are stopped."""
    server = uvicorn.Server(
        uvicorn.Config(
            gateway.app(),
            http=http_limits(limits.hello_s, limits.clients),
            ws=Line,
            ws_max_size=limits.frame_bytes,
            ws_ping_interval=limits.ping_s,
            ws_ping_timeout=limits.ping_s,
            ws_per_message_deflate=False,  # 0.3 MiB for each client that asks for it
            backlog=BACKLOG,
            proxy_headers=bool(limits.proxies),
            forwarded_allow_ips=list(limits.proxies),
            timeout_graceful_shutdown=GRACE_S,
            log_config=None,
            access_log=False,
        )
    )

    def stop(_number: int, _frame: FrameType | None) -> None:
        server.should_exit = True

    for number in STOPS:  # uvicorn ends itself by the signal that it got; ours, which it puts back first, end nothing
        signal.signal(number, stop)
    server.run(sockets=[listening])
