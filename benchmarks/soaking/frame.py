"""Many processes at work on one server, all of which may be killed, stopped or cut off at any moment; then it
is counted what went wrong.

A scenario brings its players: functions that work until they are told to stop, say each step that they have
done, and write down whatever must not be. The frame plays fate: it kills players (another takes the place),
stops them for a while, cuts connections, restarts the server with and without its data. When fate rests, each
player must get on, and end when it is told to.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Protocol

import redis

from coordination.backend.client import Profile, connect
from coordination.backend.embedded import EmbeddedServer
from coordination.settings import Settings

FORK = multiprocessing.get_context("forkserver")
STOPPED_S = (0.05, 0.9)
BETWEEN_S = (0.05, 0.3)
QUIET_S, POLL_S = 30.0, 0.05
LOSING = sys.maxsize
"""Data are being lost just now: nobody knows yet which fence is the last of before."""


@dataclass(frozen=True)
class Place:
    """Where a soak takes place: what its processes share."""

    folder: Path
    url: str

    def wrong(self, words: str) -> None:
        """Whatever must not be."""
        with (self.folder / "wrong").open("a") as file:
            file.write(f"{words}\n")

    def did(self, player: int) -> None:
        """A step of the player is done."""
        with (self.folder / f"steps-{player}").open("ab") as file:
            file.write(b".")

    def steps(self, player: int) -> int:
        path = self.folder / f"steps-{player}"
        return path.stat().st_size if path.exists() else 0

    @property
    def over(self) -> bool:
        return (self.folder / "over").exists()

    @property
    def lost_at(self) -> int:
        """The server's clock, in us, when its data was lost last; 0: never."""
        path = self.folder / "lost"
        return int(path.read_text()) if path.exists() else 0

    def note_loss(self, at: int) -> None:
        new = self.folder / "lost.new"
        new.write_text(str(at))
        new.replace(self.folder / "lost")


class Scenario(Protocol):
    def players(self) -> Sequence[Callable[[Place, int], None]]:
        """Return the function of each process; it gets its own number and works until the soak ends."""

    def check(self, place: Place) -> dict[str, str]:
        """When all is over: figures by name. What must not be is said to the place."""


@dataclass
class Soaked:
    wrong: list[str]
    fate: Counter[str]
    figures: dict[str, str] = field(default_factory=dict)


def soak(folder: Path, scenarios: Sequence[Scenario], seconds: float, seed: int) -> Soaked:
    """Takes `seconds`, and as long as the players need to end."""
    server = EmbeddedServer(folder / ".coord", Settings())
    place = Place(folder, server.start())
    FORK.set_forkserver_preload([type(scenario).__module__ for scenario in scenarios])
    players = [player for scenario in scenarios for player in scenario.players()]
    troupe = Troupe(place, players)
    fate = Fate(place, server, troupe, random.Random(seed))
    try:
        fate.play(seconds)
        troupe.rest()
        figures = {name: it for scenario in scenarios for name, it in scenario.check(place).items()}
    finally:
        troupe.kill()
        server.stop()
    wrong = folder / "wrong"
    return Soaked(wrong.read_text().splitlines() if wrong.exists() else [], fate.did, figures)


class Troupe:
    """The players' processes. One that ended is replaced."""

    def __init__(self, place: Place, operations: Sequence[Callable[[Place, int], None]]) -> None:
        self._place = place
        self._operations = operations
        self.processes = [self._start(number) for number in range(len(operations))]

    def _start(self, number: int) -> BaseProcess:
        process = FORK.Process(
            target=_play, args=(self._operations[number], self._place, number), daemon=True
        )
        process.start()
        return process

    def replace_the_dead(self) -> None:
        for number, process in enumerate(self.processes):
            if process.exitcode is not None:
                self.processes[number] = self._start(number)

    def rest(self) -> None:
        """Fate rests: everybody gets on, twice at least, and then ends when it is told to."""
        self.replace_the_dead()
        before = [self._place.steps(number) for number in range(len(self._operations))]
        self._await("did not get on", lambda number: self._place.steps(number) >= before[number] + 2)
        (self._place.folder / "over").touch()
        self._await("did not end", lambda number: self.processes[number].exitcode is not None)

    def _await(self, wrong: str, condition: Callable[[int], bool]) -> None:
        deadline = time.monotonic() + QUIET_S
        missing = list(range(len(self._operations)))
        while missing and time.monotonic() < deadline:
            missing = [number for number in missing if not condition(number)]
            time.sleep(POLL_S)
        for number in missing:
            self._place.wrong(f"player {number} ({self._operations[number]}) {wrong} within {QUIET_S} s")

    def kill(self) -> None:
        for process in self.processes:
            process.kill()
            process.join()


def _play(operation: Callable[[Place, int], None], place: Place, number: int) -> None:
    try:
        operation(place, number)
    except Exception as error:  # noqa: BLE001 (whatever it is, it is to be known)
        place.wrong(f"player {number}: {error!r}")


class Fate:
    def __init__(self, place: Place, server: EmbeddedServer, troupe: Troupe, chance: random.Random) -> None:
        self.did: Counter[str] = Counter()
        self._place, self._server, self._troupe, self._chance = place, server, troupe, chance
        self._stopped: dict[int, float] = {}
        self._operations = [self.kill] * 6 + [self.stop] * 6 + [self.cut_off] * 2
        self._operations += [self.restart_server, self.kill_server, self.lose_data]

    def play(self, seconds: float) -> None:
        """Each operation once, in any order, so that a slow machine leaves none out; then at random."""
        end = time.monotonic() + seconds
        first = list(dict.fromkeys(self._operations))
        self._chance.shuffle(first)
        while time.monotonic() < end:
            time.sleep(self._chance.uniform(*BETWEEN_S))
            self._wake(time.monotonic())
            operation = first.pop() if first else self._chance.choice(self._operations)
            with suppress(redis.ConnectionError, redis.TimeoutError):
                operation()
            self.did[operation.__name__] += 1
            self._troupe.replace_the_dead()
        self._wake(float("inf"))

    def _wake(self, now_s: float) -> None:
        for pid in [pid for pid, until_s in self._stopped.items() if until_s <= now_s]:
            del self._stopped[pid]
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

    def _anybody(self) -> BaseProcess:
        return self._chance.choice(self._troupe.processes)

    def kill(self) -> None:
        process = self._anybody()
        process.kill()
        process.join()

    def stop(self) -> None:
        process = self._anybody()
        if process.is_alive() and process.pid:
            os.kill(process.pid, signal.SIGSTOP)
            self._stopped[process.pid] = time.monotonic() + self._chance.uniform(*STOPPED_S)

    def cut_off(self) -> None:
        with connect(self._place.url, Profile.COMMAND) as client:
            client.client_kill_filter(_type="normal", skipme=True)

    def restart_server(self) -> None:
        self._server.stop()
        self._server.start()

    def kill_server(self) -> None:
        """It may lose what it has not written yet."""
        record = self._server.running()
        assert record is not None
        with self._losing():
            os.kill(record.pid, signal.SIGKILL)
            self._server.start()

    def lose_data(self) -> None:
        with self._losing(), connect(self._place.url, Profile.COMMAND) as client:
            client.flushall()

    @contextmanager
    def _losing(self) -> Iterator[None]:
        """Record that former holders hold nothing any more; they may not have noticed yet."""
        self._place.note_loss(LOSING)
        yield
        with connect(self._place.url, Profile.COMMAND) as client:
            seconds, micros = client.time()
        self._place.note_loss(seconds * 1_000_000 + micros)
