"""The Lua steps by name: `run/settle` is lua/run/settle.lua, behind what its folder's files with a leading underscore share.

A shared file that begins with `-- uses: lock` stands behind what the folder `lock` shares.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import Any

from redis import Redis
from redis.commands.core import Script

from coordination.wire.keys import LUA_NAMES

_FOLDER = files("coordination.wire") / "lua"
_USES = "-- uses: "
_NAMES = "local KEY = {{ {} }}".format(", ".join(f"{name} = '{part}'" for name, part in LUA_NAMES.items()))


@cache
def source(name: str) -> str:
    room, _, step = name.partition("/")
    return "\n".join([_NAMES, *_shared(room), (_FOLDER / room / f"{step}.lua").read_text()])


def _shared(room: str) -> list[str]:
    """What the room's steps share, behind what that uses of other rooms; nothing twice."""
    texts: list[str] = []
    for file in sorted((f for f in (_FOLDER / room).iterdir() if f.name.startswith("_")), key=lambda f: f.name):
        text = file.read_text()
        first = text.partition("\n")[0]
        used = first.removeprefix(_USES).split() if first.startswith(_USES) else []
        texts += [part for other in used for part in _shared(other)] + [text]
    return list(dict.fromkeys(texts))


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
