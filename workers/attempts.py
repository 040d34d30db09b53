"""A delivery, from the claim to the step that its attempt came to. At most three round trips on our own connection."""

from __future__ import annotations

import logging
import random
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

import redis

from coordination.models import secrets_of
from coordination.runs.dispatch import Dispatcher
from coordination.runs.presence import Worker
from coordination.runs.records import Grant, Reply, Result, RunStatus, TodoState
from coordination.runs.retry import Again, GiveUp, decide
from coordination.runs.shared import ContextCalls
from coordination.runs.store import RunStore
from coordination.wire.trouble import cannot_write
from workers.attempt import Attempt
from workers.conclusion import Conclusion, Word
from workers.context import Context
from workers.context_socket import served
from workers.freight import Freight
from workers.janitor import OVER, Janitor
from workers.leases import Leases
from workers.logs import Log
from workers.occupancy import Superseded
from workers.parcels import Parcels
from workers.reuse import Results
from workers.surroundings import Surroundings
from workers.verdict import Kind, Verdict
from workers.whereabouts import Whereabouts

if TYPE_CHECKING:
    from workers.app import Charge

T = TypeVar("T")

PARKED_FOR = timedelta(seconds=5)
HINDERED_FOR = timedelta(seconds=1)
"""The first time; the step doubles it up to a minute."""
REDIS_RETRY_S = 0.5
LOST = "its lease was lost"

logger = logging.getLogger(__name__)


