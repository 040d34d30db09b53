"""What an attempt is there for: a family of two, a todo and what undoes it. All else is the same for both: the workspace, the
command under its guard, timeout, log, lease and fence (`workers/attempt.py`).
"""

from __future__ import annotations

from coordination.runs.records import Grant
from workers.deeds.doing import Doing
from workers.deeds.seam import Deed
from workers.surroundings import Surroundings


def deed_of(grant: Grant, here: Surroundings) -> Deed:
    return Doing(grant=grant, output_limit_bytes=here.output_limit_bytes)


__all__ = ["Deed", "deed_of"]
