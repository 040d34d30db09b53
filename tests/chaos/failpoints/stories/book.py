"""All stories: together they pass every point, and none takes longer than some seconds."""

from __future__ import annotations

from tests.chaos.failpoints.stories import afterwards, agents, hosts, landed, plans, steered, trouble
from tests.chaos.failpoints.story import Story

STORIES = tuple(
    story
    for part in (plans, steered, trouble, afterwards, hosts, landed, agents)
    for story in vars(part).values()
    if isinstance(story, Story)
)
QUICK = (
    plans.DATAFLOW, plans.LEVELS, plans.FAILED_LEVEL, steered.STEERED, steered.CANCELLED, steered.BY_HAND,
    steered.GATED, steered.REJECTED, afterwards.ACCEPTED, afterwards.UNDONE,
)  # fmt: skip
"""For the short form."""
