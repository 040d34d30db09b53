"""The steps of whole runs: their submission, orders of people, and the maintenance of live runs.

Most steps return a Reply; the caller passes it to `Dispatcher.follow`, which sends the necessary messages.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import timedelta

from redis.exceptions import OutOfMemoryError

from coordination.backend.keys import resource, split_member
from coordination.backend.steps import run as steps
from coordination.backend.steps.lock import Declare, GiveBack
from coordination.backend.steps.run import Reply
from coordination.cache.entries import drop
from coordination.durations import ms
from coordination.runs.attempt_store import AttemptStore, Grant
from coordination.runs.records import TAKES_UP


class RunStore(AttemptStore):
    """Take the steps of whole runs, for commands and the maintenance leader, and those of attempts."""

    def declare(self, capacities: Mapping[str, int]) -> None:
        """Declare the capacities of resources, as `LockManager.resources.declare` does."""
        if typed := [(resource(name), capacity) for name, capacity in capacities.items()]:
            self._scripts(Declare(capacities=typed), [self.keys.locks.head])

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
        reverted: str = "",
        data: Iterable[tuple[str, str]] = (),
    ) -> Reply:
        """Record a landing, or a revert, that the todo has made: `noted`, `stale` or `gone`. `data`: of its
        event.
        """
        return self._call(
            steps.NoteChange(
                run=grant.run_id, todo=grant.todo_id, fence=grant.fence, change_set=change_set, repo=repo,
                landed=landed, tip=tip, base=base, signed=signed, reverted=reverted, data=tuple(data),
            )
        )  # fmt: skip

    def lose(self, run_id: str, todo_id: str, cap: int, at_ms: int | None = None, *, dead: str = "") -> Reply:
        """Take the todo from its worker if its lease is over by `at_ms` (None: now), or its worker is `dead`.

        Return `alive` if neither, `requeued`, or `settled` after `cap` losses. The todo's log names a loss.
        """
        step = steps.Lose(
            run=run_id, todo=todo_id, cap=cap, at_ms="" if at_ms is None else at_ms, dead_worker=dead
        )
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
        """Park the due todos that no worker can take, on the run's host if their repository has one; continue
        those that have one again.

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

    def retries_of(self, run_id: str) -> list[tuple[str, str]]:
        """Return the retries of this run, oldest first, each with its status."""
        started_at = self.redis.hget(self.keys.run(run_id).meta, "started_at") or "-inf"
        later = self.redis.zrangebyscore(self.keys.runs, started_at, "+inf")
        with self.redis.pipeline(transaction=False) as pipeline:
            for other in later:
                pipeline.hmget(self.keys.run(other).meta, [TAKES_UP, "status"])
            rows = pipeline.execute()
        return [
            (run, status)
            for run, (earlier, status) in zip(later, rows, strict=True)
            if (earlier or "").split()[:1] == [run_id]
        ]
