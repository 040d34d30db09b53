"""Change sets: a plan's results that are not in the base branches yet, by repository.

A settle moves a repository's tip in its own Lua step (lua/run/_changes.lua), with the signed result that
states it. A seal takes the right to write for a run; the end of the run gives it back. The hash of a change
set has a field `<fact> <repo>` for each fact of a repository, and `todo <todo>` for each result: `<run>
<repo>`. It stays until its repositories are discarded; its runs are kept as long as it has not landed, for
they hold outputs, signed results and bundles.
"""

from __future__ import annotations

import logging
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from functools import cached_property
from hashlib import sha256
from types import MappingProxyType

from pydantic import BaseModel, ConfigDict, ValidationError
from redis.client import Pipeline
from redis.exceptions import ResponseError

from coordination.errors import NotFound, Unreadable
from coordination.runs.replies import Grant
from coordination.runs.store import RunStore

PREFIX = "coord/"
LONGEST_NAME = 150
"""Bytes of a branch's name behind `coord/`: the file of a branch, and its lock file, may have 255."""
TODO = "todo"
NO_COMMITS: Mapping[str, bytes | str] = MappingProxyType({})
logger = logging.getLogger(__name__)
BEFORE, INVERSE = "before.", "inverse."
"""Prefixes of a repository's name in a run's meta; the values are the tip of its change set before the run,
and the tip that takes the run, or a landing, out again.
"""
_RUN_ID = re.compile(r"\d{8}-\d{6}-")
_REFUSED = re.compile(r"[\x00-\x20\x7f~^:?*\[\\/%]|@(?=\{)|(?<=\.)\.|^[.@-]|\.$|\.(?=lock$)", re.IGNORECASE)


class Landed(BaseModel):
    """How a repository's changes came into its base branch."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    commit: str
    """The commit on the base branch."""
    tree_before: str
    """The tree of the base branch before."""
    method: str
    via: str
    at: str
    """UTC, ISO 8601."""
    run: str
    """The run that landed it."""
    revert: str = ""
    """Page of the open pull request that takes it out again; empty without one."""


class RecordedCheck(BaseModel):
    """The newest verdict of a quality check on a tip."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    verdict: str
    tip: str
    run: str


class SeenRequest(BaseModel):
    """A pull request as its forge had it when coord asked last."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    state: str
    """`draft`, `open`, `merged` or `closed`."""
    head: str
    at: str
    """Time of the question; UTC, ISO 8601."""
    checks: int | None = None
    """Number of its checks; None, as are the approvals, where coord did not ask for them."""
    pending: int = 0
    red: tuple[str, ...] = ()
    """Names of red checks, as far as they were kept."""
    approvals: int | None = None
    refused_by: tuple[str, ...] = ()
    """People who want changes."""


class RequestRef(BaseModel):
    """The pull request of a repository's changes, as coord opened or found it last."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    number: int
    url: str
    """The page for people."""
    name: str
    """As other requests name it: `owner/repo#7`, at GitLab `group/repo!7`."""
    head: str
    """The commit that coord pushed last."""
    by: str
    """The person who asked for it."""
    at: str
    """Time of the opening; UTC, ISO 8601."""
    branch: str = ""
    """The branch at the forge of an adopted request; empty: that of the change set."""
    seen: SeenRequest | None = None


