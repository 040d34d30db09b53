"""100,000 messages to 200 recipients of whom half are away, while whoever consumes them is killed again and
again.

What a message does is in Redis: it appends its number to a list of its recipient, by `ack(effects=...)`. The
lists are compared with what was sent.
"""

from __future__ import annotations

import logging
import multiprocessing
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from multiprocessing.process import BaseProcess

from redis import Redis
from redis.client import Pipeline

from coordination.backend.client import Profile, connect
from coordination.messages import Limits, Message, MessageBus
from coordination.messages.steps import Effects

FORK = multiprocessing.get_context("forkserver")
NAMESPACE = "plenty"
SENDERS, CONSUMERS = 2, 4
KILL_EVERY_S = 5.0
LIMITS = Limits(idle=timedelta(seconds=2), inbox_limit=1000)
"""An inbox is as large as by default; a dead reader's messages are taken over sooner, or the end would only
wait for that.
"""
STALLED_S = 60.0


@dataclass(frozen=True)
class Plenty:
    sent: int
    lost: int
    twice: int
    in_order: bool
    kills: int
    redelivered: int
    """Effects that were tried in vain: somebody else had the message by then, or it was handed out again."""
    dead: int
    trimmed: int
    took_s: float


def plenty(url: str, messages: int, recipients: int) -> Plenty:
    FORK.set_forkserver_preload(["__main__", __name__])  # a process is to begin with its work at once
    names = [f"agent:{number:03}" for number in range(recipients)]
    with connect(url, Profile.WORKER) as redis:
        bus = MessageBus(redis, NAMESPACE, limits=LIMITS)
        for name in names:
            bus.register(name)
        began = time.monotonic()
        here, away = names[::2], names[1::2]
        with _killed(url, here) as first:
            _send(url, names, messages // SENDERS // recipients)
            with _killed(url, away) as others:  # those who were away come back
                _await_effects(redis, names, messages)
        took_s = time.monotonic() - began
        return _judged(redis, bus, names, messages, kills=first.kills + others.kills, took_s=took_s)


def _send(url: str, names: Sequence[str], each: int) -> None:
    senders = [FORK.Process(target=_sender, args=(url, names, f"sender-{n}", each)) for n in range(SENDERS)]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join()
        assert sender.exitcode == 0, "a sender failed"


def _sender(url: str, names: Sequence[str], sender: str, each: int) -> None:
    with connect(url, Profile.WORKER) as redis:
        bus = MessageBus(redis, NAMESPACE, sender=sender, limits=LIMITS)
        for number in range(each):
            for name in names:
                bus.send(name, "number", number, ttl=None)


class Killed:
    """Consumer processes, all of which are killed every few seconds, and replaced."""

    def __init__(self, url: str, shares: Sequence[Sequence[str]]) -> None:
        self.kills = 0
        self._url, self._shares = url, shares
        self._over = threading.Event()
        self._processes = [self._start(share) for share in shares]
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _start(self, share: Sequence[str]) -> BaseProcess:
        process = FORK.Process(target=_consume, args=(self._url, share), daemon=True)
        process.start()
        return process

    def _run(self) -> None:
        while not self._over.wait(KILL_EVERY_S):
            self._kill_all()
            self.kills += len(self._processes)
            self._processes = [self._start(share) for share in self._shares]

    def _kill_all(self) -> None:
        for process in self._processes:
            process.kill()
            process.join()

    def end(self) -> None:
        self._over.set()
        self._thread.join()
        self._kill_all()


@contextmanager
def _killed(url: str, names: Sequence[str]) -> Iterator[Killed]:
    killed = Killed(url, [names[n::CONSUMERS] for n in range(CONSUMERS)])
    try:
        yield killed
    finally:
        killed.end()


def _consume(url: str, names: Sequence[str]) -> None:
    logging.disable(logging.WARNING)
    redis = connect(url, Profile.WORKER)
    bus = MessageBus(redis, NAMESPACE, limits=LIMITS)
    threads = [threading.Thread(target=_read, args=(bus, redis, name), daemon=True) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _read(bus: MessageBus, redis: Redis, name: str) -> None:
    inbox = bus.receive(name)
    for message in inbox:
        if not inbox.ack(message, _appending(message)):
            redis.incr(f"{NAMESPACE}-in-vain")


def _appending(message: Message) -> Effects:
    def effects(pipe: Pipeline) -> None:
        pipe.rpush(_effects(message.to), f"{message.sender} {message.payload}")

    return effects


def _effects(name: str) -> str:
    return f"{NAMESPACE}-effects:{name}"


def _await_effects(redis: Redis, names: Sequence[str], messages: int) -> None:
    """Until all are there, or none has come for long."""
    last, seen_at = -1, time.monotonic()
    while last < messages and time.monotonic() - seen_at < STALLED_S:
        time.sleep(0.25)
        found = _counted(redis, names)
        if found != last:
            last, seen_at = found, time.monotonic()


def _counted(redis: Redis, names: Sequence[str]) -> int:
    with redis.pipeline(transaction=False) as pipe:
        for name in names:
            pipe.llen(_effects(name))
        return sum(pipe.execute())


def _judged(
    redis: Redis, bus: MessageBus, names: Sequence[str], messages: int, *, kills: int, took_s: float
) -> Plenty:
    each = messages // SENDERS // len(names)
    lost = twice = 0
    in_order = True
    for name in names:
        for sender in range(SENDERS):
            head = f"sender-{sender} "
            numbers = [
                int(it[len(head) :]) for it in redis.lrange(_effects(name), 0, -1) if it.startswith(head)
            ]
            lost += each - len(set(numbers))
            twice += len(numbers) - len(set(numbers))
            in_order = in_order and numbers == sorted(numbers)
    standings = [bus.standing(name) for name in names]
    return Plenty(
        sent=each * SENDERS * len(names),
        lost=lost,
        twice=twice,
        in_order=in_order,
        kills=kills,
        redelivered=int(redis.get(f"{NAMESPACE}-in-vain") or 0),
        dead=sum(standing.dead for standing in standings),
        trimmed=sum(standing.trimmed for standing in standings),
        took_s=took_s,
    )
