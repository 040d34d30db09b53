"""A client's connection as uvicorn has it: what the client says, and what one that does not read makes necessary.

uvicorn lets us wait until a client has room, but not for the bytes that are still here, and it closes politely: what is not
read stays in memory for as long as the other side likes. Here sent means handed to the kernel, and a connection is closed at once.
"""

from __future__ import annotations

import asyncio
from typing import Any

from starlette.websockets import WebSocket, WebSocketDisconnect
from uvicorn.config import Config
from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from uvicorn.server import ServerState

from coordination.gateway import frames
from coordination.gateway.limits import BAD_FRAME, Left


async def heard(socket: WebSocket) -> str:
    """The text of the next frame; raises BadFrame, WebSocketDisconnect."""
    said = await socket.receive()
    if said["type"] == "websocket.disconnect":
        raise WebSocketDisconnect(said["code"])
    text: str | None = said.get("text")
    if text is None:
        raise frames.BadFrame("a frame is text, not binary", "send JSON as text")
    return text


async def hello(socket: WebSocket, within_s: float) -> frames.Resume:
    """What a client says first; raises Left, WebSocketDisconnect."""
    try:
        async with asyncio.timeout(within_s):
            said = frames.read(await heard(socket))
        if isinstance(said, frames.Resume):
            return said
        raise frames.BadFrame("the first frame is resume", 'say {"resume": null}, or where you were')
    except TimeoutError:
        raise Left(BAD_FRAME) from None
    except frames.BadFrame as error:
        await socket.send_text(frames.refused({}, error))
        raise Left(BAD_FRAME) from error


GOING_AWAY = 1001
GOODBYE_S = 5.0
"""For a client to answer that we close."""


class Line(WebSocketsSansIOProtocol):
    """An application finds its line in `scope["state"]["line"]`."""

    def __init__(self, config: Config, server_state: ServerState, app_state: dict[str, Any], *more: Any) -> None:
        super().__init__(config, server_state, {**app_state, "line": self}, *more)
        self.gone = asyncio.Event()
        self.close_timeout = GOODBYE_S

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.transport.set_write_buffer_limits(high=0)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.gone.set()

    async def send(self, message: Any) -> None:
        await self.writable.wait()
        if self.close_sent:  # by us, while somebody had more to say
            raise ClientDisconnected
        await super().send(message)

    async def flushed(self) -> None:
        """Until the kernel has taken all that was sent."""
        await self.writable.wait()

    def hang_up(self) -> None:
        """Now, with whatever was not read."""
        self.transport.abort()

    def keepalive_timeout(self) -> None:
        self.hang_up()

    def shutdown(self) -> None:
        if self.handshake_complete and not self.close_sent:
            self.queue.put_nowait({"type": "websocket.disconnect", "code": GOING_AWAY})
            self.conn.send_close(GOING_AWAY, "come again elsewhere")
            self.transport.write(b"".join(self.conn.data_to_send()))
            self.close_sent = True
        super().shutdown()
