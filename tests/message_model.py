"""A model of an inbox: what waits, who has what in hand, what may be gone. Times are in ms."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

Delivery = tuple[int, str, int]
"""Offset, reader, and how often it was handed out by then."""


@dataclass
class ModelMessage:
    offset: int
    payload: int
    sender: str
    priority: int
    over_at: int
    mortal: bool
    """It ends by its ttl; else it is kept as long as anything is."""
    wants_ack: bool = True
    state: str = "ready"
    """ready, held, paused (until it is tried again), done, gone or dead"""
    reader: str = ""
    due: int = 0
    """The time at which its reader loses it, or at which it is tried again."""
    handed: int = 0
    failed: int = 0
    begun: bool = False

    @property
    def rank(self) -> tuple[int, int]:
        return (-self.priority, self.offset)

    @property
    def in_hand(self) -> bool:
        return self.state in ("held", "paused")


@dataclass
class Box:
    deliveries: int
    idle_ms: int
    retry_ms: int
    letters: dict[int, ModelMessage] = field(default_factory=dict)
    seq: int = 0
    trimmed: int = 0
    expired: int = 0
    dead: int = 0
    told: int = 0

    def of(self, *states: str) -> list[ModelMessage]:
        return sorted((one for one in self.letters.values() if one.state in states), key=lambda one: one.rank)

    def there(self) -> list[ModelMessage]:
        return self.of("ready", "held", "paused")

    def add(self, letter: ModelMessage) -> None:
        self.seq += 1
        assert letter.offset == self.seq
        self.letters[letter.offset] = letter

    def owns(self, delivery: Delivery) -> bool:
        letter = self.letters.get(delivery[0])
        return (
            letter is not None and letter.state == "held" and (letter.reader, letter.handed) == delivery[1:]
        )

    def lane(self, sender: str) -> set[str]:
        """Return the readers that hold messages of the sender."""
        return {one.reader for one in self.of("held", "paused") if one.sender == sender}

    def free(self, sender: str, at_fault: Iterable[int] = ()) -> None:
        for letter in [one for one in self.of("held", "paused") if one.sender == sender]:
            letter.failed += letter.offset in at_fault and letter.begun
            letter.state, letter.reader, letter.begun = "ready", "", False
            if letter.failed >= self.deliveries:
                letter.state = "dead"
                self.dead += 1

    def take_over(self, now: int) -> None:
        late = [one for one in self.of("held", "paused") if one.due <= now]
        for sender in {one.sender for one in late}:
            self.free(sender, {one.offset for one in late})

    def eligible(self, reader: str, now: int) -> list[ModelMessage]:
        """The messages that this reader may have, in order."""
        return [one for one in self.of("ready") if one.over_at > now and self.lane(one.sender) <= {reader}]

    def free_unknown(self, reader: str, known: Collection[int]) -> None:
        for letter in self.of("held"):
            if letter.reader == reader and letter.offset not in known:
                letter.state, letter.reader, letter.begun = "ready", "", False

    def hand_out(self, letters: list[ModelMessage], reader: str, now: int, begun: int) -> None:
        """The first so many are begun."""
        for number, letter in enumerate(letters):
            letter.handed += 1
            letter.state = "held" if letter.wants_ack else "done"
            letter.reader, letter.due, letter.begun = reader, now + self.idle_ms, number < begun

    def refuse(self, letter: ModelMessage, now: int) -> None:
        wait_ms = self.retry_ms * 2**letter.failed
        letter.begun = True
        self.free(letter.sender, {letter.offset})
        if letter.state == "ready":
            letter.state, letter.due = "paused", now + wait_ms

    def lose(self, offset: int, now: int) -> None:
        letter = self.letters[offset]
        letter.state = "gone"
        if letter.mortal and letter.over_at <= now:
            self.expired += 1
        else:
            self.trimmed += 1
