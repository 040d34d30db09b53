"""Change sets: a plan's results that are not in the base branches yet, by repository.

A settle moves a repository's tip in its own Lua step (lua/run/_changes.lua), with the signed result that
states it. A seal takes the right to write for a run; the end of the run gives it back. A change set stays
until its repositories are discarded; its runs are kept as long as it has not landed, for they hold outputs,
signed results and bundles.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from types import MappingProxyType

from pydantic import ValidationError
from redis.client import Pipeline
from redis.exceptions import ResponseError

from coordination.environment import actor
from coordination.errors import NotFound, Unreadable
from coordination.runs.attempt_store import Grant
from coordination.runs.change_sets.records import (
    TODO,
    ChangeSet,
    Landed,
    RequestRef,
    Reverted,
    SeenRequest,
    parse_change_set,
)
from coordination.runs.run_kinds import is_landing
from coordination.runs.store import RunStore

NO_COMMITS: Mapping[str, bytes | str] = MappingProxyType({})
logger = logging.getLogger(__name__)
BEFORE, INVERSE = "before.", "inverse."
"""Prefixes of a repository's name in a run's meta; the values are the tip of its change set before the run,
and the tip that takes the run, or a landing, out again.
"""


@dataclass(frozen=True, kw_only=True)
class PlanOfRun:
    """The plan of a run."""

    id: str
    lands: tuple[str, ...] = ()
    """The change sets that it lands or reverts; empty for any other run."""


def plans_of(store: RunStore, runs: Iterable[str]) -> Mapping[str, PlanOfRun]:
    """Return run → its plan, in one round trip."""
    names = tuple(runs)
    with store.redis.pipeline(transaction=False) as pipeline:
        for run in names:
            pipeline.hmget(store.keys.run(run).meta, "plan_id", "lands")
        return {run: _plan_of(*found) for run, found in zip(names, pipeline.execute(), strict=True)}


def _plan_of(plan_id: str | None, lands: str | None) -> PlanOfRun:
    name = plan_id or ""
    own = (name.partition(":")[2],) if is_landing(name) else ()
    return PlanOfRun(id=name, lands=tuple((lands or "").split()) or own)


class ChangeSets:
    """Reads change sets, and records landings, reverts, requests, adoptions and discards."""

    def __init__(self, store: RunStore) -> None:
        self._store = store
        self._redis = store.redis
        self._keys = store.keys

    def list(self) -> tuple[str, ...]:
        """Return the ids of all change sets."""
        return tuple(sorted(self._redis.smembers(self._keys.change_sets)))

    def read(self, change_set: str) -> ChangeSet | None:
        """Return the change set; None if there is none. Raises Unreadable."""
        return parse_change_set(change_set, self._redis.hgetall(self._keys.changes(change_set)))

    def read_all(self, ids: Iterable[str] | None = None) -> dict[str, ChangeSet]:
        """Return these change sets, or all, in one round trip; without damaged ones, which the log names."""
        names = self.list() if ids is None else tuple(ids)
        with self._redis.pipeline(transaction=False) as pipeline:
            for name in names:
                pipeline.hgetall(self._keys.changes(name))
            answers = pipeline.execute(raise_on_error=False)
        found = {name: _readable(name, raw) for name, raw in zip(names, answers, strict=True)}
        return {name: change_set for name, change_set in found.items() if change_set is not None}

    def tip_before(self, run: str, repo: str) -> str:
        """Return the tip of its change set before a run, and those that it retries; empty without one."""
        found: str | None = self._redis.hget(self._keys.run(run).meta, f"{BEFORE}{repo}")
        return found or ""

    def inverse_of(self, run: str, repo: str) -> str:
        """Return the tip that a rollback of the run has made with an inverse commit; empty without one."""
        found: str | None = self._redis.hget(self._store.keys.run(run).meta, f"{INVERSE}{repo}")
        return found or ""

    def parts_of(
        self, run: str, todos: Sequence[str], takes_up: Collection[str]
    ) -> tuple[tuple[str, str], ...]:
        """Return the commits between which each of these todos of a run has worked, the newest first.
        `takes_up`: the runs that it retries; results of others are not its own.
        """
        names = [f"{todo} {fact}" for todo in todos for fact in ("fence", "began", "commit", "run")]
        found = self._redis.hmget(self._keys.run(run).facts, names) if names else []
        parts = [
            (int(fence), began, commit)
            for fence, began, commit, of in zip(*(found[i::4] for i in range(4)), strict=True)
            if fence and fence.isdecimal() and began and commit and began != commit
            if (of or run) in (run, *takes_up)
        ]
        return tuple((began, commit) for _, began, commit in sorted(parts, reverse=True))

    def committed(self, change_set: ChangeSet, repo: str) -> Mapping[str, str]:
        """Return each todo of a repository that has committed → the commit with which it ended, as far as the
        runs are known.
        """
        found = {}
        change = change_set.open.get(repo)
        for todo in change.todos if change else ():
            if parts := self.parts_of(change_set.source[todo], [todo], ()):
                found[todo] = parts[0][1]
        return found

    def note_landed(self, grant: Grant, change_set: str, repo: str, landed: Landed) -> bool:
        """Record that the changes of a repository have landed. Return False if another attempt holds the todo
        by now. Raises NotFound.
        """
        data = {"commit": landed.commit, "via": landed.via, "method": landed.method}
        if landed.wave is not None:
            data["wave"] = str(landed.wave)
        return self._note(grant, change_set, repo, data, landed=landed.model_dump_json())

    def note_reverted(
        self,
        grant: Grant,
        change_set: str,
        repo: str,
        *,
        tip: str,
        base: str,
        signed: str,
        reverted: Reverted | None = None,
    ) -> bool:
        """Open the change set again after a revert. `tip`: the commit that restores the work on top of
        `base`; `signed`: the signed result that states it; `reverted`: None for a rollback that adds an
        inverse commit to the branch of a change set. Return False if another attempt holds the todo by now.
        Raises NotFound.
        """
        data = {"commit": reverted.commit, "by": reverted.by, "via": reverted.via} if reverted else {}
        record = reverted.model_dump_json() if reverted else ""
        facts = {"tip": tip, "base": base, "signed": signed, "reverted": record}
        return self._note(grant, change_set, repo, data, **facts)

    def _note(self, grant: Grant, change_set: str, repo: str, data: Mapping[str, str], **facts: str) -> bool:
        word = self._store.note_change(grant, change_set, repo, data=data.items(), **facts).word
        if word == "gone":
            raise _not_found(change_set, repo)
        return word == "noted"

    def adopt(
        self,
        change_set: str,
        repo: str,
        facts: Mapping[str, str],
        todos: Mapping[str, str],
        gone: Collection[str] = (),
        commits: Mapping[str, bytes | str] = NO_COMMITS,
    ) -> None:
        """Record these facts of a repository, as a person states them. `todos`: todo → the run that has its
        result; `gone`: todos whose result it has no more; `commits`: bundles for other hosts.

        The caller holds the lock of starts, and has checked that no run writes the change set.
        """
        key = self._keys.changes(change_set)
        before = self.read(change_set)
        known = before.repos.get(repo) if before else None
        with self._redis.pipeline(transaction=True) as pipeline:
            if known is not None and known.landed is not None:  # a new beginning
                todos_before = [f"{TODO} {todo}" for todo in known.todos]
                pipeline.hdel(key, f"landed {repo}", f"request {repo}", *todos_before)
            pipeline.hset(key, mapping={f"{fact} {repo}": value for fact, value in facts.items()})
            pipeline.hdel(key, f"behind {repo}")  # the branch counts as the person states it
            if gone:
                pipeline.hdel(key, *(f"{TODO} {todo}" for todo in gone))
            for todo, run in todos.items():
                pipeline.hset(key, f"{TODO} {todo}", f"{run} {repo}")
            if commits:
                pipeline.hset(self._keys.adopted(change_set, repo), mapping=dict(commits))
            pipeline.sadd(self._keys.change_sets, change_set)
            pipeline.execute()
        data = {name: facts[name] for name in ("branch", "tip", "base") if facts.get(name)}
        self._store.announce("change_set.adopted", change_set, repos=[repo], actor=actor(), data=data)

    def note_request(self, change_set: str, repo: str, request: RequestRef, kind: str) -> None:
        """Record the pull request of a repository, with an event of this kind. Raises NotFound where the
        change set was discarded in the meantime.
        """
        key = self._keys.changes(change_set)

        def write(pipeline: Pipeline) -> None:
            if not pipeline.hexists(key, f"tip {repo}"):
                raise _not_found(change_set, repo)
            pipeline.multi()
            pipeline.hset(key, f"request {repo}", request.model_dump_json())

        self._redis.transaction(write, key)
        self._store.announce(kind, change_set, repos=[repo], title=request.url, actor=request.by)

    def note_seen(self, change_set: str, seen: Mapping[str, tuple[int, SeenRequest]]) -> None:
        """Record requests as their forges have them now, without an event. `seen`: repository → number and
        facts; a repository whose recorded request is another one by now is left out.
        """
        key = self._keys.changes(change_set)
        fields = [f"request {repo}" for repo in seen]

        def write(pipeline: Pipeline) -> None:
            known = pipeline.hmget(key, fields)
            pipeline.multi()
            for field, raw, (number, facts) in zip(fields, known, seen.values(), strict=True):
                with suppress(ValidationError):  # of nothing, or a damaged record
                    ref = RequestRef.model_validate_json(raw or "")
                    if ref.number == number:
                        pipeline.hset(key, field, ref.model_copy(update={"seen": facts}).model_dump_json())

        if seen:
            self._redis.transaction(write, key)

    def discard(self, change_set: str, repo: str) -> None:
        """Delete the changes of a repository and the results of its todos, which are open again. Raises
        NotFound.
        """
        found = self._require(change_set, repo)
        key = self._keys.changes(change_set)
        todos = [f"{TODO} {todo}" for todo in found.repos[repo].todos]
        with self._redis.pipeline(transaction=True) as pipeline:
            pipeline.hdel(key, *(f"{fact} {repo}" for fact in _FACTS), *todos)
            pipeline.unlink(self._keys.adopted(change_set, repo))
            if found.repos[repo].todos:
                pipeline.hdel(self._keys.commits, *found.repos[repo].todos)
            if set(found.repos) == {repo} and not found.writers:
                pipeline.srem(self._keys.change_sets, change_set)
            pipeline.execute()
        change = found.repos[repo]
        data = {name: value for name in ("branch", "tip", "base") if (value := getattr(change, name))}
        self._store.announce("change_set.discarded", change_set, repos=[repo], actor=actor(), data=data)

    def _require(self, change_set: str, repo: str) -> ChangeSet:
        found = self.read(change_set)
        if found is None or repo not in found.repos:
            raise _not_found(change_set, repo)
        return found


def _not_found(change_set: str, repo: str) -> NotFound:
    return NotFound(f"there is no change set {change_set!r} in {repo}", "list them: coord changes")


_FACTS = (
    *("branch", "base", "tip", "host", "run", "runs", "commits", "files", "added", "removed", "landed"),
    *("reverted", "result", "checks", "request", "behind"),
)


def _readable(change_set: str, raw: Mapping[str, str] | Exception) -> ChangeSet | None:
    try:
        if isinstance(raw, Exception):
            raise raw
        return parse_change_set(change_set, raw)
    except (Unreadable, ResponseError) as error:  # it must not hide the others
        logger.warning("left out the unreadable change set %s: %s", change_set, str(error).partition("\n")[0])
        return None
