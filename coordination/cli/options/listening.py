"""Where something that is started here listens: `[HOST:]PORT`, on loopback unless a host is named."""

from __future__ import annotations

import re

from coordination.errors import UsageError

LOOPBACK = "127.0.0.1"


def parse(option: str, words: str) -> tuple[str, int]:
    """Host and port; raises UsageError."""
    found = re.fullmatch(r"(?:\[?(?P<host>[^\]]+)\]?:)?(?P<port>\d{1,5})", words)
    if found is None or not 0 < int(found["port"]) < 65536:
        raise UsageError(f"{option} {words}: no address to listen on", "write a port, or HOST:PORT")
    return found["host"] or LOOPBACK, int(found["port"])
