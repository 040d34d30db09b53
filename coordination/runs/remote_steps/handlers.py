"""Handlers of the steps that restricted workers request; each has the name and arguments of the method that
it executes.

A worker receives only the data that its todos need: their specs and the outputs of their predecessors.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from functools import lru_cache
from typing import Annotated, Any

from pydantic import ConfigDict, Field, ValidationError, validate_call
from pydantic_core import from_json

from coordination.backend.keys import split_member
from coordination.backend.steps.run import Delivery, Reply
from coordination.cache.contexts import Kept
from coordination.cache.names import Chain, Scope
from coordination.errors import Conflict, NotAllowed
from coordination.git import is_commit
from coordination.models import SecretName
from coordination.runs.attempt_store import Grant, TodoInputs
from coordination.runs.cleanup_jobs import CleanupAnswer, CleanupJob, CleanupQueue
from coordination.runs.dispatch import Dispatcher
from coordination.runs.logs import LOG_LIMIT_BYTES
from coordination.runs.not_committed import read as read_not_committed
from coordination.runs.records import AgentUsage, Blame, Descriptor, Result, RunBrief, TodoState, WaitReason
from coordination.runs.run_contexts import ContextCalls, chain_of_todo
from coordination.runs.store import RunStore
from coordination.runs.worker_registry import Worker, WorkerRegistry
from coordination.settings import Settings
from coordination.trust.results import LIMIT_BYTES

Repos = frozenset[str]

OUTCOMES = (TodoState.SUCCEEDED, TodoState.FAILED, TodoState.CANCELLED)
BRIEFS_KEPT = 64
MOST_SKIPPED = 2**50
LONGEST_PATH = 4096
ShortText = Annotated[str, Field(max_length=1024)]
LongText = Annotated[str, Field(max_length=64 * 1024)]
MOST_LEASES = 10_000
MOST_CONTEXTS = 1000
MOST_SECRETS = 1000
LONGEST_LEASE = 4
"""Longest lease of a request, as a multiple of the leader's own `lease_ttl`."""
_FIGURES = re.compile(r"(([0-9a-f]{40}|[0-9a-f]{64})( \d{1,15}){0,4})?")


