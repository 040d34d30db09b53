"""The base of records that a program receives and does not change, with their JSON form."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, Self

from pydantic import BaseModel, ConfigDict


class FrozenModel(BaseModel):
    """A record whose fields cannot be assigned.

    Its validator is made at the first use: those of all records take 0.4 s, and a command uses few of them.
    """

    model_config = ConfigDict(frozen=True, defer_build=True)


class Awaitable:
    """A result that programs may await, too: the specification has its operation as a coroutine."""

    def __await__(self) -> Generator[Any, None, Self]:
        return self
        yield
