"""What ended runs have left on the workers' machines: looked at, and taken away when a person has said so.

Only a worker can reach it, so the command writes an errand, tells every worker of it and gathers the answers of all that
are there. First each says what it finds, and what of that it would keep and why; then the same errand, with the runs named,
is to take the rest away. An answer is complete or none; whoever does not answer is named.

What is taken is decided where it lies, at the moment it is taken: what was said before is for people.
"""

from __future__ import annotations

import logging
import re
import time
import uuid
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Annotated, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from redis import Redis

from coordination.errors import Conflict, NotFound, Unreachable
from coordination.messages import MessageBus
from coordination.runs.expiry import forget_bundles, forget_contexts, forget_logs
from coordination.runs.presence import Presence
from coordination.runs.records import RunStatus
from coordination.runs.store import RunStore, ms
from coordination.runs.view import RunReader
from coordination.wire.keys import Keys

WORKERS, ERRANDS = "workers", "errands"
"""The topic that every worker subscribes to, and the message that there are errands."""
RUN_ID = re.compile(r"[0-9]{8}-[0-9]{6}-[a-z0-9]{4}")
"""As submit.new_run_id makes them: a folder or a branch of any other name is not ours."""
RunId = Annotated[str, Field(pattern=f"^{RUN_ID.pattern}$")]
"""Folders are removed by this name: what reads an errand or an answer must not lead out of the state folder."""
FORGOTTEN = "forgotten"
BEGIN_WITHIN = timedelta(seconds=8)
"""More than a heartbeat: a worker that was not reached looks by then."""
DONE_WITHIN = timedelta(minutes=30)
POLL_S = 0.05
ASKED_AT_ONCE = 500
ENDED = frozenset(status for status in RunStatus if status.ended)
SHOWN = 5

Record = TypeVar("Record", bound=BaseModel)
logger = logging.getLogger(__name__)


class Kind(StrEnum):
    WORKTREE = "worktree"
    BRANCH = "branch"
    LOGS = "logs"
    CARRIED = "carried"
    """Copies of commits that were made on other hosts."""


class Artifact(BaseModel):
    """One thing that a run has left on a host."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    run: RunId
    kind: Kind
    repo: str = ""
    path: str
    """The folder; of a branch, its repository."""
    bytes: int = 0
    changed: bool = False
    """A worktree with something in it that is in no commit, or whose HEAD is `loose`."""
    loose: str = ""
    """The commit that its detached HEAD stands at, if no branch or tag has it."""
    unmerged: bool = False
    """A branch with a commit that is in no branch but those of runs."""
    stays: str = ""
    """Why it is kept, whoever asks; empty if it can go."""
    gone: bool = False
    host: str = ""


class Sought(BaseModel):
    """The result of a completed todo, that is to be in its base branch."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    todo: str
    repo: str
    branch: str
    """The base."""
    commit: str = ""
    """Empty where none was recorded: then its trailers are looked for."""
    run: str = ""
    tips: tuple[str, ...] = ()
    """At which runs that contain it have left the repository."""


class Finding(BaseModel):
    """What a worker says of one."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    todo: str
    repo: str
    branch: str
    run: str = ""
    why: str = ""
    """Why it does not count as landed; empty if it does, or if there is nothing of it."""


class CleanupJob(BaseModel):
    """What the workers are asked. `runs`: these alone, else every run that left something, but those to `spare`; `sought`: whether
    these are in the base branches.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    id: str
    until_ms: int
    """By when it must be begun."""
    remove: bool = False
    branches: bool = True
    runs: tuple[RunId, ...] | None = None
    spare: tuple[str, ...] = ()
    tips: Mapping[str, Mapping[str, str]] = {}
    """Run → repository → the commit at which the run left its branch."""
    sought: tuple[Sought, ...] = ()

    def about(self, repos: Container[str]) -> CleanupJob:
        """The same, as far as it is about these repositories."""
        tips = {run: {repo: tip for repo, tip in of.items() if repo in repos} for run, of in self.tips.items()}
        sought = tuple(one for one in self.sought if one.repo in repos)
        return self.model_copy(update={"tips": tips, "sought": sought})


