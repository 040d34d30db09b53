"""From within a todo's command: its context, without any option. What it needs to know its worker has written into a file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from coordination.cache.contexts import Cache, Context
from coordination.cache.limits import Eviction, Limits
from coordination.errors import CoordinationError, NotAllowed, UsageError
from coordination.settings import todo_connection_from_environment
from coordination.wire.connection import Profile, connect, reaching


class Connection(BaseModel):
    model_config = ConfigDict(frozen=True)

    redis_url: str | None
    """None: the worker is restricted, and so is what its todos may do."""
    namespace: str
    contexts: tuple[str, ...]
    """The todo's own and its outer ones."""
    max_bytes: int
    ttl: timedelta
    eviction: Eviction
    value_bytes: int

    @property
    def limits(self) -> Limits:
        return Limits(max_bytes=self.max_bytes, ttl=self.ttl, eviction=self.eviction, value_bytes=self.value_bytes)

    @contextmanager
    def open(self) -> Iterator[Context]:
        """Raises Unreachable, NotAllowed."""
        if self.redis_url is None:
            raise NotAllowed(
                "the worker of this todo is restricted, and its todos cannot reach the shared context",
                "what the context had when the todo began stands in the file COORD_CONTEXT",
            )
        with (
            reaching(self.redis_url),
            connect(self.redis_url, Profile.COMMAND) as redis,
            closing(Cache(redis, self.namespace, self.limits)) as cache,
        ):
            redis.ping()
            yield Context(cache, self.contexts)


def told() -> Connection | None:
    """None outside of a todo."""
    file = todo_connection_from_environment()
    return None if file is None else _read(file)


@contextmanager
def here() -> Iterator[Context]:
    """The context of the todo whose command this process is. Raises UsageError outside of one."""
    connection = told()
    if connection is None:
        raise UsageError("there is no context here: this is no command of a todo", "use Coord(...).cache.at(run=…)")
    with connection.open() as context:
        yield context


def _read(file: Path) -> Connection:
    try:
        return Connection.model_validate_json(file.read_bytes())
    except OSError as error:
        raise CoordinationError(
            f"COORD_CONNECTION names {file}, which cannot be read: {error.strerror}",
            "it is there for as long as the todo runs; outside of one, unset COORD_CONNECTION",
        ) from error
    except ValidationError as error:
        raise CoordinationError(f"{file} is of another version of coord", "use the version of the worker") from error
