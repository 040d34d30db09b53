"""The application: a client comes in, is one session, and leaves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager

from redis import Redis
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketDisconnected

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
        self._desk = RedisExecutor(self._tokens.ping)
        self._clients = Clients(self._desk, self._tokens)
        listener = Listener(self._reader, self._keys, self._clients)
        doubting = asyncio.create_task(self._clients.doubt())
        listener.start()
        try:
            yield
        finally:
            doubting.cancel()
            listener.stop()
            self._desk.close()

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
        session = Session(socket, grant, token, bus, self._desk, self._limits, self._clients.topics)
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
            return await self._desk.once(lambda: self._tokens.grant_of(token))
        async with self._guessing:
            return await self._desk.once(lambda: self._tokens.grant_of(token))


async def _close(socket: WebSocket, ending: CloseReason) -> None:
    """In words where the client reads them, and for good."""
    line: Line = socket.state.line
    if ending is TOO_SLOW:
        line.hang_up()
    elif ending is not GONE:
        asyncio.get_running_loop().call_later(GOODBYE_S, line.hang_up)
        await socket.close(ending.code, ending.words)
