"""How a session may end, as codes of WebSocket: those from 4000 on are an application's own."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class CloseReason:
    code: int
    words: str
    """A close frame has room for 123 bytes."""


POLICY = CloseReason(1008, "")
"""A wrong token, or one that was revoked: come back with another. Nothing more is said to whoever guesses."""
LATER = CloseReason(1013, "try again later")
"""Too many clients, or Redis is away and nobody can be let in."""
BAD_FRAME = CloseReason(4000, "that is no frame of coord.v1")
TAKEN_OVER = CloseReason(4001, "the same recipient came in elsewhere")
TOO_SLOW = CloseReason(4002, "what was sent was not read")
GONE = CloseReason(1000, "")
"""The client closed, or its connection broke."""


class Left(Exception):
    """No error: so a session ends."""

    def __init__(self, ending: CloseReason) -> None:
        self.ending = ending
        super().__init__(ending.words)
