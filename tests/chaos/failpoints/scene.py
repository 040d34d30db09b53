"""One story, played once, with one process that may fail at one point; what became of it."""

from __future__ import annotations

import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import IO

import yaml
from redis import Redis

from coordination.backend.client import Profile, connect
from coordination.backend.keys import Keys, lock
from coordination.runs.records import LIVE
from tests.chaos.failpoints.programs import Program, begin
from tests.chaos.failpoints.story import Outcome, Story, Target, WorkerSpec
from tests.chaos.record import judged
from tests.testbed import PLAN, Testbed

LEASE_S = 1.5
KEEPER_S = 2.0
"""How long the lock of a keeper that died keeps others from its work."""
ENV = {
    "COORD_LEASE_TTL": f"{LEASE_S:g}s",
    "COORD_HEARTBEAT": "400ms",
    "COORD_LOST_LEASES": "50",
    "COORD_KILL_GRACE": "1s",
    "COORD_RETRY_DELAY": "100ms",
}
TICK_S = 0.01
UNREACHABLE, CONFLICT = 7, 6
"""Exit codes: try again, Redis or a worker did not answer; it was done before."""
PATIENCE, PAUSE_S = 5, 0.3
WITHIN_S = 120.0
LINGER_S = 1.2
"""After the end of a run its worker still clears away."""
STOP_WITHIN_S = 20.0
SWEEP = ("sweep", PLAN, "--detach")


