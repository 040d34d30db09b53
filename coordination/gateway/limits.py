"""The figures of the gateway that someone may want to change."""

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
