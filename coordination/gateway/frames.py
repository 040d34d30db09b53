"""Frames between client and gateway: JSON objects, strictly validated; the items that a client receives in
them. Pure.

A client's frame is `{"<word>": …}` with the word's fields; anything else is refused with a reason.
"""

from __future__ import annotations

import json
from collections import OrderedDict, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, NoReturn

from pydantic import ConfigDict, Field, ValidationError

from coordination import messages
from coordination.errors import CoordinationError, UsageError
from coordination.frozen import FrozenModel
from coordination.messages.topics import Event, Gap, is_of_coord
from coordination.text import wrong_value

LONGEST_WHY = 2000
YEAR_S = 365 * 24 * 3600
Id = Annotated[str, Field(max_length=500)]


class _ClientFrame(FrozenModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Position(_ClientFrame):
    """Position of a client: that of the last `welcome`, with the offset of the last message since."""

    epoch: Annotated[str, Field(pattern=r"^\d{1,20}$")]
    offset: Annotated[int, Field(ge=0)]
    trimmed: Annotated[int, Field(ge=0)]


class Resume(_ClientFrame):
    """First frame of a client; null if it has no position."""

    resume: Position | None


class Ack(_ClientFrame):
    ack: Id


class Nack(_ClientFrame):
    nack: Id
    why: Annotated[str, Field(max_length=LONGEST_WHY)] = ""


class Extend(_ClientFrame):
    extend: Id


class OutgoingMessage(_ClientFrame):
    to: str
    type: str
    payload: Any
    seq: Annotated[int, Field(ge=0, lt=2**53)]
    """Number chosen by the client, which only grows; a repeated one is a duplicate after a lost connection
    and is sent once.
    """
    ttl_s: Annotated[float, Field(gt=0, le=YEAR_S, allow_inf_nan=False)] | None = None
    """None: as long as the recipient's inbox keeps it."""
    priority: int = 0
    reply_to: str | None = None


class Send(_ClientFrame):
    send: OutgoingMessage


Topics = Annotated[list[str], Field(min_length=1, max_length=100)] | str


class Subscribe(_ClientFrame):
    subscribe: Topics
    since: Id | None = None
    """Id of an event of coord; all later ones of every subscribed topic are sent first."""


class Unsubscribe(_ClientFrame):
    unsubscribe: Topics


class Publication(_ClientFrame):
    topic: str
    payload: Any
    type: str = "event"
    seq: Annotated[int, Field(ge=0, lt=2**53)] | None = None
    """Number from the same count as that of `send`; None if duplicates after a lost connection are
    acceptable.
    """


class Publish(_ClientFrame):
    publish: Publication


Frame = Resume | Ack | Nack | Extend | Send | Subscribe | Unsubscribe | Publish
WORDS: Mapping[str, type[Frame]] = {
    "resume": Resume,
    "ack": Ack,
    "nack": Nack,
    "extend": Extend,
    "send": Send,
    "subscribe": Subscribe,
    "unsubscribe": Unsubscribe,
    "publish": Publish,
}


class BadFrame(UsageError):
    """The frame is invalid."""


def read(text: str) -> Frame:
    """Parse a client's frame. Raises BadFrame."""
    received = _object(text)
    word = next((word for word in WORDS if word in received), None)
    if word is None:
        raise BadFrame("the frame has no known word", f"start it with one of: {', '.join(WORDS)}")
    try:
        return WORDS[word].model_validate(received)
    except ValidationError as error:
        raise _refusal(error) from error


def welcome(recipient: str, *, position: messages.Position, recovered: bool, missed: int) -> str:
    """Return a welcome. `missed` is the number of unacknowledged messages trimmed since the client's
    position.
    """
    known = {"epoch": position.epoch, "offset": position.offset, "trimmed": position.trimmed}
    return _text({"welcome": {"recipient": recipient, **known, "recovered": recovered, "missed": missed}})


def message(given: messages.Message) -> str:
    fields = {
        "id": given.id,
        "offset": given.offset,
        "from": given.sender,
        "type": given.type,
        "payload": given.payload,
        "sent_at": given.sent_at.isoformat(),
        "deliveries": given.deliveries,
        "reply_to": given.reply_to,
    }
    return _text({"message": fields})


def sent(seq: int, message_id: str) -> str:
    return _text({"sent": {"seq": seq, "id": message_id}})


def subscribed(patterns: Sequence[str], position: str | None) -> str:
    """Return the client's present subscriptions. `position`: id of the last event of coord so far; None if
    the client gets none of these events.
    """
    return _text({"subscribed": {"topics": patterns} | ({"position": position} if position else {})})


def published(topic: str, seq: int | None, reached: int) -> str:
    return _text({"published": {"topic": topic, "seq": seq, "reached": reached}})


def event(given: messages.Event) -> str:
    fields = {
        "id": given.id,
        "topic": given.topic,
        "from": given.sender,
        "type": given.type,
        "payload": given.payload,
        "at": given.at.isoformat(),
    }
    return _text({"event": fields})


def gap(missed: int | None, *, after: str = "", first: str = "") -> str:
    """Return a gap. `after` and `first`: the ids between which events of coord were deleted."""
    trimmed = {"after": after, "first": first} if after else {}
    return _text({"gap": {"missed": missed, **trimmed}})


def refused(what: Mapping[str, Any], error: CoordinationError) -> str:
    """Return a refusal; `what` identifies the frame: `{"ack": id}` or `{"seq": n}`."""
    return _text({"refused": {**what, "message": error.message, "hint": error.hint}})


def away(error: CoordinationError) -> str:
    return _text(
        {"away": {"message": error.message, "hint": "stay connected: frames are executed when Redis is back"}}
    )


def _text(frame: Mapping[str, Any]) -> str:
    return json.dumps(frame, ensure_ascii=False, separators=(",", ":"))


def _object(text: str) -> Mapping[str, Any]:
    try:
        received = json.loads(
            text, parse_constant=_reject_constants, object_pairs_hook=_reject_duplicate_names
        )
    except (ValueError, RecursionError) as error:
        raise BadFrame(f"the frame is not JSON: {error}", 'write, for example, {"ack": "…"}') from error
    if not isinstance(received, dict):
        raise BadFrame("the frame is not a JSON object", 'write, for example, {"ack": "…"}')
    return received


def _reject_constants(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def _reject_duplicate_names(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        raise ValueError("a name occurs twice in an object")
    return made


def _refusal(error: ValidationError) -> BadFrame:
    details = error.errors(include_url=False)
    place = details[0]["loc"]
    where = ".".join(map(str, place))
    if details[0]["type"] == "extra_forbidden":
        return BadFrame(f"{where}: unknown field", "remove it")
    if details[0]["type"] == "string_unicode":
        return BadFrame(
            f"{where or 'a name'} is not text: it contains a lone surrogate", "send valid Unicode"
        )
    if details[0]["type"] == "missing":
        return BadFrame(f"{where} is missing", "add it")
    words = wrong_value([detail for detail in details if detail["loc"] == place])
    return BadFrame(f"{where} {words}", "correct it")


REMEMBERED = 10_000
"""Number of message and event ids that are kept to detect duplicates."""
MOST_WAITING = 10_000
"""Number of received items that wait for the caller; further events are dropped and counted in a Gap."""

GatewayFrame = dict[str, Any]


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
        self.position: GatewayFrame | None = dict(position) if position else None
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

    def take(self, frame: GatewayFrame) -> str | None:
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

    def _welcomed(self, welcome: GatewayFrame) -> None:
        if not welcome["recovered"]:
            self.waiting.append(Missed(count=welcome["missed"] or None))
        self.position = {name: welcome[name] for name in ("epoch", "offset", "trimmed")}

    def _message(self, given: GatewayFrame) -> str | None:
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

    def _event(self, given: GatewayFrame) -> None:
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
