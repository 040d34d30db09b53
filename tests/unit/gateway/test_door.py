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

from coordination.gateway.door import door
from coordination.gateway.line import Line

WITHIN_S = 0.1
LONG_S = 30


async def _echo(socket: WebSocket) -> None:
    await socket.accept()
    while True:
        await socket.send_text(await socket.receive_text())


async def _serving() -> asyncio.Server:
    config = Config(Starlette(routes=[WebSocketRoute("/", _echo)]), http=door(WITHIN_S), ws=Line, log_config=None)
    config.load()
    state = ServerState()
    loop = asyncio.get_running_loop()
    return await loop.create_server(lambda: config.http_protocol_class(config, state, {}), "127.0.0.1")  # type: ignore[call-arg]


def _port(server: asyncio.Server) -> int:
    return int(server.sockets[0].getsockname()[1])


@pytest.mark.parametrize("said", [b"", b"GET / HTTP/1.1\r\nHost: x\r\n"])
def test_who_does_not_say_what_it_wants_is_let_go(said: bytes):
    async def wait() -> bytes:
        async with await _serving() as server, asyncio.timeout(LONG_S):
            reader, writer = await asyncio.open_connection("127.0.0.1", _port(server))
            writer.write(said)
            try:
                return await reader.read()
            except ConnectionResetError:
                return b""
            finally:
                writer.close()

    assert asyncio.run(wait()) == b""


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
