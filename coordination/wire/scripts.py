"""The Lua steps by name: `run/settle` is lua/run/settle.lua, behind what its folder's files with a leading underscore share."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import Any

from redis import Redis
from redis.commands.core import Script

_FOLDER = files("coordination.wire") / "lua"


@cache
def source(name: str) -> str:
    folder = _FOLDER / name.partition("/")[0]
    shared = sorted(f.name for f in folder.iterdir() if f.name.startswith("_"))
    return "\n".join((folder / f).read_text() for f in [*shared, name.partition("/")[2] + ".lua"])


class Scripts:
    """Calls steps on one Redis; a step is sent whole once per server and by its hash from then on."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._known: dict[str, Script] = {}

    def __call__(self, name: str, keys: Sequence[str], args: Sequence[str | int | float | bytes]) -> Any:
        script = self._known.get(name)
        if script is None:
            script = self._known[name] = self._redis.register_script(source(name))
        return script(keys=list(keys), args=list(args))
