"""Locks under fate: exclusive ones, shared ones, several at once, two one after the other (which deadlock),
amounts of a resource.
"""

from __future__ import annotations

import logging
import random
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, suppress
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.soaking.frame import LOSING, Place
from benchmarks.soaking.register import Late, Refused, Register, TwoHolders
from coordination.backend.client import Profile, connect
from coordination.backend.keys import Keys
from coordination.errors import LockError, LockLost, Unreachable, UsageError
from coordination.locks import Lock, LockManager
from coordination.locks.sweeper import Sweeper

NAMESPACE = "soak"
NAMES = ("a", "b", "c")
MANY = 60
CAPACITIES = {"gpu": 3, "db": 1}
WAIT = timedelta(seconds=20)
TTLS_MS = (150, 300, 800)
ACTS, BETWEEN_ACTS_S = 4, 0.002
LEFT_S, BETWEEN_LOOKS_S = 15.0, 0.5
FOR_EVER = -1


class Locks:
    def __init__(self, contenders: int) -> None:
        self._contenders = contenders

    def players(self) -> Sequence[Callable[[Place, int], None]]:
        return [contend] * self._contenders

    def check(self, place: Place) -> dict[str, str]:
        found = {}
        for name, register in registers(place.folder).items():
            grants, peak = register.read()
            if peak > register.capacity:
                place.wrong(f"{name}: {peak} of {register.capacity} at once")
            found[f"{name}: grants, peak of {register.capacity}"] = f"{grants:,}  {peak}"
        events = Counter(
            line for path in place.folder.glob("events-*") for line in path.read_text().splitlines()
        )
        _check_orphans(place)
        return found | {name: f"{n:,}" for name, n in sorted(events.items())}


def registers(folder: Path) -> Mapping[str, Register]:
    locks = {name: Register(folder / f"lock {name}", MANY) for name in NAMES}
    return locks | {name: Register(folder / f"resource {name}", n) for name, n in CAPACITIES.items()}


class Contender:
    def __init__(self, place: Place, number: int, manager: LockManager) -> None:
        self._place, self._number, self._manager = place, number, manager
        self._registers = registers(place.folder)
        self._chance = random.Random()
        self._lost_before = 0

    def turn(self) -> None:
        """One of the things that one can do with locks."""
        self._lost_before = self._place.lost_at
        name, other = self._chance.sample(NAMES, 2)
        terms: dict[str, Any] = {
            "ttl": timedelta(milliseconds=self._chance.choice(TTLS_MS)),
            "wait": WAIT,
            "priority": self._chance.choice((0, 0, 1)),
        }
        acquire, many = self._manager.acquire, self._manager.acquire_many
        amount = self._chance.randint(1, CAPACITIES["gpu"])
        act: Callable[[], None] = self._chance.choice(
            (
                lambda: self._work(acquire(name, **terms), {name: MANY}),
                lambda: self._work(acquire(name, **terms), {name: MANY}),
                lambda: self._work(acquire(name, shared=True, **terms), {name: 1}),
                lambda: self._work(many((name, other), **terms), {name: MANY, other: MANY}),
                lambda: self._one_in_the_other(
                    acquire(name, **terms), name, partial(acquire, other, **terms), other
                ),
                lambda: self._work(self._manager.resources.acquire("gpu", amount, **terms), {"gpu": amount}),
                lambda: self._work(
                    self._manager.resources.acquire_many({"gpu": amount, "db": 1}, **terms),
                    {"gpu": amount, "db": 1},
                ),
            )
        )
        act()
        self._place.did(self._number)

    def _one_in_the_other(self, lock: Lock, name: str, acquire: Callable[[], Lock], other: str) -> None:
        try:
            self._come(lock, {name: MANY})
            self._work(acquire(), {other: MANY})
        finally:
            self._go(lock, {name: MANY})

    def _work(self, lock: Lock, amounts: Mapping[str, int]) -> None:
        try:
            self._come(lock, amounts)
            for _ in range(self._chance.randint(0, ACTS)):
                time.sleep(self._chance.expovariate(1 / BETWEEN_ACTS_S))
                lock.check()
                self._act(lock, amounts)
        finally:
            self._go(lock, amounts)

    def _come(self, lock: Lock, amounts: Mapping[str, int]) -> None:
        if lock.fence <= self._lost_before < LOSING:
            self._place.wrong(
                f"{lock}: granted after a loss of data at {self._lost_before}, with a fence of before"
            )
        for name, amount in amounts.items():
            try:
                self._registers[name].come(
                    lock.fence, amount, lock.deadline_s, lost_at=lambda: self._place.lost_at
                )
            except Refused:
                self._refused(lock, name)
            except Late as error:
                self.note("came in too late")
                raise LockLost("it expired before it was used", "acquire it again") from error

    def _act(self, lock: Lock, amounts: Mapping[str, int]) -> None:
        for name in amounts:
            try:
                self._registers[name].act(lock.fence, lock.deadline_s)
            except Refused:
                self._refused(lock, name)

    def _refused(self, lock: Lock, name: str) -> None:
        """It may be, where it was stopped between its own check and the deed, or Redis lost its data; not
        while it holds.
        """
        self.note("stale, refused by the register")
        if lock.fence > self._place.lost_at:
            lock.check()
            self._place.wrong(
                f"{name}: fence {lock.fence} was refused, and its holder holds it: {lock.remaining_s} s"
            )
        raise LockLost("refused by the register", "acquire it again")

    def _go(self, lock: Lock, amounts: Mapping[str, int]) -> None:
        for name in amounts:
            self._registers[name].go(lock.fence)
        with suppress(LockLost):
            lock.release()

    def note(self, event: str) -> None:
        with (self._place.folder / f"events-{self._number}").open("a") as file:
            file.write(f"{event}\n")


def contend(place: Place, number: int) -> None:
    logging.getLogger("coordination.locks").setLevel(logging.ERROR)
    with closing(LockManager(connect(place.url, Profile.WORKER), NAMESPACE)) as manager:
        contender = Contender(place, number, manager)
        while not place.over:
            try:
                contender.turn()
            except TwoHolders as error:
                place.wrong(str(error))
            except (LockError, Unreachable) as error:
                contender.note(type(error).__name__)
            except UsageError:
                with suppress(Unreachable):
                    manager.resources.declare(CAPACITIES)  # nobody has yet, or the server lost its data


def _check_orphans(place: Place) -> None:
    """Nothing stays that does not go away by itself, once the sweeper has looked for what the dead left."""
    deadline = time.monotonic() + LEFT_S
    while (left := _left_over(place)) and time.monotonic() < deadline:
        time.sleep(BETWEEN_LOOKS_S)
    for key in left:
        place.wrong(f"left over: {key}")


def _left_over(place: Place) -> set[str]:
    keys = Keys(NAMESPACE).locks
    fine = {
        keys.epoch,
        keys.capacities,
        f"{NAMESPACE}:fence",
        Keys(NAMESPACE).events.lasting,
        *(keys.stats(f"resource:{name}") for name in CAPACITIES),
    }
    with connect(place.url, Profile.WORKER) as client:
        sweeper = Sweeper(client, NAMESPACE)
        sweeper.run_once()
        sweeper.stop()
        return {key for key in client.scan_iter(f"{NAMESPACE}:*") if client.ttl(key) == FOR_EVER} - fine
