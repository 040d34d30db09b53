"""The actions of processes during which they fail. Together the stories pass every point; none takes longer
than some seconds.
"""

from __future__ import annotations

from tests.chaos.failpoints.stories.afterwards import (
    ACCEPTED,
    CLEANED,
    EXECUTED,
    EXPIRED,
    PUSHED,
    RESTORED,
    ROLLED_BACK,
    UNDONE,
)
from tests.chaos.failpoints.stories.hosts import HOST_GONE, HOSTS, NOT_CARRIED, RESTRICTED
from tests.chaos.failpoints.stories.landed import LANDED, LANDED_LOCALLY, NOT_LANDED
from tests.chaos.failpoints.stories.plans import (
    CHECKPOINT,
    DATAFLOW,
    FAILED,
    FAILED_LEVEL,
    LEVELS,
    MANY,
    SHARED,
)
from tests.chaos.failpoints.stories.steered import BY_HAND, CANCELLED, GATED, MOVED, REJECTED, STEERED
from tests.chaos.failpoints.stories.trouble import (
    BUSY,
    CLOCK_SET,
    EPOCH,
    HANDED_BACK,
    LOST,
    MISPLACED,
    POISONED,
    STALE,
    STUCK,
)

STORIES = (
    DATAFLOW, LEVELS, CHECKPOINT, FAILED, FAILED_LEVEL, MANY, SHARED,
    STEERED, MOVED, CANCELLED, BY_HAND, GATED, REJECTED,
    LOST, STALE, HANDED_BACK, BUSY, EPOCH, CLOCK_SET, STUCK, MISPLACED, POISONED,
    EXECUTED, RESTORED, EXPIRED, CLEANED, PUSHED, ROLLED_BACK, UNDONE, ACCEPTED,
    RESTRICTED, HOSTS, NOT_CARRIED, HOST_GONE,
    LANDED, LANDED_LOCALLY, NOT_LANDED,
)  # fmt: skip
QUICK = (DATAFLOW, LEVELS, FAILED_LEVEL, STEERED, CANCELLED, BY_HAND, GATED, REJECTED, ACCEPTED, UNDONE)
"""For the short form."""
