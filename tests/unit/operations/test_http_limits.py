"""A connection that never says what it wants is let go, and a WebSocket is not."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket
from uvicorn.config import Config
from uvicorn.server import ServerState
from websockets.asyncio.client import connect

from coordination.gateway.client_connection import ClientConnection
from coordination.operations.http_limits import http_limits

WITHIN_S = 0.1
MOST = 3
LONG_S = 30


async def _echo(socket: WebSocket) -> None:
    await socket.accept()
    while True:
        await socket.send_text(await socket.receive_text())


async def _serving(within_s: float = WITHIN_S) -> asyncio.Server:
    config = Config(
        Starlette(routes=[WebSocketRoute("/", _echo)]),
        http=http_limits(within_s, MOST),
        ws=ClientConnection,
        log_config=None,
    )
    config.load()
    state = ServerState()
    loop = asyncio.get_running_loop()
    protocol = lambda: config.http_protocol_class(config, state, {})  # type: ignore[call-arg]  # noqa: E731
    return await loop.create_server(protocol, "127.0.0.1")


def _port(server: asyncio.Server) -> int:
    return int(server.sockets[0].getsockname()[1])


@pytest.mark.parametrize(
    "said",
    [b"", b"GET / HTTP/1.1\r\nHost: x\r\n", b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nhalf"],
)
def test_who_does_not_say_what_it_wants_is_let_go(said: bytes):
    async def wait() -> None:
        async with await _serving() as server, asyncio.timeout(LONG_S):
            reader, writer = await asyncio.open_connection("127.0.0.1", _port(server))
            writer.write(said)
            with suppress(ConnectionResetError):
                await reader.read()
            writer.close()

    asyncio.run(wait())


def test_who_comes_when_as_many_as_may_are_connected_is_let_go():
    async def come() -> list[bool]:
        async with await _serving(LONG_S) as server, asyncio.timeout(LONG_S):
            lines = [await asyncio.open_connection("127.0.0.1", _port(server)) for _ in range(MOST + 1)]
            with suppress(ConnectionResetError):
                await lines[-1][0].read()
            at_end = [reader.at_eof() for reader, _ in lines]
            for _, writer in lines:
                writer.close()
            return at_end

    assert asyncio.run(come())[:MOST] == [False] * MOST


def test_a_websocket_stays():
    async def talk() -> str:
        async with (
            await _serving() as server,
            asyncio.timeout(LONG_S),
            connect(f"ws://127.0.0.1:{_port(server)}/") as line,
        ):
            silent, writer = await asyncio.open_connection("127.0.0.1", _port(server))
            with suppress(ConnectionResetError):
                await silent.read()  # until whoever came later has been let go
            writer.close()
            await line.send("here")
            return str(await line.recv())

    assert asyncio.run(talk()) == "here"
