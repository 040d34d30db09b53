"""Messages between repositories, workers, agents, people and runs: kept until they are acknowledged."""

from coordination.messages.bus import MessageBus
from coordination.messages.inbox import Inbox
from coordination.messages.records import (
    DeadLetter,
    Limits,
    Message,
    Position,
    Presence,
    Standing,
    Swept,
    Taken,
)

__all__ = [
    "DeadLetter",
    "Inbox",
    "Limits",
    "Message",
    "MessageBus",
    "Position",
    "Presence",
    "Standing",
    "Swept",
    "Taken",
]
