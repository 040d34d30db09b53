"""The base of records that a program receives and does not change, with their JSON form."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class FrozenModel(BaseModel):
    """A record whose fields cannot be assigned."""

    model_config = ConfigDict(frozen=True)
