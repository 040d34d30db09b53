"""The steps that a worker takes with its todos: claim, renew, settle, retry, park; their inputs and logs.

A restricted worker takes these steps through the maintenance leader (`remote_steps/`), and has no other ones.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cached_property
from secrets import token_hex
from typing import Any, TypeVar

from redis import Redis
from redis.exceptions import NoPermissionError

from coordination.backend import library
from coordination.backend.keys import Keys
from coordination.backend.step_connection import StepCaller
from coordination.backend.steps import run as steps
from coordination.backend.steps.cache import Visible, VisibleValues
from coordination.backend.steps.namespace import AppendLog, RenewLeases
from coordination.backend.steps.run import Reply, Undo
from coordination.durations import ms
from coordination.events.records import append_step
from coordination.models import Action
from coordination.runs.logs import LOG_LIMIT_BYTES, pieces_of
from coordination.runs.records import AgentUsage, Blame, Result, RunBrief, TodoSpec, WaitReason
from coordination.trust.orders import Audience
from coordination.trust.results import ResultRecord, check_change_set, check_predecessor

R = TypeVar("R")
LONGEST_SERVER = 64
"""Characters of the id of a server; it has 32."""
LONGEST_TITLE = 500
"""Characters of an event's title."""
FACTS = ("commit", "run", "settled_by", "began")
"""The facts of a predecessor that its dependents get."""


@dataclass(frozen=True, kw_only=True)
class Grant:
    """A granted claim: the worker holds the todo until its lease is lost."""

    run_id: str
    todo_id: str
    attempt: int
    fence: int
    spec_json: str
    """The spec as it is stored."""
    tip: str | None
    """The commit at which the worktree must be; None before the first success in this repository."""
    tries: int
    """Failures of the todo itself so far."""
    checkpoint: str = ""
    """JSON that an earlier attempt wrote to COORD_OUTPUT before it ended; empty if none."""
    tip_result: str = ""
    """The signed result that led to the tip, or that began at it; empty where Redis has none."""
    shared: bool = False
    """True if any shared context exists; without any, no worker reads it."""
    question: str = ""
    """The last question of its agent that a person has answered; empty without one."""
    answer: str = ""
    """The answer; a worker that requires signatures has compared it with the signed one."""
    usage: str = ""
    """JSON of what its agents have used in earlier attempts, as the steps keep it; empty without any."""
    undo: Undo | None = None
    """Set where the todo is to be undone instead of executed."""

    @cached_property
    def spec(self) -> TodoSpec:
        """The spec, parsed when it is first read, after its signature was verified."""
        return TodoSpec.model_validate_json(self.spec_json)

    @property
    def used(self) -> AgentUsage:
        """Return what its agents have used in earlier attempts."""
        return AgentUsage.read(self.usage) or AgentUsage()

    @property
    def action(self) -> Action | None:
        """Return the action to execute: that of the todo, or its compensation. None: an agent gets the task;
        where the todo is undone, it has no compensation.
        """
        return self.spec.todo.action if self.undo is None else self.spec.todo.compensate


@dataclass(frozen=True, kw_only=True)
class ClaimReply(Reply):
    grant: Grant | None = None
    """Set if the claim was granted."""


@dataclass(frozen=True, kw_only=True)
class PredecessorOutput:
    """Output of a settled todo for its dependents."""

    todo: str
    json: str
    """Its output as it was written; empty without one."""
    commit: str | None
    """The commit at which it left its repository; None where nothing was committed."""
    run: str
    """The run that executed it: an earlier one if it was carried over."""
    fence: int
    """Fence of its settle: of two todos of one repository, the one with the higher fence came later."""
    began: str | None = None
    """The commit at which it began; None where that is not known."""

    @property
    def output(self) -> Any:
        """Return its output, parsed; None without one."""
        return json.loads(self.json) if self.json else None


@dataclass(frozen=True, kw_only=True)
class TodoInputs:
    """Inputs with which a todo begins."""

    todos: list[PredecessorOutput]
    """Outputs of its predecessors, in the order of the request."""
    context: dict[str, Any]
    """The values that it sees of its context: key → value."""
    omitted: int
    """Number of context values that were left out because of the size limit."""
    claimed_by: int = 0
    """The fence of the todo's last claim when the inputs had been read; 0 where Redis has none."""
    signed: Mapping[str, str] = field(default_factory=dict)
    """Todo → its signed result, of those that were asked for and have one."""


def check_output(output: PredecessorOutput, record: ResultRecord, brief: RunBrief) -> None:
    """Check that a predecessor's output is that of its signed result. Raises NotTrusted."""
    check_change_set(record, built_on=brief.lineage.builds_on, change_set=brief.change_set)
    check_predecessor(
        record,
        runs=brief.runs_of(output.todo),
        run=output.run,
        todo=output.todo,
        repo=brief.repo_of[output.todo],
        fence=output.fence,
        commit=output.commit or "",
        output=output.json,
    )


