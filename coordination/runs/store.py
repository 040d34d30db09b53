"""The steps of a run on Redis; each is one call of a Lua script, executed whole or not at all.

Every step returns a Reply; the caller passes it to `Dispatcher.follow`, which sends the necessary messages.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

from redis import Redis

from coordination.backend import library
from coordination.backend.keys import Keys, resource, split_member
from coordination.backend.step_connection import StepCaller
from coordination.backend.steps import STEPS, Word
from coordination.cache.entries import drop
from coordination.durations import ms
from coordination.events.records import append_args
from coordination.runs.logs import LOG_LIMIT_BYTES, pieces_of
from coordination.runs.records import Blame, Descriptor, Result, RunBrief, WaitReason
from coordination.runs.replies import FACTS, Delivery, Grant, Reply, TodoInputs

LONGEST_TITLE = 500
"""Characters of an event's title."""


class RunStore:
    def __init__(self, redis: Redis, namespace: str, scripts: StepCaller | None = None) -> None:
        """`scripts`: a caller with connections of its own, for callers of many steps."""
        self.redis = redis
        self.keys = Keys(namespace)
        self._scripts = scripts or StepCaller(redis)
        self._client_scripts = StepCaller(redis)

    def declare(self, capacities: Mapping[str, int]) -> None:
        """Declare the capacities of resources, as `LockManager.resources.declare` does."""
        if words := [word for name, capacity in capacities.items() for word in (resource(name), capacity)]:
            self._scripts("lock/declare", [self.keys.locks.head], words)

    def announce(self, kind: str, subject: str, **fields: Any) -> None:
        """Write an event of an operation that is no step, with the fields of `append_args`."""
        self._scripts("event/append", [self.keys.events.head], append_args(kind, subject, **fields))

    def give_back(self, members: Iterable[str]) -> None:
        """Release what these todos hold or wait for; for runs that have no steps any more."""
        self._scripts("lock/give_back", [self.keys.locks.head], list(members))

    def drop_contexts(self, contexts: Iterable[str]) -> None:
        """Delete all values of these contexts of the cache."""
        drop(lambda piece: self._scripts("cache/drop", [self.keys.cache.head], piece), contexts)

    def seal(self, run_id: str, further: Sequence[str] = (), writes: Iterable[Sequence[str]] = ()) -> Reply:
        """Start a draft: `sealed`, or `busy` or `moved` where its change set does not allow it now.

        `further`: keys of the run besides those that every run has; they no longer expire either. `writes`:
        the repositories of the change set that it writes, each with its branch and its tip.
        """
        return self._step("seal", run_id, *(word for one in writes for word in one), further=further)

    def adopt(
        self,
        run_id: str,
        further: Sequence[str],
        status: str,
        started_at: str,
        fence: int,
        actor: str,
        timers: Mapping[str, float],
    ) -> Reply:
        """Turn the draft of an imported run into a run: `adopted`, or `known`. `timers`: todo → its due time,
        in ms.
        """
        due = [part for pair in timers.items() for part in pair]
        return self._step(
            "adopt", run_id, *due, further=further, status=status, started_at_ms=started_at, fence=fence,
            actor=actor,
        )  # fmt: skip

    def claim(
        self,
        run_id: str,
        todo_id: str,
        attempt: int,
        *,
        worker: str,
        host: str,
        lease: timedelta,
        request: str = "",
        unfit: str = "",
        short: str = "",
    ) -> Reply:
        """Return `granted` with a Grant, or a refusal (see lua/run/claim.lua). Sending the same request again
        is harmless.

        `unfit`: reason why this worker cannot work in the repository at present; the todo waits with that
        reason. `short`: reason why it begins nothing new, although it undoes todos.
        """
        request = request or uuid.uuid4().hex
        word, *rest = self._call(
            "claim", run_id, todo=todo_id, attempt=attempt, worker=worker, host=host, request=request,
            lease_ms=ms(lease), unfit=unfit, short=short,
        )  # fmt: skip
        reply = Reply.parse(run_id, [word, *rest[:3]])
        grant = Grant.parse(run_id, todo_id, attempt, rest[3:]) if word == "granted" else None
        return replace(reply, grant=grant)

    def renew(self, leases: Mapping[str, int], lease: timedelta) -> tuple[list[str], list[str]]:
        """Renew the leases (member → fence) in one call; return the members that are lost, and those asked to
        stop.
        """
        keys = [self.keys.leases, self.keys.holders, self.keys.stops]
        pairs = [part for item in leases.items() for part in item]
        lost, stopped = self._scripts("lease/renew", keys, [ms(lease), *pairs])
        return lost, stopped

    def settle(self, grant: Grant, result: Result) -> Reply:
        return self._of(
            grant, "settle", outcome=result.outcome, exit_code=_text(result.exit_code), error=result.error,
            output=result.output, tip=result.tip, began=result.began, blame=result.blame,
            cached=result.cached, signed=result.signed, figures=result.figures,
            check=result.check,
        )  # fmt: skip

    def retry(self, grant: Grant, delay: timedelta, result: Result) -> Reply:
        """Try the todo again after the delay, because of a failure of its own."""
        return self._of(
            grant, "retry", counted="tries", delay_ms=ms(delay), exit_code=_text(result.exit_code),
            error=result.error, output=result.output, blame=result.blame,
        )  # fmt: skip

    def hand_back(self, grant: Grant, output: str = "") -> Reply:
        """Give the todo back because the worker stops: another worker takes it at once, and no counter
        changes.

        `output`: the JSON that it has written so far.
        """
        return self._of(
            grant, "retry", counted="handed_back", delay_ms=0, exit_code="", error="", output=output, blame=""
        )

    def park(self, grant: Grant, waits_for: str, delay: timedelta) -> Reply:
        return self._of(grant, "park", waits_for=waits_for, delay_ms=ms(delay))

    def hold_up(
        self,
        grant: Grant,
        why: str,
        delay: timedelta,
        blame: Blame = "",
        limit: int = 0,
        reason: WaitReason = WaitReason.TROUBLE,
    ) -> Reply:
        """Park the todo because of a temporary failure, for twice as long each time. `limit`: number of times
        after which the todo fails; 0: no limit.
        """
        return self._of(
            grant, "hold_up", why=why, delay_ms=ms(delay), blame=blame, limit=limit, reason=reason
        )

    def checkpoint(self, grant: Grant, output: str) -> Reply:
        """Keep the JSON that the todo has written so far, for a later attempt: `kept`, or `stale`."""
        return self._of(grant, "checkpoint", output=output)

    def note_change(self, grant: Grant, change_set: str, repo: str, **facts: str) -> Reply:
        """Record a landing, or a revert, that the todo has made: `noted`, `stale` or `gone`."""
        empty = {"landed": "", "tip": "", "base": "", "signed": ""}
        return self._of(grant, "note_change", change_set=change_set, repo=repo, **{**empty, **facts})

    def lose(self, run_id: str, todo_id: str, cap: int, at_ms: int | None = None, *, dead: str = "") -> Reply:
        """Take the todo from its worker if its lease is over by `at_ms` (None: now), or its worker is `dead`.

        Return `alive` if neither, `requeued`, or `settled` after `cap` losses.
        """
        return self._step("lose", run_id, todo=todo_id, cap=cap, at_ms=_text(at_ms), dead_worker=dead)

    def fire(self, run_id: str, todo_id: str) -> Reply:
        return self._step("fire", run_id, todo=todo_id)

    def advance(self, run_id: str, level: int, source: str) -> Reply:
        return self._step("advance", run_id, level=level, source=source)

    def resend(self, run_id: str, older_than: timedelta, limit: int) -> Reply:
        return self._step("resend", run_id, age_ms=ms(older_than), limit=limit)

    def park_unserved(self, run_id: str, served: Iterable[tuple[str, str]]) -> Reply:
        """Park the due todos whose host has no worker; continue those that have one again.

        `served`: the repositories that living workers serve, each with its host.
        """
        return self._step("strand", run_id, *(part for pair in served for part in pair))

    def next_batch(self, run_id: str) -> str | None:
        """Return the next batch of a step that concerns every todo of a large run; None if none is left."""
        batch: str | None = self.redis.hget(self.keys.run(run_id).meta, "piece")
        return batch

    def execute_batch(self, run_id: str, batch: str) -> Reply:
        """Execute that batch: `done`, or `past`."""
        return self._step("remainder", run_id, piece=batch)

    def cancel(self, run_id: str, actor: str) -> Reply:
        """Cancel a run: `cancelled`, `ended`, or `queued` (a merge queue may have a request of it)."""
        return self._step("cancel", run_id, actor=actor)

    def is_cancelled(self, run_id: str) -> bool:
        return bool(self.redis.hexists(self.keys.run(run_id).meta, "cancelled"))

    def pause(self, run_id: str, actor: str) -> Reply:
        return self._step("pause", run_id, actor=actor)

    def resume(self, run_id: str, actor: str) -> Reply:
        return self._step("resume", run_id, actor=actor)

    def rollback(self, run_id: str, actor: str, why: str) -> Reply:
        """Begin to undo the run: `rolling_back`, `already`, `done`, or `unknown`."""
        return self._step("rollback", run_id, actor=actor, why=why)

    def restore(self, run_id: str, actor: str, name: str) -> Reply:
        """Begin to undo what began since the checkpoint: `rolling_back`, `already`, `unknown`, or the status
        that does not allow it.
        """
        return self._step("restore", run_id, actor=actor, checkpoint=name)

    def accept(self, run_id: str, todo_id: str, actor: str, reason: str) -> Reply:
        """Count a failed compensation as undone: `accepted`, or `idle` where the todo is none."""
        return self._step("accept", run_id, todo=todo_id, actor=actor, reason=reason)

    def approve(self, run_id: str, todo_id: str, actor: str, comment: str) -> Reply:
        """Approve the todo: `approved`, `settled` where nothing else was to be done, or `idle`."""
        return self._step("approve", run_id, todo=todo_id, actor=actor, comment=comment)

    def reject(self, run_id: str, todo_id: str, actor: str, comment: str) -> Reply:
        """Reject the todo: `settled` as failed, or `idle`."""
        return self._step("reject", run_id, todo=todo_id, actor=actor, comment=comment)

    def complete(self, run_id: str, todo_id: str, actor: str) -> Reply:
        """Settle a manual todo that a person has done."""
        return self._step("complete", run_id, todo=todo_id, actor=actor)

    def stuck(self, run_id: str) -> tuple[str, ...]:
        """Return a sentence for each todo that nothing will ever move; empty unless coord has a fault."""
        word, _, _, _, *sentences = self._call("stuck", run_id)
        return tuple(sentences[0]) if word == "stuck" else ()

    def report_stuck(self, run_id: str, why: str, where: str) -> Reply:
        """Record that the run is stuck: `told`, or `known` if it was recorded before."""
        return self._step("report_stuck", run_id, why=why, where=where)

    def live_runs(self) -> list[str]:
        return list(self.redis.zrange(self.keys.live, 0, -1))

    def due(self, now_ms: int) -> list[tuple[str, str]]:
        return self._until(self.keys.timers, now_ms)

    def expired(self, now_ms: int) -> list[tuple[str, str]]:
        return self._until(self.keys.leases, now_ms)

    def _until(self, key: str, now_ms: int) -> list[tuple[str, str]]:
        return [split_member(member) for member in self.redis.zrangebyscore(key, "-inf", now_ms)]

    def status(self, run_id: str) -> str | None:
        status: str | None = self.redis.hget(self.keys.run(run_id).meta, "status")
        return status

    def retries_of(self, run_id: str) -> list[tuple[str, str]]:
        """Return the retries of this run, oldest first, each with its status."""
        started_at = self.redis.hget(self.keys.run(run_id).meta, "started_at") or "-inf"
        later = self.redis.zrangebyscore(self.keys.runs, started_at, "+inf")
        with self.redis.pipeline(transaction=False) as pipeline:
            for other in later:
                pipeline.hmget(self.keys.run(other).meta, ["carried_from", "status"])
            rows = pipeline.execute()
        return [(run, status) for run, (source, status) in zip(later, rows, strict=True) if source == run_id]

    def brief(self, run_id: str) -> RunBrief:
        return RunBrief.model_validate_json(self.brief_json(run_id))

    def brief_json(self, run_id: str) -> str:
        """Return the brief as it is stored; empty if the run has none."""
        return self.redis.hget(self.keys.run(run_id).meta, "brief") or ""

    def signed(self, run_id: str, fields: Sequence[str]) -> list[str | None]:
        """Return these fields of the run's order; see runs/signed/orders.py."""
        texts: list[str | None] = self.redis.hmget(self.keys.run(run_id).order, fields)
        return texts

    def handed_over(
        self,
        run_id: str,
        todos: Sequence[str],
        contexts: Sequence[str] = (),
        limit_bytes: int = 0,
        to: str = "",
        signed: Sequence[str] = (),
    ) -> TodoInputs:
        """Return the outputs of these todos, and the values visible from a context (its chain, innermost
        first), in one round trip.

        `to`: the todo that begins with them; `claimed_by` is the fence of its claim, read last. `signed`:
        todos whose signed results are returned, too.
        """
        keys = self.keys.run(run_id)

        def read() -> TodoInputs:
            with self.redis.pipeline(transaction=False) as pipeline:
                if contexts:
                    visible, head = library.function("cache/visible"), self.keys.cache.head
                    pipeline.fcall(visible, 1, head, limit_bytes, *contexts)
                if signed:
                    pipeline.hmget(keys.results, signed)
                if todos:
                    pipeline.hmget(keys.output, todos)
                facts = (f"{todo} {name}" for todo in todos for name in FACTS)
                pipeline.hmget(keys.facts, [*facts, f"{to} fence"])
                answers = pipeline.execute()
            return TodoInputs.parse(run_id, todos, bool(contexts), signed, answers)

        return self._client_scripts.with_library(read)

    def log(
        self,
        run_id: str,
        todo_id: str,
        attempt: int,
        text: str,
        skipped: int = 0,
        file: str = "",
        limit_bytes: int = LOG_LIMIT_BYTES,
    ) -> None:
        """Append output of the todo to its log; half of `limit_bytes` is for the head of the attempt, half
        for its tail.

        `skipped`: bytes that were left out before the text. `file`: path of the whole log, named where
        something is left out.
        """
        half = limit_bytes // 2
        for piece, before in pieces_of(text, skipped, half):
            args: list[str | int | float | bytes] = [attempt, before, half, half, file, piece]
            self._client_scripts("log/append", [self.keys.run(run_id).log(todo_id)], args)

    def refused(self, run_id: str, todo_id: str, attempt: int, why: str) -> None:
        """Count a write with an old fence, and note it in the todo's log, unless the run is deleted."""
        self.redis.hincrby(self.keys.counters, "stale_writes", 1)
        if self.redis.exists(self.keys.run(run_id).meta):
            self.log(run_id, todo_id, attempt, f"[coord] {why}\n")

    def distrust(self, run_id: str, todo_id: str, worker: str, repo: str, why: str) -> None:
        """Announce that a worker has refused something of the todo because of its signature."""
        title = why[:LONGEST_TITLE]
        self.announce("trust.refused", todo_id, run=run_id, actor=worker, repos=[repo], title=title)

    def secrets_read(self, run_id: str, todo_id: str, repo: str, worker: str, names: Sequence[str]) -> None:
        """Write an event for each credential that a worker reads for a todo, or, without one, for git."""
        for name in names:
            fields = {"run": run_id, "actor": worker, "repos": (repo,), "data": {"todo": todo_id or "git"}}
            self.announce("credential.read", name, **fields)

    def delivery(self, run_id: str, todo_id: str) -> Delivery:
        """Return the part of a todo's message that the join of its level needs."""
        keys = self.keys.run(run_id)
        descriptor = Descriptor.parse(self.redis.hget(keys.place, todo_id))
        attempt, index = self.redis.hmget(keys.facts, [f"{todo_id} attempt", f"{todo_id} index"])
        size = self.redis.hget(keys.meta, f"size.{descriptor.level}")
        return Delivery.parse(
            run_id, [todo_id, attempt, descriptor.repo, "", str(descriptor.level), index or "0", size or "0"]
        )

    def attempt(self, run_id: str, todo_id: str) -> int:
        """Return the number of the todo's last attempt, 0 before the first."""
        return int(self.redis.hget(self.keys.run(run_id).facts, f"{todo_id} attempt") or 0)

    def now_ms(self) -> int:
        seconds, micros = self.redis.time()
        return int(seconds) * 1000 + int(micros) // 1000

    def _call(self, step: str, run_id: str, *group: Word, further: Sequence[str] = (), **named: Word) -> list:  # type: ignore[type-arg]
        """Call a step of the run; `backend/steps.py` declares the names of its arguments."""
        declared = STEPS[f"run/{step}"]
        keys = [*self.keys.step(run_id), *further]
        arguments = declared.arguments({"run": run_id, **named}, group)
        answer: list[object] = self._scripts(declared.name, keys, arguments)
        return answer

    def _of(self, grant: Grant, step: str, **named: Word) -> Reply:
        """Call a step of the attempt that holds the grant."""
        return self._step(step, grant.run_id, further=(), todo=grant.todo_id, fence=grant.fence, **named)

    def _step(
        self, step: str, run_id: str, *group: Word, further: Sequence[str] = (), **named: Word
    ) -> Reply:
        return Reply.parse(run_id, self._call(step, run_id, *group, further=further, **named))


def _text(number: int | None) -> int | str:
    return "" if number is None else number
