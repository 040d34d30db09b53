"""Limits of the gateway, and the reasons for which a session ends, as WebSocket close codes (own ones from
4000).
"""

from __future__ import annotations

from dataclasses import dataclass

MIB = 1024 * 1024


@dataclass(frozen=True, kw_only=True)
class Limits:
    window: int = 32
    """Messages in flight per client; beyond it the inbox is not read."""
    frame_bytes: int = 2 * MIB
    """Longest frame of a client; a payload of 1 MiB fits, escaped as most clients do."""
    send_s: float = 20
    """Time that a client may take to read a frame before it is disconnected."""
    ping_s: float = 20
    """Time between two pings, and time to answer one before the client is disconnected."""
    hello_s: float = 10
    """Time until a client's first frame."""
    interval_s: float = 1
    """Delay that a lost wake-up causes at most."""
    clients: int = 2000
    """Connected clients; further ones are told to retry later."""
    tries: int = 10
    """Wrong tokens per recipient and address within a minute; further ones are logged and
    checked one by one.
    """
    proxies: tuple[str, ...] = ()
    """Networks of proxies whose X-Forwarded-For names the client's address."""
    subscriptions: int = 100
    """Patterns of topics per client."""
    events: int = 256
    """Events that wait for a client that does not read; beyond it the oldest ones are dropped."""
    event_characters: int = 2 * MIB
    """Characters of these events; beyond it the oldest ones are dropped."""
    publish_per_s: int = 100
    """Events that one client may publish per second."""
    publish_burst: int = 200
    """Events that one client may publish at once."""


@dataclass(frozen=True)
class CloseReason:
    code: int
    words: str
    """Reason as text; a close frame has room for 123 bytes."""


POLICY = CloseReason(1008, "")
"""A wrong or revoked token. The client needs a new one; guessing clients get no further information."""
LATER = CloseReason(1013, "try again later")
"""Too many clients, or Redis is unreachable and no client can be admitted."""
BAD_FRAME = CloseReason(4000, "invalid frame for coord.v1")
TAKEN_OVER = CloseReason(4001, "the same recipient connected elsewhere")
TOO_SLOW = CloseReason(4002, "frames were not read in time")
GONE = CloseReason(1000, "")
"""The client closed, or its connection broke."""


class Left(Exception):
    """Ends a session; not an error."""

    def __init__(self, reason: CloseReason) -> None:
        self.reason = reason
        super().__init__(reason.words)
