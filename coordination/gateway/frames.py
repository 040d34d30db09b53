"""What client and gateway say to each other: JSON objects with one word each, judged strictly. Pure.

A frame of a client is `{"<word>": …}`, with what belongs to the word beside it; anything else is refused in words.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, NoReturn

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from coordination import messages
from coordination.errors import CoordinationError, UsageError
from coordination.text import wrong_value

LONGEST_WHY = 2000
YEAR_S = 365 * 24 * 3600
Id = Annotated[str, Field(max_length=500)]


class _Said(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Position(_Said):
    """How far a client has come, as the last `welcome` said it; `offset` is that of the last message since."""

    epoch: Annotated[str, Field(pattern=r"^\d{1,20}$")]
    offset: Annotated[int, Field(ge=0)]
    trimmed: Annotated[int, Field(ge=0)]


class Resume(_Said):
    """First of all; null from who has never been here."""

    resume: Position | None


class Ack(_Said):
    ack: Id


class Nack(_Said):
    nack: Id
    why: Annotated[str, Field(max_length=LONGEST_WHY)] = ""


class Extend(_Said):
    extend: Id


class Letter(_Said):
    to: str
    type: str
    payload: Any
    seq: Annotated[int, Field(ge=0, lt=2**53)]
    """The client's own count, which only grows: what does not is a repetition after a lost connection, and sent once."""
    ttl_s: Annotated[float, Field(gt=0, le=YEAR_S, allow_inf_nan=False)] | None = None
    """None: as long as the recipient's inbox keeps it."""
    priority: int = 0
    reply_to: str | None = None


class Send(_Said):
    send: Letter


Topics = Annotated[list[str], Field(min_length=1, max_length=100)] | str


class Subscribe(_Said):
    subscribe: Topics


class Unsubscribe(_Said):
    unsubscribe: Topics


class Publication(_Said):
    topic: str
    payload: Any
    type: str = "event"
    seq: Annotated[int, Field(ge=0, lt=2**53)] | None = None
    """As that of a letter, of the same count; None where an event may come twice after a lost connection."""


class Publish(_Said):
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
    """That is no frame."""


def read(text: str) -> Frame:
    """What a client said; raises BadFrame."""
    said = _object(text)
    word = next((word for word in WORDS if word in said), None)
    if word is None:
        raise BadFrame("a frame without a known word", f"begin it with one of: {', '.join(WORDS)}")
    try:
        return WORDS[word].model_validate(said)
    except ValidationError as error:
        raise _refusal(error) from error


def welcome(recipient: str, *, position: messages.Position, recovered: bool, missed: int) -> str:
    """`missed`: how many were trimmed that nobody acknowledged, since what the client knew before."""
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


def subscribed(patterns: Sequence[str]) -> str:
    """All that the client is subscribed to now."""
    return _text({"subscribed": {"topics": patterns}})


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


def gap(missed: int | None) -> str:
    return _text({"gap": {"missed": missed}})


def refused(what: Mapping[str, Any], error: CoordinationError) -> str:
    """`what`: which frame, `{"ack": id}` or `{"seq": n}`."""
    return _text({"refused": {**what, "message": error.message, "hint": error.hint}})


def away(error: CoordinationError) -> str:
    return _text({"away": {"message": error.message, "hint": "stay: what you say now is done when Redis is back"}})


def _text(frame: Mapping[str, Any]) -> str:
    return json.dumps(frame, ensure_ascii=False, separators=(",", ":"))


def _object(text: str) -> Mapping[str, Any]:
    try:
        said = json.loads(text, parse_constant=_no_number, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise BadFrame(f"a frame is JSON, and this is not: {error}", 'write {"ack": "…"}, for one') from error
    if not isinstance(said, dict):
        raise BadFrame("a frame is an object", 'write {"ack": "…"}, for one')
    return said


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        raise ValueError("a name stands twice in an object")
    return made


def _refusal(error: ValidationError) -> BadFrame:
    details = error.errors(include_url=False)
    place = details[0]["loc"]
    where = ".".join(map(str, place))
    if details[0]["type"] == "extra_forbidden":
        return BadFrame(f"{where}: nothing of that name belongs there", "leave it out")
    if details[0]["type"] == "string_unicode":
        return BadFrame(f"{where or 'a name'} is no text: half a surrogate pair is no character", "write it whole")
    if details[0]["type"] == "missing":
        return BadFrame(f"{where} is missing", "say it")
    words = wrong_value([detail for detail in details if detail["loc"] == place])
    return BadFrame(f"{where} {words}", "correct it")
