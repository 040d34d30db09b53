"""The Lua steps by name: `run/settle` is lua/run/settle.lua, behind what its folder's files with a leading underscore share.

What is shared stands at the step's line `-- shared`, else before all of it: what is above that line is done before any function
that is shared is made. A file that begins with `-- uses: lock` stands behind what the folder `lock` shares. `KEY.queue` is the part
of a key's name that keys.py has under `queue`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from hashlib import sha1
from importlib.resources import files
from typing import Any

from redis import Redis
from redis.exceptions import NoScriptError

from coordination.backend.keys import LUA_NAMES

_FOLDER = files("coordination.backend") / "lua"
_USES = "-- uses: "
_HERE = "\n-- shared\n"
_NAME = re.compile(r"\bKEY\.(\w+)")
_WORD = re.compile(r"\w+(?:\.\w+)*")
_FUNCTION = re.compile(  # on one line, or up to the next `end` as far to the right as its beginning
    r"^( *)(?:local )?function ([\w.]+)(?:[^\n]* end|[^\n]*(?<! end)(?:\n(?!\1end$)[^\n]*)*\n\1end)$", re.MULTILINE
)


@cache
def source(name: str) -> str:
    room, _, step = name.partition("/")
    own = (_FOLDER / room / f"{step}.lua").read_text(encoding="utf-8")
    shared = "\n".join(dict.fromkeys([*_used(own), *_shared(room)]))
    above, _, below = own.rpartition(_HERE)
    text = f"{above}\n{_without_idle_functions(shared, below)}\n{below}"
    return _NAME.sub(lambda name: f"'{LUA_NAMES[name[1]]}'", text)  # a table would be made anew at each call


@cache
def digest(name: str) -> str:
    """What a server calls the step, once it was sent whole."""
    return sha1(source(name).encode(), usedforsecurity=False).hexdigest()


def _without_idle_functions(shared: str, step: str) -> str:
    """Without those that the step does not come to call: each that stands there is made anew at every call of the step."""
    functions = {match[2]: match[0] for match in _FUNCTION.finditer(shared)}
    called, texts = set[str](), [_FUNCTION.sub("", shared), step]
    while texts:
        new = functions.keys() & set(_WORD.findall(texts.pop())) - called
        called |= new
        texts += [functions[name] for name in new]
    return _FUNCTION.sub(lambda match: match[0] if match[2] in called else "", shared)


def _shared(room: str) -> list[str]:
    """What the room's steps share, behind what that uses of other rooms; nothing twice."""
    texts: list[str] = []
    for file in sorted((f for f in (_FOLDER / room).iterdir() if f.name.startswith("_")), key=lambda f: f.name):
        text = file.read_text(encoding="utf-8")
        texts += [*_used(text), text]
    return list(dict.fromkeys(texts))


def _used(text: str) -> list[str]:
    first = text.partition("\n")[0]
    rooms = first.removeprefix(_USES).split() if first.startswith(_USES) else []
    return [part for room in rooms for part in _shared(room)]


class Scripts:
    """Calls steps on one Redis, through a client of redis-py with its pool and its patience; a Line (line.py) has its own."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    def __call__(self, name: str, keys: Sequence[str], args: Sequence[str | int | float | bytes]) -> Any:
        try:
            return self._redis.evalsha(digest(name), len(keys), *keys, *args)
        except NoScriptError:
            self.load(name)
            return self._redis.evalsha(digest(name), len(keys), *keys, *args)

    def load(self, name: str) -> None:
        """For a server that does not know the step, or not any more."""
        self._redis.script_load(source(name))
