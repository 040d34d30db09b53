"""Messages under fate: several readers of an inbox, whose effects are in Redis together with the
acknowledgement.

Whatever happened: the numbers of a sender stand in a recipient's list in the order of sending and none twice;
and what was sent after Redis lost its data for the last time is there in the end, all of it.
"""

from __future__ import annotations

import logging
import os
import random
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta

from redis import Redis

from benchmarks.soaking.frame import Place
from coordination.backend.client import Profile, connect
from coordination.errors import NotFound, Unreachable
from coordination.messages import Limits, Message, MessageBus
from coordination.messages.steps import Effects

NAMESPACE = "post"
RECIPIENTS = ("agent:one", "agent:two", "repo:three")
LIMITS = Limits(
    idle=timedelta(milliseconds=500),
    inbox_limit=1_000_000,
    deliveries=1_000_000,
    retry=timedelta(milliseconds=20),
)
"""Readers are stopped for longer than the idle time; nothing is trimmed or dead, so that all of it must
arrive.
"""
TICK = timedelta(milliseconds=300)
PATIENCE = timedelta(seconds=5)
BETWEEN_S, REFUSED = 0.005, 0.02


class Messages:
    def __init__(self, senders: int, readers: int) -> None:
        self._senders, self._readers = senders, readers

    def players(self) -> Sequence[Callable[[Place, int], None]]:
        return [send] * self._senders + [read] * self._readers

    def check(self, place: Place) -> dict[str, str]:
        with connect(place.url, Profile.WORKER) as redis:
            bus = MessageBus(redis, NAMESPACE, limits=LIMITS)
            for name in RECIPIENTS:
                _drain(bus, name)
            done = {name: _numbers(redis, name) for name in RECIPIENTS}
        for name, senders in done.items():
            for sender, numbers in senders.items():
                if numbers != sorted(set(numbers)):
                    place.wrong(f"{name}: of {sender} came {numbers}")
        sent = list(_sent(place))
        due = [(to, sender, number) for at, to, sender, number in sent if at > place.lost_at]
        for to, sender, number in due:
            if number not in done[to][sender]:
                place.wrong(f"{to}: {sender} sent {number}, which never came")
        return {"messages sent": f"{len(sent):,}", "of them since the last loss of data": f"{len(due):,}"}


def send(place: Place, player: int) -> None:
    """Numbered by itself, so that what was not answered can be sent again; written down as soon as it was."""
    sender, number, chance = f"sender-{player}-{os.getpid()}", 0, random.Random()
    bus = _bus(place, sender)
    with (place.folder / f"sent-{player}").open("a") as file:
        while not place.over:
            number += 1
            to = chance.choice(RECIPIENTS)
            began = _send(place, bus, to, number)
            if began is not None:
                file.write(f"{began} {to} {sender} {number}\n")
                file.flush()
                place.did(player)
            time.sleep(chance.expovariate(1 / BETWEEN_S))


def _send(place: Place, bus: MessageBus, to: str, number: int) -> int | None:
    """When the try that was answered began, in us; None: it was not answered before all was over."""
    while not place.over:
        began = time.time_ns() // 1000
        try:
            bus.send(to, "number", number, ttl=None, sequence=number)
        except NotFound:  # nobody has registered it yet, or the server lost its data
            _register(bus, to)
        except Unreachable:
            continue
        else:
            return began
    return None


def _register(bus: MessageBus, to: str) -> None:
    try:
        bus.register(to)
    except Unreachable:
        return


def read(place: Place, player: int) -> None:
    """Most are acknowledged with an effect, some refused."""
    logging.disable(logging.WARNING)
    bus, chance = _bus(place), random.Random()
    to = RECIPIENTS[player % len(RECIPIENTS)]
    while not place.over:
        try:
            with bus.receive(to, patience=PATIENCE) as inbox:
                while not place.over:
                    message = inbox.next(TICK)
                    if message is not None and chance.random() < REFUSED:
                        inbox.nack(message, "not now")
                    elif message is not None:
                        inbox.ack(message, _appending(message))
                    place.did(player)
        except Unreachable:
            continue


def _bus(place: Place, sender: str | None = None) -> MessageBus:
    return MessageBus(connect(place.url, Profile.WORKER), NAMESPACE, sender=sender, limits=LIMITS)


def _appending(message: Message) -> Effects:
    return lambda pipe: pipe.rpush(_effects(message.to), f"{message.sender} {message.payload}")


def _effects(name: str) -> str:
    return f"{NAMESPACE}-effects:{name}"


def _drain(bus: MessageBus, name: str) -> None:
    bus.register(name)
    with bus.receive(name) as inbox:
        while bus.standing(name).waiting + bus.standing(name).in_hand:
            message = inbox.next(TICK)
            if message is not None:
                inbox.ack(message, _appending(message))


def _numbers(redis: Redis, name: str) -> Mapping[str, list[int]]:
    found: dict[str, list[int]] = defaultdict(list)
    for line in redis.lrange(_effects(name), 0, -1):
        sender, number = line.split()
        found[sender].append(int(number))
    return found


def _sent(place: Place) -> Iterator[tuple[int, str, str, int]]:
    for path in place.folder.glob("sent-*"):
        for line in path.read_text().splitlines():
            at, to, sender, number = line.split()
            yield int(at), to, sender, int(number)
