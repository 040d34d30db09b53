"""Figures of the gateway that somebody may want to change, and how a session may end, as WebSocket close codes (ours: from 4000 on)."""

from __future__ import annotations

from dataclasses import dataclass

MIB = 1024 * 1024


@dataclass(frozen=True, kw_only=True)
class Limits:
    window: int = 32
    """So many messages a client has in hand at most; its inbox is read no further."""
    frame_bytes: int = 2 * MIB
    """The longest frame of a client: a payload of 1 MiB fits, escaped as most clients do it."""
    send_s: float = 20
    """A client that has not read what was sent for so long is let go."""
    ping_s: float = 20
    """Between two pings; who does not answer one for as long is gone."""
    hello_s: float = 10
    """Until a client's first frame."""
    interval_s: float = 1
    """A wake-up that was lost costs so much at most."""
    clients: int = 2000
    """At once; the next ones are told to come later."""
    tries: int = 10
    """Wrong tokens for one recipient from one address within a minute; the next ones are reported, and checked one by one."""
    proxies: tuple[str, ...] = ()
    """Networks of proxies whose X-Forwarded-For names the client's address."""
    subscriptions: int = 100
    """Patterns of topics that one client has at once."""
    events: int = 256
    """So many events wait for a client that does not read, and so many characters of them; then the oldest are dropped."""
    event_characters: int = 2 * MIB
    publish_per_s: int = 100
    publish_burst: int = 200
    """What one client may publish: so much a second, and so much at once."""


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
