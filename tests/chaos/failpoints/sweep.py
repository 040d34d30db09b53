"""Every point with every fault that can be there: a process is made to fail, others bring its story to the
end, the ledger judges.

First each story is played without a fault, which tells who comes by which points; what nobody comes by, and
what is reached and not in the list, is wrong. Then each point is given to the shortest story that comes by
it, once for each fault.
"""

from __future__ import annotations

import multiprocessing
import random
import re
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from os import cpu_count
from pathlib import Path

from coordination.backend.client import Profile, connect
from coordination.backend.embedded import EmbeddedServer
from coordination.settings import Settings
from tests.chaos.failpoints import points
from tests.chaos.failpoints.hooks import FAULTS
from tests.chaos.failpoints.scene import Scene
from tests.chaos.failpoints.stories.book import QUICK, STORIES
from tests.chaos.failpoints.story import Outcome, Story, Target
from tests.chaos.figures import Figures
from tests.ports import free_port
from tests.testbed import Testbed

FAULT = "a process fails at a point"
DOES = (
    "before and after each call of Redis, publish, acknowledgement, lock, compensation: killed, "
    "stopped past its lease, refused, unheard"
)
SHORT_STORIES, SHORT_TRIALS = 2, 6
PLAYERS = 2 * (cpu_count() or 1) + 1
"""At a time: a trial takes 1.5 s of a processor, and waits for leases three times as long."""
LONGEST_HIT = 4
TRIES = 4
SLOWER_S = 2.0
"""For some points not the quickest story is chosen, because others risk more."""
SAID = 4000


Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Trial:
    story: int
    target: Target | None = None


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a point is come by: in which story, by whom, how often."""

    story: int
    role: str
    times: int
    took_s: float


@dataclass(kw_only=True)
class Sweep:
    seed: int
    stories: Sequence[Story] = STORIES
    whole: bool = True
    """All stories: what none of them comes by is wrong."""
    places: dict[str, list[Place]] = field(default_factory=dict)
    """Point → where it is come by, the quickest first."""
    wrong: list[str] = field(default_factory=list)
    notes: Counter[str] = field(default_factory=Counter)
    struck: int = 0

    def discover(self, testbed: SweepTarget) -> None:
        trials = [Trial(story=number) for number in range(len(self.stories))]
        for trial, outcome in testbed.play(trials):
            self._judge(trial, outcome)
            for role, reached in outcome.reached.items():
                for point, times in reached.items():
                    place = Place(story=trial.story, role=role, times=times, took_s=outcome.took_s)
                    self.places.setdefault(point, []).append(place)
        for places in self.places.values():
            places.sort(key=lambda place: place.took_s)

    def coverage(self) -> None:
        """A point that no process comes by is one that nothing is known of."""
        reached = {point.rpartition(".")[0] for point in self.places}
        names = points.names()
        self.wrong += [f"reached, and not in the list of points: {name}" for name in sorted(reached - names)]
        if not self.whole:
            return
        missed = [name for name in sorted(names - reached) if not points.elsewhere(name)]
        self.wrong += [f"no story comes by {name}" for name in missed]
        for name in sorted(names & reached):
            if half := [side for side in FAULTS if f"{name}.{side}" not in self.places]:
                self.wrong.append(f"no story comes by {name}.{half[0]}")

    def trials(self) -> list[Trial]:
        """In no order: what is seen of the first tells of the others."""
        found = [
            self._trial(point, str(fault), 0)
            for point in sorted(self.places)
            for fault in FAULTS[point.rpartition(".")[2]]
        ]
        random.Random(self.seed).shuffle(found)
        return found

    def strike(self, testbed: SweepTarget, trials: Iterable[Trial]) -> None:
        """Try points that were not reached this time elsewhere: the leader, or the first process,
        may differ.
        """
        left, tried = list(trials), 0
        while left and tried < TRIES:
            again, tried = [], tried + 1
            for trial, outcome in testbed.play(left):
                assert trial.target is not None
                self._judge(trial, outcome)
                self.struck += outcome.struck
                if not outcome.struck:
                    again.append(self._trial(trial.target.point, str(trial.target.fault), tried))
            left = again
        self.wrong += [f"never reached: {trial.target} in {self.stories[trial.story].name}" for trial in left]

    def _trial(self, point: str, fault: str, tried: int) -> Trial:
        chance = random.Random(f"{self.seed} {point} {fault}")
        places = self.places[point]
        quick = [place for place in places if place.took_s < places[0].took_s + SLOWER_S]
        often = sorted(places, key=lambda place: -place.times)
        place = often[(tried - 1) % len(often)] if tried else chance.choice(quick)
        hit = chance.randint(1, max(1, min(place.times // 2, LONGEST_HIT))) if tried == 0 else 1
        kind = next(kind for kind in FAULTS[point.rpartition(".")[2]] if kind == fault)
        return Trial(story=place.story, target=Target(role=place.role, point=point, fault=kind, hit=hit))

    def _judge(self, trial: Trial, outcome: Outcome) -> None:
        what = (
            f"{self.stories[trial.story].name}: {trial.target.role if trial.target else ''} "
            f"{trial.target or 'no fault'}"
        )
        self.wrong += [f"{what}: {words[:SAID]}" for words in outcome.wrong]
        self.notes.update(f"{what}: {words[:SAID]}" for words in outcome.notes)


class SweepTarget:
    """A server of its own, and processes that play trials at the same time."""

    def __init__(
        self, root: Path, url: str, stories: Sequence[Story], said: Callable[[Trial, Outcome], None]
    ) -> None:
        self._root, self._url, self._stories, self._said = root, url, stories, said

    def play(self, trials: Sequence[Trial]) -> Iterator[tuple[Trial, Outcome]]:
        fork = multiprocessing.get_context("fork")
        jobs, results = fork.SimpleQueue(), fork.SimpleQueue()
        players = [fork.Process(target=self._player, args=(trials, jobs, results)) for _ in range(PLAYERS)]
        for player in players:
            player.start()
        try:
            for number in [*range(len(trials)), *[None] * len(players)]:
                jobs.put(number)
            for _ in trials:
                number, outcome = self._next(results, players)
                self._said(trials[number], outcome)
                yield trials[number], outcome
            for player in players:
                player.join()
        finally:
            for player in players:
                player.terminate()
                player.join()

    def _next(
        self, results: multiprocessing.SimpleQueue[tuple[int, Outcome]], players: list[BaseProcess]
    ) -> tuple[int, Outcome]:
        while results.empty():
            if any(player.exitcode for player in players):
                raise RuntimeError("one who plays the stories fell over")
            time.sleep(0.02)
        return results.get()

    def _player(
        self,
        trials: Sequence[Trial],
        jobs: multiprocessing.SimpleQueue[int | None],
        results: multiprocessing.SimpleQueue[tuple[int, Outcome]],
    ) -> None:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # the processes it has begun end with it
        while (number := jobs.get()) is not None:
            results.put((number, self._one(trials[number])))

    def _one(self, trial: Trial) -> Outcome:
        folder = Path(tempfile.mkdtemp(dir=self._root))
        namespace = folder.name.replace("_", "-")
        try:
            return Scene(
                self._stories[trial.story], Testbed(folder), self._url, namespace, trial.target
            ).play()
        finally:
            with connect(self._url, Profile.COMMAND) as redis:
                for pattern in (f"{namespace}:*", f"{namespace}.*", f"_kombu.binding.{namespace}*"):
                    for key in redis.scan_iter(pattern, count=1000):
                        redis.unlink(key)
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def prepared_testbed(
    stories: Sequence[Story], said: Callable[[Trial, Outcome], None] = lambda *_: None
) -> Iterator[SweepTarget]:
    with tempfile.TemporaryDirectory(prefix="coord-failpoints-", ignore_cleanup_errors=True) as root:
        port = free_port()  # over TCP: on a socket there is one machine, and nothing is carried
        server = EmbeddedServer(Path(root) / "server", Settings(server_port=port))
        server.start()
        try:
            password = str(server.url).partition("@")[0].rpartition(":")[2]
            yield SweepTarget(Path(root), f"redis://:{password}@127.0.0.1:{port}", stories, said)
        finally:
            server.stop()


def main(minutes: float = 0, seed: int | None = None, only: str = "", say: Say = lambda _: None) -> Figures:
    """All of them, however long that takes; `only`: a regular expression for `POINT=FAULT`."""
    seed = random.randrange(10**6) if seed is None else seed
    return _swept(Sweep(seed=seed), say, lambda trials: [t for t in trials if re.search(only, str(t.target))])


def short(seed: int | None = None, say: Say = lambda _: None) -> Figures:
    """A handful of them, in some stories that take little time."""
    seed = random.randrange(10**6) if seed is None else seed
    chance = random.Random(seed)
    sweep = Sweep(seed=seed, stories=chance.sample(QUICK, SHORT_STORIES), whole=False)
    return _swept(sweep, say, lambda trials: trials[:SHORT_TRIALS])


def _swept(sweep: Sweep, say: Say, chosen: Callable[[list[Trial]], list[Trial]]) -> Figures:
    began = time.monotonic()

    def said(trial: Trial, outcome: Outcome) -> None:
        for words in outcome.wrong:
            say(f"WRONG {words[:SAID]}")
        mark = "WRONG" if outcome.wrong else "" if outcome.struck or not trial.target else "not reached"
        say(
            f"{outcome.took_s:5.1f} s  {sweep.stories[trial.story].name}: {trial.target or 'no fault'} {mark}"
        )

    with prepared_testbed(sweep.stories, said) as testbed:
        sweep.discover(testbed)
        sweep.coverage()
        trials = chosen(sweep.trials())
        sweep.strike(testbed, trials)
    for note, times in sweep.notes.most_common():
        say(f"{times} times: {note}")
    names = {point.rpartition(".")[0] for point in sweep.places}
    return Figures(
        measured=(
            f"{len(names)} calls, {len(sweep.places)} points, "
            f"{sweep.struck} of {len(trials)} faults struck in {time.monotonic() - began:.0f} s, "
            f"{len(sweep.wrong)} violations, seed {sweep.seed}"
        ),
        wrong=sweep.wrong,
    )