class Scene:
    def __init__(
        self, story: Story, testbed: Testbed, url: str, namespace: str, target: Target | None = None
    ) -> None:
        self.story, self.testbed, self.target = story, testbed, target
        self.keys = Keys(namespace)
        self.redis: Redis = connect(url, Profile.COMMAND)
        self.env = {**ENV, **story.env, "COORD_REDIS_URL": url, "COORD_NAMESPACE": namespace}
        self.outcome = Outcome()
        self.forgotten: list[str] = []
        """Runs that were judged and are to go."""
        self.kept: IO[str]
        self.stuck = False
        """True if the run was made to stand still on purpose."""
        self._programs: list[Program] = []
        self._workers: list[tuple[WorkerSpec, Program]] = []
        self._deadline = time.monotonic() + WITHIN_S
        self._asleep_until: dict[int, float] = {}

    def play(self) -> Outcome:
        began = time.monotonic()
        try:
            self._play()
        except _Late as late:
            self.outcome.wrong.append(str(late))
        finally:
            for program in self._programs:
                program.end()
            self._conclude(time.monotonic() - began)
        return self.outcome

    def _play(self) -> None:
        story = self.story
        self._write()
        self._command("sweep", SWEEP)
        if len(self.runs) != 1:
            self.outcome.wrong.append(f"one command was to start a run, and there are {len(self.runs)}")
        story.before(self)
        for spec in story.workers:
            self.start(spec)
        for act in story.acts:
            title = f"{act.coord or act.do}: its time"
            self.until(lambda act=act: act.when(self), title)  # type: ignore[misc]
            act.do(self)
            if act.coord:
                self._command(act.role or act.coord[0], act.coord)
        self.until(lambda: all(self.status(run) not in LIVE for run in self.runs), "the end of the run")
        self.until(lambda: story.over(self), "what follows the end")
        self._linger()
        self.judge()
        self._end_workers()

    def judge(self) -> None:
        for run in self.runs:
            if run not in self.forgotten:
                self.outcome.wrong += self._judged(run)

    def state_folder(self, host: str = "") -> Path:
        return self.testbed.folder / f"state-{host}"

    def _write(self) -> None:
        story, file, folder = self.story, self.testbed.file, self.testbed.folder
        story.files(folder)
        repos = {
            name: {key: str(value).format(folder=folder) for key, value in fields.items()}
            for name, fields in story.repos.items()
        }
        self.testbed.write(story.todos, repos=repos, plan=story.plan)
        if story.resources:
            rows = [{"name": name, "capacity": capacity} for name, capacity in story.resources.items()]
            file.write_text(f"{file.read_text()}{yaml.safe_dump({'resources': rows})}")

    def start(self, spec: WorkerSpec) -> None:
        """Where there are several, each has begun before the next does: the first keeper leads."""
        program = self._begin(spec.role, self._words(spec), spec.env)
        self._workers.append((spec, program))
        if len(self.story.workers) > 1 and spec is self.story.workers[0]:
            self.until(lambda: self._has_begun(program), f"{spec.role} to begin")

    def retire(self, role: str, number: signal.Signals = signal.SIGTERM) -> None:
        """It ends, and nobody takes its place."""
        retired = [program for spec, program in self._workers if spec.role == role]
        self._workers = [(spec, program) for spec, program in self._workers if spec.role != role]
        for program in retired:
            program.signal(number)
        self.until(lambda: all(program.poll() is not None for program in retired), f"{role} to end")

    def _has_begun(self, program: Program) -> bool:
        leads = "restricted" in program.role or self.redis.exists(self.keys.locks.holder(lock("keeper")))
        return bool("serving" in program.said and leads) or program.was_stopped or program.poll() is not None

    @property
    def runs(self) -> list[str]:
        """All that were ever started."""
        return [
            run for run in self.redis.zrange(self.keys.runs, 0, -1) if self.status(run) not in ("", "draft")
        ]

    @property
    def run(self) -> str:
        return self.runs[-1]

    def status(self, run: str) -> str:
        return self.redis.hget(self.keys.run(run).meta, "status") or ""

    def state(self, todo: str) -> str:
        return self.redis.hget(self.keys.run(self.run).state, todo) or ""

    def fact(self, todo: str, name: str) -> str:
        return self.redis.hget(self.keys.run(self.run).facts, f"{todo} {name}") or ""

    def happened(self, what: str) -> bool:
        return any(fields["what"] == what for _, fields in self.redis.xrange(self.keys.run(self.run).events))

    def worker(self, role: str = "worker") -> Program:
        """Return the process that has this role at present."""
        return next(program for spec, program in reversed(self._workers) if spec.role == role)

    def _words(self, spec: WorkerSpec) -> list[str]:
        return [*spec.words, "--state", str(self.state_folder(spec.env.get("COORD_HOST", "")))]

    def _begin(
        self, role: str, words: Sequence[str], env: Mapping[str, str], *, well: bool = False
    ) -> Program:
        """`well`: without a fault, whatever the target is."""
        hit = self.target is not None and self.target.role == role and not well
        fault = str(self.target) if hit else ""
        program = begin(role, words, self.testbed.folder, {**self.env, **env}, fault)
        self._programs.append(program)
        return program

    def _command(self, role: str, words: Sequence[str]) -> None:
        """A person who did not hear that it was done asks again; what is said then may be that it was done
        before.
        """
        said = f"`coord {' '.join(words)}`"
        program = self._done(role, words)
        if program.code == 0:
            return
        if self.target and self.target.role == role:
            self._heard(program)
        elif self.target and program.code == CONFLICT:  # somebody's sleep was so long that it is too late
            return
        elif program.code != UNREACHABLE:
            raise _Late(f"{said}: exit {program.code}: {program.said[-600:]}")
        for _ in range(PATIENCE):
            self.until(partial(_is_over, time.monotonic() + PAUSE_S), "a moment")
            program = self._done(role, words, well=True)
            if program.code != UNREACHABLE:
                break
        if program.code not in (0, CONFLICT):
            self.outcome.wrong.append(f"asked again, {said}: exit {program.code}: {program.said[-600:]}")

    def _done(self, role: str, words: Sequence[str], *, well: bool = False) -> Program:
        program = self._begin(role, words, {}, well=well)
        self.until(lambda: program.poll() is not None, f"the end of `coord {' '.join(words)}`")
        return program

    def _heard(self, program: Program) -> None:
        """The message of a failed command is for people, and names the next step."""
        if program.code is not None and program.code > 0:
            self.outcome.notes.append(f"exit {program.code}: {' / '.join(program.said.splitlines()[-2:])}")
            if "Traceback" in program.said:
                self.outcome.wrong.append(f"a traceback for people: {program.said[-600:]}")

    def until(self, condition: Callable[[], object], what: str) -> None:
        while not condition():
            self._look_after()
            if time.monotonic() > self._deadline:
                raise _Late(f"not within {WITHIN_S:g} s: {what}; {self._where_it_stands()}")
            time.sleep(TICK_S)

    def _linger(self) -> None:
        """Until the point was reached, for a moment; a story without a target takes its moment in full."""
        end = time.monotonic() + LINGER_S
        with suppress(_Late):
            self.until(lambda: _is_over(end) or self.struck(), "a moment")
        self.until(lambda: not self._asleep_until, "those that sleep to go on")

    def struck(self) -> bool:
        if self.target is None:
            return False
        mark = f"{self.target.point} {self.target.fault}"
        return any(mark in program.reached for program in self._programs if program.role == self.target.role)

    def _look_after(self) -> None:
        """Replace dead processes; continue stopped ones when nothing depends on them any more."""
        for place, (spec, program) in enumerate(self._workers):
            if program.poll() is not None and not any(
                c is spec and p.code is None for c, p in self._workers[place + 1 :]
            ):
                self._replace(spec, program)
        for program in self._programs:
            if program.stopped and program.pid not in self._asleep_until:
                self._let_sleep(program)
            elif program.pid in self._asleep_until and time.monotonic() > self._asleep_until[program.pid]:
                del self._asleep_until[program.pid]
                program.go_on()

    def _let_sleep(self, program: Program) -> None:
        """Past its lease, and until another keeper has taken up what it had."""
        self._asleep_until[program.pid] = time.monotonic() + LEASE_S + KEEPER_S + 0.5
        spec = next((spec for spec, one in self._workers if one is program), None)
        if spec is not None:
            self._workers.append((spec, self._begin(spec.role, self._words(spec), spec.env, well=True)))

    def _replace(self, spec: WorkerSpec, program: Program) -> None:
        if program.code != -signal.SIGKILL:
            self.outcome.notes.append(
                f"{spec.role} ended by itself with {program.code}: {program.said[-300:]}"
            )
        self._workers.append((spec, self._begin(spec.role, self._words(spec), spec.env, well=True)))

    def _end_workers(self) -> None:
        """The last who came first: a restricted worker needs its keeper to the end."""
        for _, program in reversed(self._workers):
            self._deadline = time.monotonic() + STOP_WITHIN_S
            program.go_on()
            program.signal(signal.SIGTERM)
            while program.poll() is None:
                if program.stopped:
                    program.go_on()
                if time.monotonic() > self._deadline:
                    raise _Late(f"a worker did not end within {STOP_WITHIN_S:g} s: {self._said()}")
                time.sleep(TICK_S)

    def _judged(self, run: str) -> Iterator[str]:
        if self.status(run) not in self.story.ends:
            yield f"{run} is {self.status(run)}"
        if (told := self.redis.hget(self.keys.run(run).meta, "stuck")) and not self.stuck:
            yield f"{run} was taken for stuck: {told}"
        yield from judged(self.redis, run, self.testbed.folder / "ledger", self.keys.namespace)

    def _where_it_stands(self) -> str:
        states = {run: self.redis.hgetall(self.keys.run(run).state) for run in self.runs}
        return f"{states}\n{self._said()}"

    def _said(self) -> str:
        return "\n".join(f"{p.role} {p.pid} ({p.poll()}): {p.said[-1500:]}" for p in self._programs)

    def _conclude(self, took_s: float) -> None:
        outcome = self.outcome
        outcome.took_s, outcome.struck = took_s, self.struck()
        for program in self._programs:
            outcome.reached[program.role] = outcome.reached.get(program.role, Counter()) | Counter(
                program.reached
            )
            if "Traceback" in program.said and self.target is None:
                outcome.wrong.append(f"a traceback of {program.role}: {program.said[-1500:]}")
        self.redis.close()


def _is_over(at: float) -> bool:
    return time.monotonic() > at


class _Late(Exception):
    """Something did not come to pass."""
