"""What a client says, and what it says first."""

from __future__ import annotations

import asyncio

from starlette.websockets import WebSocket, WebSocketDisconnect

from coordination.gateway import frames
from coordination.gateway.close_reasons import BAD_FRAME, Left


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
