"""Items that a client of the gateway has received: in order, without duplicates. Pure."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from coordination.messages.topics import Event, Gap, is_of_coord

REMEMBERED = 10_000
"""Number of message and event ids that are kept to detect duplicates."""
MOST_WAITING = 10_000
"""Number of received items that wait for the caller; further events are dropped and counted in a Gap."""

Frame = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Message:
    """A message to this client's recipient; `listen` acknowledges it when the next item is requested."""

    id: str
    sender: str
    type: str
    payload: Any
    sent_at: datetime
    deliveries: int
    reply_to: str | None = None


@dataclass(frozen=True, kw_only=True)
class Missed:
    """Inbox messages that were lost: `count`, or None if Redis lost its data and the number is unknown."""

    count: int | None


Item = Message | Event | Gap | Missed


class ReceivedItems:
    def __init__(self, position: Mapping[str, Any] | None) -> None:
        self.position: Frame | None = dict(position) if position else None
        """Position in the inbox."""
        self.events_position: str | None = None
        """Id of the last event of coord that the caller has got."""
        self.events_received: str | None = None
        """Id of the last event of coord that was received."""
        self.waiting: deque[Item] = deque()
        self.open: Message | None = None
        """Message that the caller has got and has neither acknowledged nor refused."""
        self._dropped = 0
        self._seen: OrderedDict[str, None] = OrderedDict()

    def next(self) -> Item:
        """Return the item that has waited longest; a message becomes the open one."""
        found = self.waiting.popleft()
        if isinstance(found, Message):
            self.open = found
        if isinstance(found, Event) and is_of_coord(found.topic):
            self.events_position = found.id
        return found

    def finish(self, message: str) -> None:
        """Record that the message is acknowledged, so that it is not returned again."""
        self._remember(message)
        self.give_up(message)

    def give_up(self, message: str) -> None:
        """Record that the message is no longer open."""
        if self.open is not None and self.open.id == message:
            self.open = None

    def add(self, gap: Gap) -> None:
        self.waiting.append(gap)

    def take(self, frame: Frame) -> str | None:
        """Take the item of a frame. Return the id of a message that must be acknowledged once more."""
        if "welcome" in frame:
            self._welcomed(frame["welcome"])
        if "event" in frame:
            self._event(frame["event"])
        if "gap" in frame:
            self.add(Gap(missed=frame["gap"]["missed"], first=frame["gap"].get("first", "")))
        if position := frame.get("subscribed", {}).get("position"):
            self.events_position = self.events_position or position
            self.events_received = self.events_received or position
        return self._message(frame["message"]) if "message" in frame else None

    def _welcomed(self, welcome: Frame) -> None:
        if not welcome["recovered"]:
            self.waiting.append(Missed(count=welcome["missed"] or None))
        self.position = {name: welcome[name] for name in ("epoch", "offset", "trimmed")}

    def _message(self, given: Frame) -> str | None:
        if self.position is not None:
            self.position["offset"] = max(self.position["offset"], given["offset"])
        name: str = given["id"]
        if name in self._seen:
            return name
        waits = any(isinstance(one, Message) and one.id == name for one in self.waiting)
        if not waits and not (self.open is not None and self.open.id == name):
            self.waiting.append(
                Message(
                    id=name,
                    sender=given["from"],
                    type=given["type"],
                    payload=given["payload"],
                    sent_at=datetime.fromisoformat(given["sent_at"]),
                    deliveries=given["deliveries"],
                    reply_to=given["reply_to"],
                )
            )
        return None

    def _event(self, given: Frame) -> None:
        if is_of_coord(given["topic"]):
            self.events_received = given["id"]
        name = f"event {given['id']}"  # the copy of an event in an inbox has the same id
        if name in self._seen:
            return
        self._remember(name)
        if len(self.waiting) >= MOST_WAITING:
            self._dropped += 1
            return
        if self._dropped:
            self.waiting.append(Gap(missed=self._dropped))
            self._dropped = 0
        self.waiting.append(
            Event(
                id=given["id"],
                topic=given["topic"],
                type=given["type"],
                payload=given["payload"],
                sender=given["from"],
                at=datetime.fromisoformat(given["at"]),
            )
        )

    def _remember(self, name: str) -> None:
        self._seen[name] = None
        if len(self._seen) > REMEMBERED:
            self._seen.popitem(last=False)
