"""A client's connection in uvicorn: reading frames, and disconnecting clients that do not read.

uvicorn can wait until a client has room, but not until the bytes have left this process, and it closes
connections gracefully, which keeps unread data in memory as long as the client likes. Here, a frame counts as
sent when the kernel has it, and a connection can be closed at once.
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


async def receive(socket: WebSocket) -> str:
    """Return the text of the next frame. Raises BadFrame, WebSocketDisconnect."""
    received = await socket.receive()
    if received["type"] == "websocket.disconnect":
        raise WebSocketDisconnect(received["code"])
    text: str | None = received.get("text")
    if text is None:
        raise frames.BadFrame("a frame is text, not binary", "send JSON as text")
    return text


async def receive_resume(socket: WebSocket, within_s: float) -> frames.Resume:
    """Return a client's first frame. Raises Left, WebSocketDisconnect."""
    try:
        async with asyncio.timeout(within_s):
            received = frames.read(await receive(socket))
        if isinstance(received, frames.Resume):
            return received
        raise frames.BadFrame("the first frame must be resume", 'send {"resume": null}, or your position')
    except TimeoutError:
        raise Left(BAD_FRAME) from None
    except frames.BadFrame as error:
        await socket.send_text(frames.refused({}, error))
        raise Left(BAD_FRAME) from error


GOING_AWAY = 1001
GOODBYE_S = 5.0
"""Time for a client to answer a close frame."""


class ClientConnection(WebSocketsSansIOProtocol):
    """The WebSocket protocol; an application finds it in `scope["state"]["connection"]`."""

    def __init__(
        self, config: Config, server_state: ServerState, app_state: dict[str, Any], *more: Any
    ) -> None:
        super().__init__(config, server_state, {**app_state, "connection": self}, *more)
        self.gone = asyncio.Event()
        self.close_timeout = GOODBYE_S

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        # With TLS, asyncio pauses at the limit itself: 0 would pause a connection that has nothing to send.
        # Up to 64 KiB more may then wait in the plain transport below.
        encrypted = transport.get_extra_info("sslcontext") is not None
        self.transport.set_write_buffer_limits(high=int(encrypted), low=0)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.gone.set()

    async def send(self, message: Any) -> None:
        await self.writable.wait()
        if self.close_sent:  # by this side, while another task had more to send
            raise ClientDisconnected
        await super().send(message)

    async def flushed(self) -> None:
        """Wait until the kernel has taken all sent data."""
        await self.writable.wait()

    def hang_up(self) -> None:
        """Close at once and discard unsent data."""
        self.transport.abort()

    def keepalive_timeout(self) -> None:
        self.hang_up()

    def shutdown(self) -> None:
        if self.handshake_complete and not self.close_sent:
            self.queue.put_nowait({"type": "websocket.disconnect", "code": GOING_AWAY})
            self.conn.send_close(GOING_AWAY, "connect to another gateway")
            self.transport.write(b"".join(self.conn.data_to_send()))
            self.close_sent = True
        super().shutdown()