class AttemptStore:
    """Take the steps of a worker with its todos. The caller passes each Reply to `Dispatcher.follow`."""

    def __init__(self, redis: Redis, namespace: str, scripts: StepCaller | None = None) -> None:
        """`scripts`: a caller with connections of its own, for callers of many steps."""
        self.redis = redis
        self.keys = Keys(namespace)
        self._scripts = scripts or StepCaller(redis)
        self._client_scripts = StepCaller(redis)

    @cached_property
    def server(self) -> str:
        """The random id of this Redis, which its first user makes."""
        return self.known_server(token_hex(16))

    def known_server(self, otherwise: str) -> str:
        """Return the id of this Redis. One without gets the given id, but not from a restricted worker."""
        found = self.redis.get(self.keys.server)
        if not found:
            with suppress(NoPermissionError):
                self.redis.set(self.keys.server, otherwise, nx=True)
            found = self.redis.get(self.keys.server)
        return str(found or "")[:LONGEST_SERVER]

    def audience(self, ecosystem: str | None, server: str = "") -> Audience:
        """Return the audience of signed records. `server`: its id (default: the one that Redis has)."""
        return Audience(namespace=self.keys.namespace, ecosystem=ecosystem, server=server or self.server)

    def announce(self, kind: str, subject: str, **fields: Any) -> None:
        """Write an event of an operation that is no step, with the fields of `append_step`."""
        self._scripts(append_step(kind, subject, **fields), [self.keys.events.head])

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
        return ClaimReply(**vars(reply), grant=Grant(**granted) if granted else None)

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
                exit_code=_exit_code(result), error=result.error, output=result.output, tip=result.tip,
                began=result.began, blame=result.blame, cached=result.cached, signed=result.signed,
                figures=result.figures, check=result.check, not_committed=result.not_committed,
            )
        )  # fmt: skip

    def retry(self, grant: Grant, delay: timedelta, result: Result) -> Reply:
        """Try the todo again after the delay, because of a failure of its own."""
        return self._call(
            steps.Retry(
                run=grant.run_id, todo=grant.todo_id, fence=grant.fence, counted="tries",
                delay_ms=ms(delay), exit_code=_exit_code(result), error=result.error,
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

    def note_usage(self, grant: Grant, used: AgentUsage) -> Reply:
        """Count what the agent of the attempt has used so far, in place of the last call of the attempt:
        `noted`, `over` (noted, and the budget of its plan or of the day is used up), or `stale`.
        """
        return self._call(
            steps.NoteUsage(run=grant.run_id, todo=grant.todo_id, fence=grant.fence, used=used.numbers())
        )

    def status(self, run_id: str) -> str | None:
        status: str | None = self.redis.hget(self.keys.run(run_id).meta, "status")
        return status

    def is_cancelled(self, run_id: str) -> bool:
        return bool(self.redis.hexists(self.keys.run(run_id).meta, "cancelled"))

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
        step = Visible(limit_bytes=limit_bytes, contexts=contexts)
        facts = [*(f"{todo} {name}" for todo in todos for name in FACTS), f"{to} fence"]

        def read() -> list[Any]:
            with self.redis.pipeline(transaction=False) as pipeline:
                if contexts:
                    pipeline.fcall(*library.fcall(step, [self.keys.cache.head]))
                if signed:
                    pipeline.hmget(keys.results, signed)
                if todos:
                    pipeline.hmget(keys.output, todos)
                pipeline.hmget(keys.facts, facts)
                answers: list[Any] = pipeline.execute()
                return answers

        answers = self._client_scripts.with_library(read)
        visible = step.result(answers.pop(0)) if contexts else VisibleValues(0, {})
        results = zip(signed, answers.pop(0), strict=True) if signed else ()
        outputs = answers.pop(0) if todos else []
        *values, fence = answers.pop()
        return TodoInputs(
            todos=_predecessors(run_id, todos, outputs, values),
            context={key: json.loads(value) for key, value in visible.values.items()},
            omitted=visible.omitted,
            claimed_by=int(fence or 0),
            signed={todo: result for todo, result in results if result},
        )

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


def _predecessors(
    run_id: str, todos: Sequence[str], outputs: Sequence[str | None], values: Sequence[str | None]
) -> list[PredecessorOutput]:
    """Return the outputs of these todos. `values`: the FACTS of each todo in turn."""
    facts = (values[i :: len(FACTS)] for i in range(len(FACTS)))
    return [
        PredecessorOutput(
            todo=todo,
            json=output or "",
            commit=commit,
            run=run or run_id,
            fence=int(settled_by or 0),
            began=began,
        )
        for todo, output, commit, run, settled_by, began in zip(todos, outputs, *facts, strict=True)
    ]


def _exit_code(result: Result) -> int | str:
    return "" if result.exit_code is None else result.exit_code
