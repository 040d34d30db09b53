"""Ways from a sender to a handler in another process: coord's messages, a raw stream with a group, and bare
PUBLISH.

All but the last keep what nobody has read, and know what is acknowledged. A transport sends numbers with the
time of sending.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Protocol

from redis import Redis

from coordination.backend.client import Profile, connect
from coordination.backend.step_connection import StepConnection
from coordination.messages import Limits, MessageBus

ROOM = 1_000_000
"""No message is trimmed here: what is measured is the way, and not what becomes of an inbox that is full."""
AT_ONCE = 32
GROUP, READER = "group", "reader"

Word = tuple[int, int]
"""Number, and the ns of the clock that all processes of a machine share."""


class Transport(Protocol):
    def __init__(self, url: str, name: str) -> None: ...

    def prepare(self) -> None:
        """Keep messages sent from now on, if this transport keeps any."""

    def send(self, word: Word) -> None: ...

    def receive(self) -> Iterator[Word]:
        """For ever; asking for the next acknowledges the last."""


class Coord:
    def __init__(self, url: str, name: str) -> None:
        self._to = f"agent:{name}"
        self._bus = MessageBus(connect(url, Profile.WORKER), "bench", limits=Limits(inbox_limit=ROOM))

    def prepare(self) -> None:
        self._bus.forget(self._to)
        self._bus.register(self._to)

    def send(self, word: Word) -> None:
        self._bus.send(self._to, "word", word)

    def receive(self) -> Iterator[Word]:
        for message in self._bus.receive(self._to):
            number, at = message.payload
            yield number, at


class Stream:
    """XADD, XREADGROUP and one XACK for each batch: the least that a group costs. Nothing is taken over,
    nothing removed.
    """

    def __init__(self, url: str, name: str) -> None:
        self._name = f"bench-stream:{name}"
        self._redis = connect(url, Profile.READER)

    def prepare(self) -> None:
        self._redis.delete(self._name)
        self._redis.xgroup_create(self._name, GROUP, id="0", mkstream=True)

    def send(self, word: Word) -> None:
        self._redis.xadd(self._name, {"number": word[0], "at": word[1]})

    def receive(self) -> Iterator[Word]:
        while True:
            answer = self._redis.xreadgroup(GROUP, READER, {self._name: ">"}, count=AT_ONCE, block=1000)
            for _, entries in answer or ():
                for _, fields in entries:
                    yield int(fields["number"]), int(fields["at"])
                self._redis.xack(self._name, GROUP, *[id_ for id_, _ in entries])


class Lean:
    """The same stream over coord's own connections, which take a third of the time that redis-py's client
    takes.
    """

    def __init__(self, url: str, name: str) -> None:
        self._name = f"bench-lean:{name}"
        self._connection = StepConnection(connect(url, Profile.READER))

    def prepare(self) -> None:
        self._connection.send("DEL", self._name)
        self._connection.send("XGROUP", "CREATE", self._name, GROUP, 0, "MKSTREAM")

    def send(self, word: Word) -> None:
        self._connection.send("XADD", self._name, "*", "number", word[0], "at", word[1])

    def receive(self) -> Iterator[Word]:
        ask = (
            "XREADGROUP",
            "GROUP",
            GROUP,
            READER,
            "COUNT",
            AT_ONCE,
            "BLOCK",
            1000,
            "STREAMS",
            self._name,
            ">",
        )
        while True:
            answer = self._connection.send(*ask, blocks_s=1)
            entries = answer[self._name] if answer else []
            for _, (_, number, _, at) in entries:
                yield int(number), int(at)
            if entries:
                self._connection.send("XACK", self._name, GROUP, *[id_ for id_, _ in entries])


class Publish:
    """Redis PUBLISH: absent receivers miss the message."""

    def __init__(self, url: str, name: str) -> None:
        self._channel = f"bench-channel:{name}"
        self._redis: Redis = connect(url, Profile.READER)

    def prepare(self) -> None:
        """There is nothing to keep anything in."""

    def send(self, word: Word) -> None:
        self._redis.publish(self._channel, f"{word[0]} {word[1]}")

    def receive(self) -> Iterator[Word]:
        with closing(self._redis.pubsub(ignore_subscribe_messages=True)) as heard:
            heard.subscribe(self._channel)
            for entry in heard.listen():
                number, at = entry["data"].split()
                yield int(number), int(at)


TRANSPORTS: dict[str, type[Transport]] = {
    "coord": Coord,
    "stream": Stream,
    "lean stream": Lean,
    "publish": Publish,
}
