"""The steps of a run on Redis; each is executed whole or not at all.

Most steps return a Reply; the caller passes it to `Dispatcher.follow`, which sends the necessary messages.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Any, TypeVar

from redis import Redis
from redis.exceptions import OutOfMemoryError

from coordination.backend.keys import Keys, resource, split_member
from coordination.backend.step_connection import StepCaller
from coordination.backend.steps import run as steps
from coordination.backend.steps.lock import Declare, GiveBack
from coordination.backend.steps.namespace import AppendLog, RenewLeases
from coordination.backend.steps.run import Reply
from coordination.cache.entries import drop
from coordination.durations import ms
from coordination.events.records import append_step
from coordination.runs.logs import LOG_LIMIT_BYTES, pieces_of
from coordination.runs.records import Blame, Result, RunBrief, WaitReason
from coordination.runs.replies import ClaimReply, Grant, InputsReader, TodoInputs

R = TypeVar("R")
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
        if typed := [(resource(name), capacity) for name, capacity in capacities.items()]:
            self._scripts(Declare(capacities=typed), [self.keys.locks.head])

    def announce(self, kind: str, subject: str, **fields: Any) -> None:
        """Write an event of an operation that is no step, with the fields of `append_step`."""
        self._scripts(append_step(kind, subject, **fields), [self.keys.events.head])

    def give_back(self, members: Iterable[str]) -> None:
        """Release what these todos hold or wait for; for runs that have no steps any more."""
        self._scripts(GiveBack(requests=list(members)), [self.keys.locks.head])

    def drop_contexts(self, contexts: Iterable[str]) -> None:
        """Delete all values of these contexts of the cache."""
        drop(self._scripts, self.keys.cache, contexts)

    def seal(
        self, run_id: str, further: Sequence[str] = (), writes: Collection[tuple[str, str, str]] = ()
    ) -> Reply:
        """Start a draft: `sealed`, or `busy` or `moved` where its change set does not allow it now.

        `further`: keys of the run besides those that every run has; they no longer expire either. `writes`:
        the repositories of the change set that it writes, each with its branch and its tip.
        """
        return self._call(steps.Seal(run=run_id, writes=writes), further)

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
        step = steps.Adopt(
            run=run_id, status=status, started_at_ms=started_at, fence=fence, actor=actor,
            timers=timers.items(),
        )  # fmt: skip
        return self._call(step, further)

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
    ) -> ClaimReply:
        """Return `granted` with a Grant, or a refusal (see lua/run/claim.lua). Sending the same request again
        is harmless.

        `unfit`: reason why this worker cannot work in the repository at present; the todo waits with that
        reason. `short`: reason why it begins nothing new, although it undoes todos.
        """
        claim = steps.Claim(
            run=run_id, todo=todo_id, attempt=attempt, worker=worker, host=host,
            request=request or uuid.uuid4().hex, lease_ms=ms(lease), unfit=unfit, short=short,
        )  # fmt: skip
        reply, granted = self._call(claim)
        return ClaimReply(**vars(reply), grant=Grant.of(claim, granted) if granted else None)

    def renew(self, leases: Mapping[str, int], lease: timedelta) -> tuple[list[str], list[str]]:
        """Renew the leases (member → fence) in one call; return the members that are lost, and those asked to
        stop.
        """
        keys = [self.keys.leases, self.keys.holders, self.keys.stops]
        return self._scripts(RenewLeases(lease_ms=ms(lease), leases=leases.items()), keys)

    def settle(self, grant: Grant, result: Result) -> Reply:
        return self._call(
            steps.Settle(
                run=grant.run_id, todo=grant.todo_id, fence=grant.fence, outcome=result.outcome,
                exit_code=_text(result.exit_code), error=result.error, output=result.output, tip=result.tip,
                began=result.began, blame=result.blame, cached=result.cached, signed=result.signed,
                figures=result.figures, check=result.check,
            )
        )  # fmt: skip

    def retry(self, grant: Grant, delay: timedelta, result: Result) -> Reply:
        """Try the todo again after the delay, because of a failure of its own."""
        return self._call(
            steps.Retry(
                run=grant.run_id, todo=grant.todo_id, fence=grant.fence, counted="tries",
                delay_ms=ms(delay), exit_code=_text(result.exit_code), error=result.error,
                output=result.output, blame=result.blame,
            )
        )  # fmt: skip

    def hand_back(self, grant: Grant, output: str = "") -> Reply:
        """Give the todo back because the worker stops: another one takes it at once, and nothing is counted.

        `output`: the JSON that the todo has written so far.
        """
        return self._call(
            steps.Retry(
                run=grant.run_id, todo=grant.todo_id, fence=grant.fence, counted="handed_back",
                delay_ms=0, exit_code="", error="", output=output, blame="",
            )
        )  # fmt: skip

    def park(self, grant: Grant, waits_for: str, delay: timedelta) -> Reply:
        step = steps.Park(
            run=grant.run_id, todo=grant.todo_id, fence=grant.fence, waits_for=waits_for, delay_ms=ms(delay)
        )
        return self._call(step)

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
        return self._call(
            steps.HoldUp(
                run=grant.run_id, todo=grant.todo_id, fence=grant.fence, why=why, delay_ms=ms(delay),
                blame=blame, limit=limit, reason=reason,
            )
        )  # fmt: skip

    def checkpoint(self, grant: Grant, output: str) -> Reply:
        """Keep the JSON that the todo has written so far, for a later attempt: `kept`, or `stale`."""
        return self._call(
            steps.Checkpoint(run=grant.run_id, todo=grant.todo_id, fence=grant.fence, output=output)
        )

    def note_change(
        self,
        grant: Grant,
        change_set: str,
        repo: str,
        *,
        landed: str = "",
        tip: str = "",
        base: str = "",
        signed: str = "",
    ) -> Reply:
        """Record a landing, or a revert, that the todo has made: `noted`, `stale` or `gone`."""
        return self._call(
            steps.NoteChange(
                run=grant.run_id, todo=grant.todo_id, fence=grant.fence, change_set=change_set, repo=repo,
                landed=landed, tip=tip, base=base, signed=signed,
            )
        )  # fmt: skip

    def lose(self, run_id: str, todo_id: str, cap: int, at_ms: int | None = None, *, dead: str = "") -> Reply:
        """Take the todo from its worker if its lease is over by `at_ms` (None: now), or its worker is `dead`.

        Return `alive` if neither, `requeued`, or `settled` after `cap` losses. The todo's log names a loss.
        """
        step = steps.Lose(run=run_id, todo=todo_id, cap=cap, at_ms=_text(at_ms), dead_worker=dead)
        reply, lost = self._call(step)
        if lost:
            again = "; the todo is tried again" if reply.word == "requeued" else ""
            with suppress(OutOfMemoryError):  # the messages of the reply are more important than this line
                self._log_line(run_id, todo_id, lost.attempt, f"the worker {lost.worker} was lost{again}")
        return reply

    def fire(self, run_id: str, todo_id: str) -> Reply:
        return self._call(steps.Fire(run=run_id, todo=todo_id))

    def advance(self, run_id: str, level: int, source: str) -> Reply:
        return self._call(steps.Advance(run=run_id, level=level, source=source))

    def resend(self, run_id: str, older_than: timedelta, limit: int) -> Reply:
        return self._call(steps.Resend(run=run_id, age_ms=ms(older_than), limit=limit))

    def park_unserved(self, run_id: str, served: Collection[tuple[str, str]]) -> Reply:
        """Park the due todos whose host has no worker; continue those that have one again.

        `served`: the repositories that living workers serve, each with its host.
        """
        return self._call(steps.Strand(run=run_id, served=served))

    def next_batch(self, run_id: str) -> str | None:
        """Return the next batch of a step that concerns every todo of a large run; None if none is left."""
        return self.redis.hget(self.keys.run(run_id).meta, "piece")  # type: ignore[no-any-return]

    def execute_batch(self, run_id: str, batch: str) -> Reply:
        """Execute that batch: `done`, or `past`."""
        return self._call(steps.Remainder(run=run_id, piece=batch))

    def cancel(self, run_id: str, actor: str) -> Reply:
        """Cancel a run: `cancelled`, `ended`, or `queued` (a merge queue may have a request of it)."""
        return self._call(steps.Cancel(run=run_id, actor=actor))

    def is_cancelled(self, run_id: str) -> bool:
        return bool(self.redis.hexists(self.keys.run(run_id).meta, "cancelled"))

    def pause(self, run_id: str, actor: str) -> Reply:
        return self._call(steps.Pause(run=run_id, actor=actor))

    def resume(self, run_id: str, actor: str) -> Reply:
        return self._call(steps.Resume(run=run_id, actor=actor))

    def rollback(self, run_id: str, actor: str, why: str) -> Reply:
        """Begin to undo the run: `rolling_back`, `already`, `done`, or `unknown`."""
        return self._call(steps.Rollback(run=run_id, actor=actor, why=why))

    def restore(self, run_id: str, actor: str, name: str) -> Reply:
        """Begin to undo what began since the checkpoint: `rolling_back`, `already`, `unknown`, or the status
        that does not allow it.
        """
        return self._call(steps.Restore(run=run_id, actor=actor, checkpoint=name))

    def accept(self, run_id: str, todo_id: str, actor: str, reason: str) -> Reply:
        """Count a failed compensation as undone: `accepted`, or `idle` where the todo is none."""
        return self._call(steps.Accept(run=run_id, todo=todo_id, actor=actor, reason=reason))

    def approve(self, run_id: str, todo_id: str, actor: str, comment: str) -> Reply:
        """Approve the todo: `approved`, `settled` where nothing else was to be done, or `idle`."""
        return self._call(steps.Approve(run=run_id, todo=todo_id, actor=actor, comment=comment))

    def reject(self, run_id: str, todo_id: str, actor: str, comment: str) -> Reply:
        """Reject the todo: `settled` as failed, or `idle`."""
        return self._call(steps.Reject(run=run_id, todo=todo_id, actor=actor, comment=comment))

    def complete(self, run_id: str, todo_id: str, actor: str) -> Reply:
        """Settle a manual todo that a person has done."""
        return self._call(steps.Complete(run=run_id, todo=todo_id, actor=actor))

    def stuck(self, run_id: str) -> tuple[str, ...]:
        """Return a sentence for each todo that nothing will ever move; empty unless coord has a fault."""
        return self._call(steps.Stuck(run=run_id))

    def report_stuck(self, run_id: str, why: str, where: str) -> Reply:
        """Record that the run is stuck: `told`, or `known` if it was recorded before."""
        return self._call(steps.ReportStuck(run=run_id, why=why, where=where))

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
        inputs = InputsReader(self.redis, self.keys, run_id, todos, contexts, limit_bytes, to, signed)
        return self._client_scripts.with_library(inputs.read)

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
            step = AppendLog(
                attempt=attempt, skipped=before, head_bytes=half, tail_bytes=half, file=file, text=piece
            )
            self._client_scripts(step, [self.keys.run(run_id).log(todo_id)])

    def refused(self, run_id: str, todo_id: str, attempt: int, why: str) -> None:
        """Count a write with an old fence, and note it in the todo's log, unless the run is deleted."""
        self.redis.hincrby(self.keys.counters, "stale_writes", 1)
        if self.redis.exists(self.keys.run(run_id).meta):
            self._log_line(run_id, todo_id, attempt, why)

    def _log_line(self, run_id: str, todo_id: str, attempt: int, line: str) -> None:
        """Append a line of coord to the todo's log, also if its last line has no end yet."""
        newest = self.redis.xrevrange(self.keys.run(run_id).log(todo_id), count=1)
        end = "" if not newest or newest[0][1].get("text", "").endswith("\n") else "\n"
        self.log(run_id, todo_id, attempt, f"{end}[coord] {line}\n")

    def distrust(self, run_id: str, todo_id: str, worker: str, repo: str, why: str) -> None:
        """Announce that a worker has refused something of the todo because of its signature."""
        title = why[:LONGEST_TITLE]
        self.announce("trust.refused", todo_id, run=run_id, actor=worker, repos=[repo], title=title)

    def secrets_read(self, run_id: str, todo_id: str, repo: str, worker: str, names: Sequence[str]) -> None:
        """Write an event for each credential that a worker reads for a todo, or, without one, for git."""
        for name in names:
            fields = {"run": run_id, "actor": worker, "repos": (repo,), "data": {"todo": todo_id or "git"}}
            self.announce("credential.read", name, **fields)

    def now_ms(self) -> int:
        seconds, micros = self.redis.time()
        return int(seconds) * 1000 + int(micros) // 1000

    def _call(self, step: steps.RunStep[R], further: Sequence[str] = ()) -> R:
        """Call a step of a run. `further`: keys of the run besides those that every run has."""
        return self._scripts(step, [*self.keys.step(step.run), *further])


def _text(number: int | None) -> int | str:
    return "" if number is None else number