class StepHandlers:
    def __init__(self, store: RunStore, dispatcher: Dispatcher, settings: Settings, version: str) -> None:
        self._store = store
        self._dispatcher = dispatcher
        self._registry = WorkerRegistry(store.redis, store.keys)
        self._cleanup_queue = CleanupQueue(store.redis, store.keys)
        self._settings = settings
        self._version = version
        self._brief = lru_cache(BRIEFS_KEPT)(store.brief)  # a brief never changes
        self._contexts = ContextCalls(store, settings, self._brief)
        handlers = (
            self.claim, self.renew, self.settle, self.retry, self.hand_back, self.park, self.hold_up,
            self.checkpoint, self.note_usage, self.status, self.brief, self.signed,
            self.handed_over, self.log, self.refused, self.distrust, self.secrets_read, self.meet,
            self.refuse_clash, self.say, self.leave, self.cleanup_jobs, self.answer,
            self.context_get, self.context_set, self.context_delete, self.context_list,
        )  # fmt: skip
        validated = validate_call(config=ConfigDict(defer_build=True))  # each at its first request
        self._handlers: Mapping[str, Callable[..., Any]] = {
            step.__name__: validated(step) for step in handlers
        }

    @property
    def value_bytes(self) -> int:
        """Return the size of the largest text in a request."""
        return max(self._settings.cache_value_bytes, self._settings.output_limit_bytes)

    def execute(self, repos: Repos, step: str, arguments: Mapping[str, Any]) -> Any:
        """Execute a step for a sender that may act for `repos`. Raise NotAllowed or Conflict where it is
        refused.
        """
        if step not in self._handlers:
            raise NotAllowed(
                f"a restricted worker cannot ask for {step!r}", "install the same version of coord on both"
            )
        try:
            return self._handlers[step](repos, **arguments)
        except ValidationError as error:
            raise NotAllowed(f"the arguments of {step} are invalid: {error}") from error

    def claim(
        self, repos: Repos, run_id: str, todo_id: str, attempt: int,
        worker: ShortText, host: ShortText, lease: timedelta, request: ShortText, unfit: LongText = "",
        short: LongText = "",
    ) -> Reply:  # fmt: skip
        self._refuse_foreign(repos, run_id, todo_id)
        lease = self._allowed(lease)
        reply = self._store.claim(
            run_id,
            todo_id,
            attempt,
            worker=worker,
            host=host,
            lease=lease,
            request=request,
            unfit=unfit,
            short=short,
        )
        return self._followed(reply, run_id, todo_id, last="ended")

    def renew(
        self, repos: Repos, leases: Annotated[dict[str, int], Field(max_length=MOST_LEASES)], lease: timedelta
    ) -> tuple[list[str], list[str]]:
        for member in leases:
            self._refuse_foreign(repos, *split_member(member))
        return self._store.renew(leases, self._allowed(lease))

    def settle(self, repos: Repos, grant: Grant, result: Result) -> Reply:
        self._refuse_foreign(repos, grant.run_id, grant.todo_id)
        self._refuse_harmful(result)
        return self._followed(self._store.settle(grant, result), grant.run_id, grant.todo_id, last="settled")

    def retry(self, repos: Repos, grant: Grant, delay: timedelta, result: Result) -> Reply:
        self._refuse_foreign(repos, grant.run_id, grant.todo_id)
        self._refuse_harmful(result)
        return self._followed(
            self._store.retry(grant, delay, result), grant.run_id, grant.todo_id, last="settled"
        )

    def hand_back(self, repos: Repos, grant: Grant, output: str = "") -> Reply:
        self._refuse_foreign(repos, grant.run_id, grant.todo_id)
        self._refuse_output(output)
        return self._followed(self._store.hand_back(grant, output), grant.run_id, grant.todo_id)

    def park(self, repos: Repos, grant: Grant, waits_for: LongText, delay: timedelta) -> Reply:
        self._refuse_foreign(repos, grant.run_id, grant.todo_id)
        return self._followed(self._store.park(grant, waits_for, delay), grant.run_id, grant.todo_id)

    def hold_up(
        self,
        repos: Repos,
        grant: Grant,
        why: LongText,
        delay: timedelta,
        blame: Blame = "",
        limit: int = 0,
        reason: WaitReason = WaitReason.TROUBLE,
    ) -> Reply:
        self._refuse_foreign(repos, grant.run_id, grant.todo_id)
        reply = self._store.hold_up(grant, why, delay, blame, limit, reason)
        return self._followed(reply, grant.run_id, grant.todo_id, last="settled")

    def checkpoint(self, repos: Repos, grant: Grant, output: str) -> Reply:
        self._refuse_foreign(repos, grant.run_id, grant.todo_id)
        self._refuse_output(output)
        return self._store.checkpoint(grant, output)

    def note_usage(self, repos: Repos, grant: Grant, used: AgentUsage) -> Reply:
        self._refuse_foreign(repos, grant.run_id, grant.todo_id)
        return self._store.note_usage(grant, used)

    def log(
        self,
        repos: Repos,
        run_id: str,
        todo_id: str,
        attempt: int,
        text: str,
        skipped: Annotated[int, Field(ge=0, le=MOST_SKIPPED)] = 0,
        file: Annotated[str, Field(max_length=LONGEST_PATH)] = "",
        limit_bytes: int = LOG_LIMIT_BYTES,
    ) -> None:
        """Append to the log of an attempt. Only attempts that were made have a log, as each has its own
        limit: the leader's.
        """
        self._refuse_foreign(repos, run_id, todo_id)
        facts = self._store.keys.run(run_id).facts
        if attempt > int(self._store.redis.hget(facts, f"{todo_id} attempt") or 0):
            raise NotAllowed(f"{todo_id} of run {run_id} has had no attempt {attempt} yet")
        limit = min(limit_bytes, self._settings.log_limit_bytes)
        self._store.log(run_id, todo_id, attempt, text, skipped, file, limit)

    def refused(self, repos: Repos, run_id: str, todo_id: str, attempt: int, why: LongText) -> None:
        self._refuse_foreign(repos, run_id, todo_id)
        self._store.refused(run_id, todo_id, attempt, why)

    def distrust(
        self, repos: Repos, run_id: str, todo_id: str, worker: ShortText, repo: ShortText, why: LongText
    ) -> None:
        self._refuse_foreign(repos, run_id, todo_id)
        self._store.distrust(run_id, todo_id, worker, self._brief(run_id).repo_of[todo_id], why)

    def secrets_read(
        self, repos: Repos, run_id: str, todo_id: str, repo: ShortText, worker: ShortText,
        names: Annotated[Sequence[SecretName], Field(max_length=MOST_SECRETS)],
    ) -> None:  # fmt: skip
        if todo_id:
            self._refuse_foreign(repos, run_id, todo_id)
            repo = self._repo_of(run_id)[todo_id]
        elif repo not in {self._repo_of(run_id)[name] for name in self._seen(repos, run_id)}:
            raise NotAllowed(f"run {run_id} has no todo of {_named(repos)} that builds on {repo!r}")
        self._store.secrets_read(run_id, todo_id, repo, worker, names)

    def status(self, repos: Repos, run_id: str) -> str | None:
        return self._store.status(run_id) if self._seen(repos, run_id) else None

    def brief(self, repos: Repos, run_id: str) -> RunBrief:
        """Return the parts of the brief that concern these repositories and what their todos build on."""
        seen = self._seen(repos, run_id)
        brief = self._brief(run_id)
        return brief.model_copy(
            update={
                "predecessors": {name: before for name, before in brief.predecessors.items() if name in seen},
                "by_hand": tuple(todo for todo in brief.by_hand if todo in seen),
                "lineage": brief.lineage.model_copy(
                    update={
                        "redone": {todo: run for todo, run in brief.lineage.redone.items() if todo in seen}
                    }
                ),
                "repo_of": (repo_of := {name: repo for name, repo in brief.repo_of.items() if name in seen}),
                "origins": {
                    repo: origin for repo, origin in brief.origins.items() if repo in repo_of.values()
                },
            }
        )

    def signed(
        self,
        repos: Repos,
        run_id: str,
        fields: Annotated[Sequence[ShortText], Field(max_length=MOST_CONTEXTS)],
    ) -> list[str | None]:
        """Return signed parts of the order: names and digests of all todos, the rest for its own."""
        seen = self._seen(repos, run_id)
        names = {*seen, *(self._repo_of(run_id)[todo] for todo in seen)}
        for field in fields:
            kind, _, name = field.partition(" ")
            if not seen or (name and kind != "block" and name not in names):
                raise NotAllowed(f"{field} of the order of run {run_id} is not about {_named(repos)}")
        return self._store.signed(run_id, fields)

    def handed_over(
        self, repos: Repos, run_id: str, todos: Sequence[str],
        contexts: Annotated[Sequence[str], Field(max_length=MOST_CONTEXTS)] = (), limit_bytes: int = 0,
        to: str = "", signed: Sequence[str] = (),
    ) -> TodoInputs:  # fmt: skip
        if to:
            self._refuse_foreign(repos, run_id, to)
        if hidden := sorted({*todos, *signed} - self._seen(repos, run_id)):
            raise NotAllowed(f"{hidden[0]} of run {run_id} is not a predecessor of a todo of {_named(repos)}")
        if contexts:
            self._refuse_foreign_context(repos, run_id, tuple(contexts))
        limit_bytes = min(limit_bytes, self._settings.context_limit_bytes)
        return self._store.handed_over(run_id, todos, contexts, limit_bytes, to, signed)

    def context_get(
        self, repos: Repos, run_id: str, todo_id: str, key: str, scope: Scope | None = None
    ) -> list[str]:
        self._refuse_foreign(repos, run_id, todo_id)
        return self._contexts.context_get(run_id, todo_id, key, scope)

    def context_set(
        self, repos: Repos, run_id: str, todo_id: str, key: str, value: str,
        ttl_s: float | None = None, scope: Scope | None = None,
    ) -> None:  # fmt: skip
        self._refuse_foreign(repos, run_id, todo_id)
        self._contexts.context_set(run_id, todo_id, key, value, ttl_s, scope)

    def context_delete(
        self, repos: Repos, run_id: str, todo_id: str, names: Sequence[str],
        ttl_s: float | None = None, scope: Scope | None = None,
    ) -> int:  # fmt: skip
        self._refuse_foreign(repos, run_id, todo_id)
        return self._contexts.context_delete(run_id, todo_id, names, ttl_s, scope)

    def context_list(
        self, repos: Repos, run_id: str, todo_id: str, pattern: str = "*", scope: Scope | None = None
    ) -> list[Kept]:
        self._refuse_foreign(repos, run_id, todo_id)
        return self._contexts.context_list(run_id, todo_id, pattern, scope)

    def meet(self, repos: Repos, version: str, heartbeat: timedelta, ecosystem: str = "") -> None:
        """Refuse another version or ecosystem. A restricted worker never takes a namespace over."""
        if version != self._version:
            raise Conflict(
                f"this is coord {version}, but the maintenance leader that serves it is coord "
                f"{self._version}",
                "install the same version on both",
            )
        self._registry.refuse_other(ecosystem)

    def refuse_clash(self, repos: Repos, worker: Worker) -> None:
        self._refuse_foreign_worker(repos, worker)
        self._registry.refuse_clash(worker)

    def say(self, repos: Repos, worker: Worker, now_ms: int, heartbeat: timedelta) -> None:
        self._refuse_foreign_worker(repos, worker)
        self._registry.say(worker, self._store.now_ms(), min(heartbeat, self._settings.lease_ttl))

    def leave(self, repos: Repos, worker: Worker) -> None:
        self._refuse_foreign_worker(repos, worker)
        self._registry.leave(worker)

    def cleanup_jobs(self, repos: Repos) -> list[CleanupJob]:
        """Return the cleanup jobs without the commits of other repositories: the name of a commit suffices to
        read its bundle.
        """
        return [job.about(repos) for job in self._cleanup_queue.cleanup_jobs()]

    def answer(self, repos: Repos, job_id: str, worker_id: str, answer: CleanupAnswer) -> None:
        known = self._registry.worker(worker_id)
        if known is None or not {*known.repos, *_repos_in(answer)} <= repos:
            raise NotAllowed(f"the answer of {worker_id} concerns more than {_named(repos)}")
        self._cleanup_queue.answer(job_id, worker_id, answer)

    def _followed(self, reply: Reply, run_id: str, todo_id: str, *, last: str = "") -> Reply:
        """Follow the reply in place of the worker, which may neither send nor count. `last`: the word of a
        reply with which the todo has ended.
        """
        self._dispatcher.follow(reply)
        if reply.word in (last, "again"):
            self._dispatcher.join(delivery_of(self._store, run_id, todo_id))
        return replace(reply, sends=(), wakes=(), header=())

    def _allowed(self, lease: timedelta) -> timedelta:
        return min(lease, LONGEST_LEASE * self._settings.lease_ttl)

    def _refuse_foreign(self, repos: Repos, run_id: str, todo_id: str) -> None:
        if self._repo_of(run_id).get(todo_id) not in repos:
            raise NotAllowed(f"{todo_id} of run {run_id} is not a todo of {_named(repos)}")

    def _refuse_foreign_context(self, repos: Repos, run_id: str, contexts: Chain) -> None:
        todo = contexts[0].rpartition("/")[2]
        self._refuse_foreign(repos, run_id, todo)
        if contexts != chain_of_todo(self._brief(run_id), todo):
            raise NotAllowed(f"{todo} of run {run_id} sees other contexts than {', '.join(contexts)}")

    def _refuse_foreign_worker(self, repos: Repos, worker: Worker) -> None:
        known = self._registry.worker(worker.id)
        named = {
            *worker.repos, *worker.places, *worker.unfit, *worker.services, *(known.repos if known else ())
        }  # fmt: skip
        if not named <= repos or worker.version != self._version:
            raise NotAllowed(f"worker {worker.id} serves more than {_named(repos)}")

    def _repo_of(self, run_id: str) -> Mapping[str, str]:
        try:
            return self._brief(run_id).repo_of
        except ValidationError:  # there is no such run
            return {}

    def _seen(self, repos: Repos, run_id: str) -> set[str]:
        """Return the todos of these repositories and all that they build on; `predecessors` lists each todo
        after its predecessors.
        """
        seen = {todo for todo, repo in self._repo_of(run_id).items() if repo in repos}
        if seen:
            for todo, before in reversed(self._brief(run_id).predecessors.items()):
                seen.update(before if todo in seen else ())
        return seen

    def _refuse_harmful(self, result: Result) -> None:
        if result.outcome not in OUTCOMES:
            raise NotAllowed(f"an attempt does not end as {result.outcome}")
        if result.tip and not is_commit(result.tip):
            raise NotAllowed(f"{result.tip!r} is not a commit")
        if len(result.signed) > LIMIT_BYTES:
            raise NotAllowed(f"the signed result has more than {LIMIT_BYTES} characters")
        if not _FIGURES.fullmatch(result.figures):
            raise NotAllowed(f"{result.figures!r:.200} are no figures of a change set")
        try:
            read_not_committed(result.not_committed)
        except ValueError as error:
            raise NotAllowed(f"{result.not_committed!r:.200} is no list of files: {error}") from error
        self._refuse_output(result.output)

    def _refuse_output(self, output: str) -> None:
        try:
            from_json(output or "null", allow_inf_nan=False)
        except ValueError as error:
            raise NotAllowed(f"the output is not JSON: {error}") from error
        if len(output) > self._settings.output_limit_bytes:
            raise NotAllowed(f"the output has more than {self._settings.output_limit_bytes} characters")


def delivery_of(store: RunStore, run_id: str, todo_id: str) -> Delivery:
    """Return the part of a todo's message that the join of its level needs."""
    redis, keys = store.redis, store.keys.run(run_id)
    descriptor = Descriptor.parse(redis.hget(keys.descriptor, todo_id))
    attempt, index = redis.hmget(keys.facts, [f"{todo_id} attempt", f"{todo_id} index"])
    size = redis.hget(keys.meta, f"size.{descriptor.level}")
    level = str(descriptor.level)
    return Delivery.parse(run_id, [todo_id, attempt, descriptor.repo, "", level, index or "0", size or "0"])


def _repos_in(answer: CleanupAnswer) -> set[str]:
    return {r.repo for r in answer.found if r.repo} | {finding.repo for finding in answer.landed}


def _named(repos: Repos) -> str:
    return ", ".join(sorted(repos))
