"""The base of records that a program receives and does not change, with their JSON form."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class FrozenModel(BaseModel):
    """A record whose fields cannot be assigned.

    Its validator is made at the first use: those of all records take 0.4 s, and a command uses few of them.
    """

    model_config = ConfigDict(frozen=True, defer_build=True)
