"""COORD_CONNECTION: a file that tells a todo's command where its shared context is, for `coord context` and `coordination.cache.here`.

In a file, since it may hold a password: of a variable every process of the todo and every log of its environment would tell.
The folder is the todo's own, may be read by nobody else, and goes with it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from coordination.cache.connection import Connection
from coordination.cache.limits import Eviction
from coordination.runs.records import RunBrief
from coordination.runs.shared import chain_of_todo

if TYPE_CHECKING:
    from workers.app import Charge


def connection(charge: Charge, brief: RunBrief, todo: str) -> str:
    """What stands in the file."""
    told = Connection(
        redis_url=None if charge.settings.restricted else charge.redis_url,
        namespace=charge.settings.namespace,
        contexts=chain_of_todo(brief, todo),
        max_bytes=charge.settings.cache_max_bytes,
        ttl=charge.settings.cache_ttl,
        eviction=Eviction(charge.settings.cache_eviction),
        value_bytes=charge.settings.cache_value_bytes,
    )
    return told.model_dump_json()