class Attempts:
    def __init__(
        self,
        store: RunStore,
        dispatcher: Dispatcher,
        leases: Leases,
        worker: Worker,
        charge: Charge,
        parcels: Parcels,
        contexts: ContextCalls,
        results: Results | None = None,
    ) -> None:
        self._store = store
        self._dispatcher = dispatcher
        self._leases = leases
        self._worker = worker
        self._charge = charge
        self._contexts = contexts
        self._results = results
        self._freight = Freight(parcels, charge)
        whereabouts = Whereabouts(self._freight.arrivals, charge.state)
        self._context = Context(store, whereabouts, charge.settings.context_limit_bytes)
        self.janitor = Janitor(store, charge.state, charge.places)
        self._running: set[Attempt] = set()
        self._guard = threading.Lock()

    def carry_out(self, run_id: str, todo_id: str, attempt: int, repo: str) -> Verdict:
        """What the delivery came to; never raises for what a todo does."""
        with self._charge.served.in_hand(repo):
            return self._carried_out(run_id, todo_id, attempt, repo)

    def _carried_out(self, run_id: str, todo_id: str, attempt: int, repo: str) -> Verdict:
        request = uuid.uuid4().hex
        reply = self._until_answered(
            lambda: self._store.claim(
                run_id,
                todo_id,
                attempt,
                worker=self._worker.id,
                host=self._worker.host,
                lease=self._charge.settings.lease_ttl,
                request=request,
                unfit=self._unfit(repo),
                short=self._short(repo),
            )
        )
        self._dispatcher.follow(reply)
        if reply.grant is None:
            if reply.word == "ended":
                return Verdict(Kind.CANCELLED if reply.status == RunStatus.CANCELLED else Kind.ENDED, reply.word)
            return Verdict(Kind.LATER, reply.word)
        return self._perform(reply.grant)

    def _unfit(self, repo: str) -> str:
        why = self._charge.unfit(repo)
        return f"a worker for {repo}: on host {self._worker.host} {why}" if why else ""

    def _short(self, repo: str) -> str:
        why = self._charge.short()
        return f"room on a disk for {repo}: on host {self._worker.host} {why}" if why else ""

    def hand_back_all(self) -> None:
        """Kill what runs here and give it back; for a worker that was told twice to stop."""
        with self._guard:
            running = tuple(self._running)
        for attempt in running:
            attempt.stop(Word.HANDED_BACK, at_once=True)
        deadline = time.monotonic() + self._charge.settings.kill_grace.total_seconds()
        while self._running and time.monotonic() < deadline:
            time.sleep(0.02)  # the threads that wait for the children hand them back

    def say(self, run_id: str, line: str) -> None:
        """In the logs of the run's todos that run here."""
        with self._guard:
            concerned = [attempt for attempt in self._running if attempt.grant.run_id == run_id]
        for attempt in concerned:
            attempt.say(line)

    def _perform(self, grant: Grant) -> Verdict:
        path, limit = (
            self._charge.state / "logs" / grant.run_id / f"{grant.todo_id}.log",
            self._charge.settings.log_limit_bytes,
        )
        log = Log(
            lambda text, skipped: self._store.log(
                grant.run_id, grant.todo_id, grant.attempt, text, skipped, str(path), limit
            ),
            path,
            limit_bytes=limit,
            secrets=secrets_of(grant.spec.todo),
        )
        attempt = Attempt(grant, self._surroundings(grant, log), log)
        with self._guard:
            self._running.add(attempt)
        self._leases.add(
            grant,
            lost=lambda: attempt.stop(Word.LOST),
            stop=lambda: attempt.stop(Word.CANCELLED),
            checkpoint=attempt.checkpoint,
        )
        try:
            conclusion = _judged(grant, attempt.run(), log)
            log.close()  # before the step: whoever sees the end of the todo finds all of its log
            verdict = self._conclude(grant, conclusion)
            if verdict.kind is Kind.DONE:
                attempt.counts()
            elif conclusion.tip and verdict.kind is Kind.LATER:
                attempt.take_back()
            return verdict
        finally:
            log.close()
            attempt.close()
            self._leases.remove(grant)
            with self._guard:
                self._running.discard(attempt)

    def _surroundings(self, grant: Grant, log: Log) -> Surroundings:
        brief = self._until_answered(lambda: self._context.brief(grant.run_id))
        runs = (grant.run_id, *brief.carried_from)
        return Surroundings(
            brief=brief,
            context=cache(lambda: self._told(grant, log)),
            state=self._charge.state,
            checkout=self._charge.places[grant.spec.repo.name],
            output_limit_bytes=self._charge.settings.output_limit_bytes,
            connection=lambda: served(
                self._contexts, grant.run_id, grant.todo_id, self._charge.settings.cache_value_bytes
            ),
            results=self._results,
            fetch=lambda *what: self._until_answered(lambda: self._freight.fetch(grant, runs, *what)),
            withdraw=lambda: self._until_answered(lambda: self._freight.withdraw(grant, runs)),
        )

    def _told(self, grant: Grant, log: Log) -> dict[str, Any]:
        context = self._until_answered(lambda: self._context.of(grant))
        for why in dict.fromkeys(one["why"] for one in context["predecessors"] if "why" in one):
            log.say(why)
        return context

    def _conclude(self, grant: Grant, conclusion: Conclusion) -> Verdict:
        why = conclusion.why
        logger.info("%s of run %s: %s %s", grant.todo_id, grant.run_id, conclusion.word, why.partition("\n")[0])
        if conclusion.word is Word.LOST:
            return Verdict(Kind.LATER, LOST)
        if conclusion.word is Word.SUPERSEDED:
            return self._refused(grant, why)
        if conclusion.word is Word.HANDED_BACK:
            return self._later(grant, lambda: self._store.hand_back(grant, conclusion.output), "handed back")
        if conclusion.word is Word.BUSY:
            return self._later(grant, lambda: self._store.park(grant, why, conclusion.again or PARKED_FOR), why)
        if conclusion.word is Word.HINDERED:
            return self._hold_up(grant, conclusion)
        if grant.undo and conclusion.word is not Word.SUCCEEDED and (unfit := self._unfit(grant.spec.repo.name)):
            return self._later(grant, lambda: self._store.park(grant, unfit, PARKED_FOR), unfit)
        if conclusion.again is not None:
            return self._try_again(grant, conclusion.again, conclusion)
        return self._settle(grant, conclusion)

    def _hold_up(self, grant: Grant, conclusion: Conclusion) -> Verdict:
        """Parked with a timer that grows: passing trouble fails no todo, and no run is rolled back for it."""
        limit = self._charge.settings.lost_leases if conclusion.limited else 0
        why, blame = self._unfit(grant.spec.repo.name) or conclusion.why, conclusion.blame
        reply = self._step(grant, lambda: self._store.hold_up(grant, why, HINDERED_FOR, blame, limit))
        return Verdict(Kind.FAILED if reply.word == "settled" else Kind.LATER, why)

    def _later(self, grant: Grant, step: Callable[[], Reply], why: str) -> Verdict:
        self._step(grant, step)
        return Verdict(Kind.LATER, why)

    def _try_again(self, grant: Grant, delay: timedelta, conclusion: Conclusion) -> Verdict:
        result = _result(TodoState.FAILED, conclusion)
        reply = self._step(grant, lambda: self._store.retry(grant, delay, result))
        return Verdict(Kind.FAILED if reply.word == "settled" else Kind.LATER, conclusion.why)

    def _settle(self, grant: Grant, conclusion: Conclusion) -> Verdict:
        outcome, kind = {
            Word.SUCCEEDED: (TodoState.SUCCEEDED, Kind.DONE),
            Word.CANCELLED: (TodoState.CANCELLED, Kind.CANCELLED),
        }.get(conclusion.word, (TodoState.FAILED, Kind.FAILED))
        if outcome is TodoState.SUCCEEDED:
            try:
                self._until_answered(lambda: self._freight.send(grant, conclusion))
            except Superseded as superseded:
                return self._refused(grant, superseded.message)
        reply = self._step(grant, lambda: self._store.settle(grant, _result(outcome, conclusion)))
        if reply.word == "stale":
            return Verdict(Kind.LATER, LOST)
        if reply.status in OVER:
            self.janitor.clear(grant.run_id, reply.status)
            repos = set(self._context.brief(grant.run_id).repo_of.values())
            self._until_answered(lambda: self._freight.let_go(grant.run_id, repos))
        return Verdict(kind, conclusion.why)

    def _step(self, grant: Grant, step: Callable[[], Reply]) -> Reply:
        reply = self._until_answered(step)
        self._dispatcher.follow(reply)
        if reply.word == "stale":
            self._refused(grant, "somebody else holds the todo, or has settled it")
        return reply

    def _refused(self, grant: Grant, why: str) -> Verdict:
        """An old holder's write, wherever its fence was checked: told to people, and counted."""
        words = f"the write of an old holder (fence {grant.fence}) was refused: {why}"
        logger.warning("%s of run %s: %s", grant.todo_id, grant.run_id, words)
        self._until_answered(lambda: self._store.refused(grant.run_id, grant.todo_id, grant.attempt, words))
        return Verdict(Kind.LATER, LOST)

    def _until_answered(self, ask: Callable[[], T]) -> T:
        """A Redis that is away is waited for: what an attempt came to is not given up."""
        while True:
            try:
                return ask()
            except redis.RedisError as error:
                if not isinstance(error, redis.ConnectionError | redis.TimeoutError) and not cannot_write(error):
                    raise
                logger.warning("Redis does not answer, asking again: %s", error)
                time.sleep(REDIS_RETRY_S)


def _judged(grant: Grant, conclusion: Conclusion, log: Log) -> Conclusion:
    """With what the todo's retry policy says of a failure. Which sign made it give up is said."""
    conclusion = replace(conclusion, why=log.masked(conclusion.why))
    if conclusion.word is not Word.FAILED:
        return conclusion
    draw = random.random()  # noqa: S311 — jitter, no secret
    match decide(grant.spec.retry, grant.tries + 1, draw, conclusion.failure):
        case Again(delay):
            return replace(conclusion, again=delay)
        case GiveUp(why) if why:
            log.say(why)
            return replace(conclusion, why=f"{conclusion.why} ({why})")
    return conclusion


def _result(outcome: TodoState, conclusion: Conclusion) -> Result:
    tip = conclusion.tip if outcome is TodoState.SUCCEEDED else ""
    return Result(
        outcome=outcome,
        exit_code=conclusion.exit_code,
        error=conclusion.why,
        output=conclusion.output,
        tip=tip,
        began=conclusion.since,
        blame=conclusion.blame,
        cached=conclusion.cached,
    )