class Answer(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    host: str
    done: bool = False
    found: tuple[Artifact, ...] = ()
    landed: tuple[Finding, ...] = ()
    error: str = ""


class CleanupQueue:
    """Where errands hang, and the workers' answers."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis = redis
        self._keys = keys

    def errands(self) -> list[CleanupJob]:
        """Those that may still be begun: who asked may have died, and nothing is removed behind people's backs."""
        errands = readable(CleanupJob, self._redis.hgetall(self._keys.errands), "errand")
        return [errand for errand in errands.values() if self._now_ms() < errand.until_ms]

    def answer(self, errand_id: str, worker_id: str, answer: Answer) -> None:
        key = self._keys.errand(errand_id)
        with self._redis.pipeline() as pipeline:
            pipeline.hset(key, worker_id, answer.model_dump_json())
            pipeline.expire(key, DONE_WITHIN)
            pipeline.execute()

    def hang(self, errand: CleanupJob) -> None:
        with self._redis.pipeline() as pipeline:
            pipeline.hset(self._keys.errands, errand.id, errand.model_dump_json())
            pipeline.expire(self._keys.errands, DONE_WITHIN)
            pipeline.execute()
        bus = MessageBus(self._redis, self._keys.namespace)
        bus.broadcast(WORKERS, ERRANDS, ttl=2 * BEGIN_WITHIN, ack=False)
        self._redis.publish(self._keys.messages.mail(f"topic:{WORKERS}"), "")  # for those that may read no inbox

    def _now_ms(self) -> int:
        return int(self._redis.time()[0]) * 1000

    def answers(self, errand_id: str) -> dict[str, Answer]:
        """Worker → its answer, begun or done."""
        return readable(Answer, self._redis.hgetall(self._keys.errand(errand_id)), "answer of worker")

    def take_down(self, errand_id: str) -> None:
        self._redis.hdel(self._keys.errands, errand_id)
        self._redis.delete(self._keys.errand(errand_id))


@dataclass(frozen=True, kw_only=True)
class Ended:
    """What Redis knows of an ended run."""

    status: str
    tips: Mapping[str, str]
    hosts: tuple[str, ...]
    """Where it worked."""
    finished_ms: int = 0


@dataclass(frozen=True, kw_only=True)
class Survey:
    found: tuple[Artifact, ...]
    statuses: Mapping[str, str]
    """Run → its status, or `forgotten`."""
    silent: tuple[str, ...]
    """Workers that are there and did not answer, with the reason if they gave one."""
    absent: tuple[str, ...]
    """Hosts where one of the runs worked, and none of whose workers is there."""

    ended_ms: Mapping[str, int]
    """Run → when it ended."""
    kept: tuple[Artifact, ...] = ()
    """Only copies in runs that were left out because not all of their work is merged."""

    @property
    def removable(self) -> tuple[Artifact, ...]:
        return tuple(r for r in self.found if not r.stays)

    @property
    def only_copies(self) -> tuple[Artifact, ...]:
        """Branches and worktrees that could go, and with them the only copy of somebody's work."""
        return tuple(r for r in self.removable if r.unmerged or r.changed)

    def only(self, *, merged: bool = False, before_ms: int | None = None) -> Survey:
        """Of runs alone whose work is all `merged`, nothing of it changed since, and that ended before that."""
        late = {run for run, at in self.ended_ms.items() if before_ms is not None and at >= before_ms}
        kept = tuple(r for r in self.found if merged and (r.unmerged or r.changed) and r.run not in late)
        left = late | {r.run for r in kept}
        return replace(self, found=tuple(r for r in self.found if r.run not in left), kept=kept)

    def refuse_only_copies(self) -> None:
        """Raise Conflict where the only copy of somebody's work would go."""
        copies = self.only_copies
        if copies:
            commit = "commit it there; " if any(r.changed and not r.loose for r in copies) else ""
            if loose := next((r.path for r in copies if r.loose), ""):
                commit += f"keep the commits on a branch: git -C {loose} branch NAME; "
            keep = "" if commit else "; or leave branches where they are: --keep-branches"
            raise Conflict(
                f"the only copy would go of {in_words(copies)}",
                f"{commit}remove what is merged: coord clean --merged --yes; "
                f"or this too: coord clean --unmerged --yes{keep}",
            )


def in_words(copies: Sequence[Artifact]) -> str:
    """Name worktrees by their folders, and branches, some of each."""
    folders = [f"{r.path} on {r.host}" for r in copies if r.changed and not r.loose]
    loose = [f"{r.path} on {r.host}" for r in copies if r.loose]
    branches = [f"coord/{r.run} of {r.repo}" for r in copies if r.unmerged]
    words = [
        f"{what} {', '.join(names[:SHOWN])}" + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
        for what, names in (
            ("uncommitted changes in", folders),
            ("commits that are in no branch, at HEAD of", loose),
            ("commits that are in no branch but", branches),
        )
        if names
    ]
    return "; ".join(words)


class Cleaning:
    def __init__(self, store: RunStore) -> None:
        self._store = store
        self._board = CleanupQueue(store.redis, store.keys)
        self._presence = Presence(store.redis, store.keys)
        self._reader = RunReader(store.redis, store.keys)

    @property
    def now_ms(self) -> int:
        return self._store.now_ms()

    def survey(self, named: Sequence[str], *, branches: bool = True) -> Survey:
        """What there is of these runs (of all ended ones, where none is named). Raises Conflict for a live one, and one that is half undone."""
        chosen = tuple(dict.fromkeys(self._resolved(name) for name in named))
        needed = self._needed()
        for run_id in chosen:
            if run_id in needed:
                raise Conflict(f"run {run_id} {needed[run_id]}", f"look: coord show-run {run_id}; clean up afterwards")
        return self._ask(remove=False, branches=branches, runs=chosen or None, spare=tuple(needed))

    def remove(self, survey: Survey, *, branches: bool = True) -> Survey:
        """Takes away what the survey found, as far as it can go; returns what went and what stayed."""
        runs = tuple(dict.fromkeys(r.run for r in survey.found))
        needed = self._needed()  # a run may have been taken up anew, or back, while the question stood
        done = self._ask(remove=True, branches=branches, runs=tuple(r for r in runs if r not in needed))
        for run_id in set(runs) - set(needed):
            forget_logs(self._store, run_id)
            forget_contexts(self._store, run_id)
            if branches and all(r.gone for r in done.found if r.run == run_id):
                forget_bundles(self._store, run_id)
        return replace(done, kept=survey.kept)

    def _resolved(self, name: str) -> str:
        try:
            return self._reader.resolve(name)
        except NotFound:
            if RUN_ID.fullmatch(name):  # Redis has forgotten it, a folder may tell of it
                return name
            raise

    def _needed(self) -> dict[str, str]:
        """Runs that must not be touched → why."""
        half = dict.fromkeys(
            self._reader.half_undone(), "could not be undone, and what undoes it needs what it has left"
        )
        needed = half | dict.fromkeys(self._store.live_runs(), "is live")
        for run_id, why in tuple(needed.items()):
            source = self._source_of(run_id)
            while source:
                needed.setdefault(source, f"is carried on by run {run_id}, which {why}")
                source = self._source_of(source)
        return needed

    def _source_of(self, run_id: str) -> str | None:
        source: str | None = self._store.redis.hget(self._store.keys.run(run_id).meta, "carried_from")
        return source

    def _ask(
        self, *, remove: bool, branches: bool, runs: tuple[str, ...] | None, spare: tuple[str, ...] = ()
    ) -> Survey:
        ended = self._ended()
        errand = CleanupJob(
            id=uuid.uuid4().hex,
            until_ms=self._store.now_ms() + ms(2 * BEGIN_WITHIN),
            remove=remove,
            branches=branches,
            runs=runs,
            spare=spare,
            tips={run_id: known.tips for run_id, known in ended.items() if known.tips},
        )
        answers, silent = ask_workers(self._board, self._presence, errand)
        found = self._of_ended(_asked_for(merged(answers), errand), ended)
        there = {answer.host for answer in answers}
        concerned = [known for run_id, known in ended.items() if runs is None or run_id in runs]
        hosts = {host for known in concerned for host in known.hosts}
        return Survey(
            found=found,
            ended_ms={r.run: _ended_ms(r.run, ended.get(r.run)) for r in found},
            statuses={r.run: ended[r.run].status if r.run in ended else FORGOTTEN for r in found},
            silent=silent,
            absent=tuple(sorted(hosts - there - {worker.host for worker in self._presence.workers()})),
        )

    def _of_ended(self, found: tuple[Artifact, ...], ended: Mapping[str, Ended]) -> tuple[Artifact, ...]:
        """A run that began, or ended, while the workers looked is left for another time."""
        others = {r.run for r in found} - set(ended)
        known = {run_id for run_id in others if self._store.status(run_id) is not None}
        return tuple(r for r in found if r.run not in known)

    def _ended(self) -> dict[str, Ended]:
        ids = self._store.redis.zrange(self._store.keys.runs, 0, -1)
        known = {}
        for start in range(0, len(ids), ASKED_AT_ONCE):
            piece = ids[start : start + ASKED_AT_ONCE]
            with self._store.redis.pipeline(transaction=False) as pipeline:
                for run_id in piece:
                    pipeline.hgetall(self._store.keys.run(run_id).meta)
                    pipeline.hgetall(self._store.keys.run(run_id).tips)
                rows = pipeline.execute()
            for run_id, meta, tips in zip(piece, rows[::2], rows[1::2], strict=True):
                if meta.get("status") in ENDED:  # what is no status is no run of ours
                    hosts = tuple(value for name, value in meta.items() if name.startswith("host."))
                    finished_ms = int(meta.get("finished_at") or 0)
                    known[run_id] = Ended(status=meta["status"], tips=tips, hosts=hosts, finished_ms=finished_ms)
        return known


def _asked_for(found: Iterable[Artifact], errand: CleanupJob) -> tuple[Artifact, ...]:
    """Without what an answer says of other runs: a worker may not add to what a person has asked for."""
    return tuple(r for r in found if r.run not in errand.spare and (errand.runs is None or r.run in errand.runs))


def _ended_ms(run_id: str, known: Ended | None) -> int:
    """Of a run that Redis has forgotten, when it was begun, by its id: it ended no later than it was forgotten."""
    if known is not None:
        return known.finished_ms
    try:
        begun = datetime.strptime(run_id[:15], "%Y%m%d-%H%M%S").replace(tzinfo=UTC)
    except ValueError:  # no day of the calendar: nobody knows
        return 0
    return int(begun.timestamp() * 1000)


def ask_workers(
    board: CleanupQueue, presence: Presence, errand: CleanupJob, repos: Container[str] | None = None
) -> tuple[list[Answer], tuple[str, ...]]:
    """Return the complete answers of the workers (of those that serve one of `repos`), and the workers that gave none."""
    asked = {w.id for w in presence.workers() if repos is None or any(repo in repos for repo in w.repos)}
    if not asked:
        raise Unreachable(
            "no worker is there, and only workers reach what runs have left on their machines",
            "start one where the repositories are: coord worker --all",
        )
    try:
        board.hang(errand)
        answers = _gathered(board, errand, lambda: {w.id for w in presence.workers()} & asked)
    finally:
        board.take_down(errand.id)
    answers = {worker: answer for worker, answer in answers.items() if worker in asked}
    complete = [answer for answer in answers.values() if answer.done and not answer.error]
    told = {worker: answer.error for worker, answer in answers.items() if answer.error}
    silent = [worker for worker in sorted(asked) if worker not in answers or not answers[worker].done]
    return complete, (*silent, *(f"{worker}: {why}" for worker, why in told.items()))


def _gathered(board: CleanupQueue, errand: CleanupJob, there: Callable[[], set[str]]) -> dict[str, Answer]:
    began = time.monotonic()
    waited_for = there()
    while True:
        answers = board.answers(errand.id)
        waited_for &= there()  # who dies meanwhile will not answer
        if time.monotonic() - began > BEGIN_WITHIN.total_seconds():
            waited_for &= set(answers)
        if not any(worker not in answers or not answers[worker].done for worker in waited_for):
            return answers
        time.sleep(POLL_S)


def readable(kind: type[Record], rows: Mapping[str, str], what: str) -> dict[str, Record]:
    """The rows as records; what cannot be read is named in the log, and passed over: it must not hold up the others."""
    found = {}
    for name, row in rows.items():
        try:
            found[name] = kind.model_validate_json(row)
        except ValidationError as error:
            logger.warning("the %s %s cannot be read: %s", what, name, str(error).partition("\n")[0])
    return found


def merged(answers: Iterable[Answer]) -> tuple[Artifact, ...]:
    """Each thing once, by run: two workers of a host may have seen the same, and what one of them took is gone."""
    things: dict[tuple[str, str, str, str, str], Artifact] = {}
    for answer in answers:
        for remnant in answer.found:
            key = (remnant.run, answer.host, remnant.repo, remnant.kind, remnant.path)
            if key not in things or remnant.gone:
                things[key] = remnant.model_copy(update={"host": answer.host})
    return tuple(things[key] for key in sorted(things))