class RepoChange(BaseModel):
    """The part of a change set in one repository."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    repo: str
    branch: str
    """The branch with the work; decided once."""
    base: str = ""
    """The commit of the base branch at which it began, or that was merged into it last; empty if unknown."""
    tip: str
    host: str = ""
    """The host that has the commits."""
    run: str
    """The newest run that moved the tip."""
    runs: tuple[str, ...] = ()
    """The runs that made it, oldest first."""
    todos: tuple[str, ...] = ()
    """The todos whose results it has."""
    commits: int | None = None
    """Number of commits since `base`; None if it was not recorded, like the following ones."""
    files: int | None = None
    added: int | None = None
    """Lines."""
    removed: int | None = None
    checks: tuple[RecordedCheck, ...] = ()
    landed: Landed | None = None
    request: RequestRef | None = None
    writer: str = ""
    """The run that may write it now."""
    signed: str = ""
    """The signed result that states the tip; empty if it was not signed."""

    @property
    def forge_branch(self) -> str:
        """Return the branch at the forge, which is another one for an adopted request."""
        return (self.request.branch if self.request else "") or self.branch


class ChangeSet(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    """The plan's id, or that of a todo without plan."""
    repos: Mapping[str, RepoChange]
    source: Mapping[str, str] = {}
    """Todo → the run that has its result."""
    writers: Mapping[str, str] = {}
    """Repository → the run that may write it now."""

    @property
    def writer(self) -> str:
        """Return a run that may write it now; empty if there is none."""
        return next(iter(self.writers.values()), "")

    @cached_property
    def open(self) -> Mapping[str, RepoChange]:
        """Return the repositories whose changes have not landed."""
        return {name: change for name, change in self.repos.items() if change.landed is None}

    def without_open(self) -> ChangeSet:
        """Return what is left of it when what has not landed is discarded."""
        gone = frozenset(self.todos)
        landed = {name: change for name, change in self.repos.items() if change.landed}
        source = {todo: run for todo, run in self.source.items() if todo not in gone}
        return self.model_copy(update={"repos": landed, "source": source})

    def tip(self, repo: str) -> str:
        """Return the tip in a repository; empty where nothing is to land."""
        return change.tip if (change := self.open.get(repo)) else ""

    @cached_property
    def runs(self) -> tuple[str, ...]:
        """Return the runs whose work has not landed, newest first."""
        if not self.open:
            return ()
        landed = {todo for change in self.repos.values() if change.landed for todo in change.todos}
        names = {run for change in self.open.values() for run in change.runs}
        names.update(run for todo, run in self.source.items() if todo not in landed)
        return tuple(sorted(names, reverse=True))

    @property
    def todos(self) -> tuple[str, ...]:
        """Return the todos whose results have not landed."""
        return tuple(todo for change in self.open.values() for todo in change.todos)


def branch_name(change_set: str) -> str:
    """Return the branch of a change set: `coord/<id>`, with `%XX` for what git forbids. Two ids never get the
    same one, and none gets that of a run.
    """
    name = _REFUSED.sub(lambda found: "".join(f"%{byte:02X}" for byte in found[0].encode()), change_set)
    if _RUN_ID.match(name):
        name = f"%{ord(name[0]):02X}{name[1:]}"
    if len(raw := name.encode()) > LONGEST_NAME:
        end = sha256(change_set.encode()).hexdigest()[:16]  # `%%` stands in no other name
        name = f"{raw[: LONGEST_NAME - 18].decode(errors='ignore')}%%{end}"
    return f"{PREFIX}{name}"


def copy_ref(branch: str) -> str:
    """Return the ref that keeps the commit at which coord left the branch of a change set."""
    return f"refs/coord/copies/{branch.removeprefix(PREFIX)}"


def discarded_ref(branch: str, commit: str) -> str:
    """Return the ref that keeps a commit which the branch of a change set has no longer."""
    return f"refs/coord/discarded/{branch.removeprefix(PREFIX)}/{commit[:12]}"


