"""Builds the library of Redis Functions from the Lua files, and loads it into a server.

Redis stores a library with its data. Function names are global on a server, so each ends in the digest of the
library, `run_settle_1f6a…`: several versions of coord can use one server. The library's name contains the day
on which it was loaded. `load` deletes libraries of other versions that were loaded more than `KEPT` ago; a
version that is still in use then loads its library again.

A package can use the local functions of the packages around it: run can use those of breaker and lock. In the
source they are nested blocks, because Lua allows at most 200 local variables at once.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from hashlib import sha1
from importlib.resources import files
from typing import Any

import redis
from redis import Redis
from redis.exceptions import NoPermissionError, ResponseError

from coordination.backend.keys import LUA_NAMES
from coordination.backend.steps import STEPS, Step, StepMisuse, StepValue
from coordination.errors import Unusable

KEPT = timedelta(days=30)
PREFIX = "coord_"
_FOLDER = files("coordination.backend") / "lua"
_DATED = re.compile(PREFIX + r"(\d{8})_([0-9a-f]+)")


@dataclass(frozen=True)
class Package:
    """A folder of Lua files, in the order of the source: shared files, steps, inner packages."""

    name: str
    shared: tuple[str, ...] = ()
    prepare: str = "nil"
    """The function that assigns the package's state at the start of a call."""
    inner: tuple[Package, ...] = ()


_RUN = Package(
    "run",
    shared=(
        *("_needs", "_run", "_run_dispatch", "_agents", "_changes", "_run_durations", "_run_end", "_waves"),
        *("_run_remainder", "_shape", "_saga", "_turns", "_verdicts"),
    ),
    prepare="begin_run",
)
_LOCK = Package(
    "lock", shared=("_lock", "_queue"), inner=(Package("breaker", shared=("_breaker",), inner=(_RUN,)),)
)
PACKAGES = (
    Package("message", shared=("_message",), inner=(Package("inbox", shared=("_inbox",)), _LOCK)),
    Package("cache", shared=("_cache",)),
    Package("lease"),
    Package("log"),
    Package("queue"),
    Package("fleet"),
    Package("event"),
)


@cache
def digest() -> str:
    """Return the digest of the library: 16 hexadecimal digits."""
    return sha1(_body().encode(), usedforsecurity=False).hexdigest()[:16]


@cache
def function(name: str) -> str:
    """Return the name of the Redis function of the step `name`."""
    return f"{_base(name)}_{digest()}"


def fcall(step: Step[Any], keys: Sequence[str]) -> list[StepValue]:
    """Return the arguments of FCALL for a call: function, number of keys, keys, ARGV. Raises StepMisuse."""
    least, most, _, _ = step.counts
    if not least <= len(keys) <= most:
        raise StepMisuse(f"step {step.name} was called with {len(keys)} keys")
    return [function(step.name), len(keys), *keys, *step.arguments()]


def source(day: str) -> str:
    """Return the source of the library. `day`: the day of loading, such as `20261122`."""
    names = ", ".join(f"{name} = '{key}'" for name, key in LUA_NAMES.items())
    return (
        f"#!lua name={PREFIX}{day}_{digest()}\nlocal DIGEST = '{digest()}'\nlocal KEY = {{ {names} "
        f"}}\n{_body()}"
    )


@cache
def _body() -> str:
    return "\n".join(
        [_read("library"), _read("events"), *(line for package in PACKAGES for line in _block(package))]
    )


def _block(package: Package) -> Iterator[str]:
    yield f"do -- {package.name}"
    for name in package.shared:
        yield _read(f"{package.name}/{name}")
    for step in STEPS.values():
        if step.name.partition("/")[0] == package.name:
            yield _registered(step, package.prepare)
    for inner in package.inner:
        yield from _block(inner)
    yield f"end -- {package.name}"


def _registered(step: type[Step[Any]], prepare: str) -> str:
    flags = ", ".join(f"'{flag}'" for flag in step.flags)
    counts = ", ".join(map(str, step.counts))
    head = f"register('{_base(step.name)}', {{ {flags} }}, {{ {counts} }}, {prepare}, function(KEYS, ARGV)"
    return f"{head}\n{_read(step.name)}\nend)"


def _base(name: str) -> str:
    """Return the name of a step's function without the digest: `run_settle`."""
    return name.replace("/", "_")


def _read(name: str) -> str:
    return (_FOLDER / f"{name}.lua").read_text(encoding="utf-8").rstrip()


def is_missing(error: redis.RedisError) -> bool:
    """Return whether a call failed because the server does not have the function."""
    return isinstance(error, ResponseError) and "unction not found" in str(error)


def load(client: Redis, url: str) -> list[str]:
    """Load the library, if the server does not have it; return the names of the old libraries it deleted.

    Raises Unusable if the Redis user may not load functions.
    """
    today = datetime.now(UTC)
    try:
        client.execute_command("FUNCTION", "LOAD", source(today.strftime("%Y%m%d")))
    except NoPermissionError as error:
        raise Unusable(
            f"Redis at {url} does not have the steps of this version of coord, "
            "and this user may not load them",
            "let the maintenance leader or an administrator do it: coord steps load",
        ) from error
    except ResponseError as error:
        if "already exists" not in str(error):
            raise
    return _delete_old(client, today - KEPT)


def loaded(client: Redis) -> dict[str, str]:
    """Return coord's libraries on a server: digest → day of loading, such as `20261122`."""
    rows = client.execute_command("FUNCTION", "LIST", "LIBRARYNAME", f"{PREFIX}*")
    return {found[2]: found[1] for name in map(_name_of, rows) if (found := _DATED.fullmatch(name))}


def _name_of(row: object) -> str:
    """Return a library's name from its row of FUNCTION LIST: a map, or a list of names and values."""
    fields = row if isinstance(row, dict) else None
    pairs = fields or dict(zip(row[::2], row[1::2], strict=True))  # type: ignore[index]
    return next(_text(value) for name, value in pairs.items() if _text(name) == "library_name")


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


def _delete_old(client: Redis, before: datetime) -> list[str]:
    deleted = []
    for its_digest, day in loaded(client).items():
        if its_digest != digest() and day < before.strftime("%Y%m%d"):
            name = f"{PREFIX}{day}_{its_digest}"
            client.execute_command("FUNCTION", "DELETE", name)
            deleted.append(name)
    return deleted