class ChangeSets:
    """Reads change sets, and records what landing did to them."""

    def __init__(self, store: RunStore) -> None:
        self._store = store
        self._redis = store.redis
        self._keys = store.keys

    def list(self) -> tuple[str, ...]:
        """Return the ids of all change sets."""
        return tuple(sorted(self._redis.smembers(self._keys.change_sets)))

    def read(self, change_set: str) -> ChangeSet | None:
        """Return the change set; None if there is none. Raises Unreadable."""
        return _parsed(change_set, self._redis.hgetall(self._keys.changes(change_set)))

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

    def note_landed(self, grant: Grant, change_set: str, repo: str, landed: Landed) -> bool:
        """Record that the changes of a repository have landed. Return False if another attempt holds the todo
        by now. Raises NotFound.
        """
        return self._note(grant, change_set, repo, landed=landed.model_dump_json())

    def note_reverted(
        self, grant: Grant, change_set: str, repo: str, *, tip: str, base: str, signed: str
    ) -> bool:
        """Open the change set again after a revert. `tip`: the commit that restores the work on top of
        `base`; `signed`: the signed result that states it. Return False if another attempt holds the todo by
        now. Raises NotFound.
        """
        return self._note(grant, change_set, repo, tip=tip, base=base, signed=signed)

    def _note(self, grant: Grant, change_set: str, repo: str, **facts: str) -> bool:
        word = self._store.note_change(grant, change_set, repo, **facts).word
        if word == "gone":
            raise _not_found(change_set, repo)
        return word == "noted"

    def adopt(
        self,
        change_set: str,
        repo: str,
        facts: Mapping[str, str],
        todos: Mapping[str, str],
        commits: Mapping[str, bytes | str] = NO_COMMITS,
    ) -> None:
        """Record these facts of a repository, as a person states them. `todos`: todo → the run that has its
        result; `commits`: bundles for other hosts. The caller holds the lock of starts, and has refused one
        that a run writes.
        """
        key = self._keys.changes(change_set)
        before = self.read(change_set)
        known = before.repos.get(repo) if before else None
        with self._redis.pipeline(transaction=True) as pipeline:
            if known is not None and known.landed is not None:  # a new beginning
                todos_before = [f"{TODO} {todo}" for todo in known.todos]
                pipeline.hdel(key, f"landed {repo}", f"request {repo}", *todos_before)
            pipeline.hset(key, mapping={f"{fact} {repo}": value for fact, value in facts.items()})
            for todo, run in todos.items():
                pipeline.hset(key, f"{TODO} {todo}", f"{run} {repo}")
            if commits:
                pipeline.hset(self._keys.adopted(change_set, repo), mapping=dict(commits))
            pipeline.sadd(self._keys.change_sets, change_set)
            pipeline.execute()
        self._store.announce("change_set.adopted", change_set, repos=[repo])

    def note_request(self, change_set: str, repo: str, request: RequestRef, kind: str) -> None:
        """Record the pull request of a repository, with an event of this kind. Raises NotFound where the
        change set was discarded meanwhile.
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
        """Forget the changes of a repository, and the results of its todos. Raises NotFound."""
        found = self._require(change_set, repo)
        key = self._keys.changes(change_set)
        todos = [f"{TODO} {todo}" for todo in found.repos[repo].todos]
        with self._redis.pipeline(transaction=True) as pipeline:
            pipeline.hdel(key, *(f"{fact} {repo}" for fact in _FACTS), *todos)
            pipeline.unlink(self._keys.adopted(change_set, repo))
            if set(found.repos) == {repo} and not found.writers:
                pipeline.srem(self._keys.change_sets, change_set)
            pipeline.execute()
        self._store.announce("change_set.discarded", change_set, repos=[repo])

    def _require(self, change_set: str, repo: str) -> ChangeSet:
        found = self.read(change_set)
        if found is None or repo not in found.repos:
            raise _not_found(change_set, repo)
        return found


def _not_found(change_set: str, repo: str) -> NotFound:
    return NotFound(f"there is no change set {change_set!r} in {repo}", "list them: coord changes")


_FACTS = (
    *("branch", "base", "tip", "host", "run", "runs", "commits", "files", "added", "removed", "landed"),
    *("result", "checks", "request"),
)


def _readable(change_set: str, raw: Mapping[str, str] | Exception) -> ChangeSet | None:
    try:
        if isinstance(raw, Exception):
            raise raw
        return _parsed(change_set, raw)
    except (Unreadable, ResponseError) as error:  # it must not hide the others
        logger.warning("change set %s is left out: %s", change_set, str(error).partition("\n")[0])
        return None


def _parsed(change_set: str, raw: Mapping[str, str]) -> ChangeSet | None:
    if not raw:
        return None
    facts: defaultdict[str, dict[str, str]] = defaultdict(dict)
    source, todos = dict[str, str](), defaultdict[str, list[str]](list)
    for field, value in raw.items():
        fact, _, name = field.partition(" ")
        if fact == TODO:
            source[name], _, repo = value.partition(" ")
            todos[repo].append(name)
        else:
            facts[name][fact] = value
    try:
        repos = {
            name: _repo_change(name, found, todos.get(name, ()))
            for name, found in facts.items()
            if "tip" in found
        }
    except (ValidationError, KeyError) as error:
        raise Unreadable(
            f"change set {change_set!r} cannot be read: {error}",
            f"look at it in Redis; or build it anew from its branches: coord adopt {change_set}",
        ) from error
    writers = {name: found["writer"] for name, found in facts.items() if found.get("writer")}
    return ChangeSet(id=change_set, repos=repos, source=source, writers=writers)


def _repo_change(repo: str, facts: Mapping[str, str], todos: Iterable[str]) -> RepoChange:
    numbers = {name: facts[name] for name in ("commits", "files", "added", "removed") if facts.get(name)}
    return RepoChange.model_validate(
        {
            "repo": repo,
            "todos": tuple(todos),
            "runs": tuple(facts.get("runs", "").split()),
            "signed": facts.get("result", ""),
            "checks": tuple(_checks(facts.get("checks", ""))),
            "landed": Landed.model_validate_json(facts["landed"]) if "landed" in facts else None,
            "request": RequestRef.model_validate_json(facts["request"]) if "request" in facts else None,
            **{name: facts.get(name, "") for name in ("branch", "base", "tip", "host", "run", "writer")},
            **numbers,
        }
    )


def _checks(lines: str) -> Iterator[RecordedCheck]:
    for line in lines.splitlines():
        words = line.split(" ")
        if len(words) == len(RecordedCheck.model_fields):
            name, verdict, tip, run = words
            yield RecordedCheck(name=name, verdict=verdict, tip=tip, run=run)
