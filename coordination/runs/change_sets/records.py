"""Records of change sets and their form in Redis; the result of a quality check.

The hash of a change set has a field `<fact> <repo>` for each fact of a repository, and `todo <todo>` for each
result: `<run> <repo>`. The result of a check is the output of its todo if that succeeded, else its
checkpoint.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from typing import Annotated, Any

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from coordination.branches import is_named, last_part
from coordination.errors import Unreadable
from coordination.frozen import FrozenModel
from coordination.models import Word
from coordination.text import counted, listed

TODO = "todo"
_COMMIT = re.compile(r"[0-9A-Za-z][0-9A-Za-z-]*")
"""No option of git, no range, no path and no refspec."""


BY_PEOPLE = "people"
"""The method of a landing that coord found done."""


class Landed(FrozenModel):
    """How a repository's changes came into its base branch."""

    model_config = ConfigDict(extra="forbid")

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
    wave: int | None = None
    """The number of the wave in which it landed; None without waves."""
    signed: str = ""
    """The signed record of its worker (trust/results.py); empty without one."""


class Reverted(FrozenModel):
    """How landed changes were taken out of the base branch again, until they land anew."""

    model_config = ConfigDict(extra="forbid")

    commit: str
    """The commit that was reverted."""
    by: str
    """The commit of the base branch that reverts it."""
    via: str
    at: str
    """UTC, ISO 8601."""
    run: str
    """The run that reverted it."""
    request: str = ""
    """Page of the pull request that reverted it; empty without one."""


class RecordedCheck(FrozenModel):
    """The newest verdict of a quality check on a tip."""

    model_config = ConfigDict(extra="forbid")

    name: str
    verdict: str
    tip: str
    run: str


class SeenRequest(FrozenModel):
    """A pull request as its forge had it when coord asked last."""

    model_config = ConfigDict(extra="forbid")

    state: str
    """`draft`, `open`, `merged` or `closed`."""
    head: str
    at: str
    """Time at which coord asked; UTC, ISO 8601."""
    checks: int | None = None
    """Number of its checks; None, as are the approvals, where coord did not ask for them."""
    pending: int = 0
    red: tuple[str, ...] = ()
    """Names of red checks, as far as they were kept."""
    approvals: int | None = None
    refused_by: tuple[str, ...] = ()
    """People who requested changes."""


class RequestRef(FrozenModel):
    """The pull request of a repository's changes, as coord opened or found it last."""

    model_config = ConfigDict(extra="forbid")

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
    """The branch at the forge, if it is not named as that of the change set: of an adopted request, or with
    another `branch_prefix`.
    """
    seen: SeenRequest | None = None


class RepoChange(FrozenModel):
    """The part of a change set in one repository."""

    model_config = ConfigDict(extra="forbid")

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
    reverted: Reverted | None = None
    """None also for changes that have landed again."""
    request: RequestRef | None = None
    set_back_by: str = ""
    """The run that set the tip back behind commits of the pull request; the next run adds their inverse."""
    writer: str = ""
    """The run that may write it now."""
    signed: str = ""
    """The signed result that states the tip; empty if it was not signed."""

    def branch_at_forge(self, prefix: str) -> str:
        """Return the branch at the forge: that of the recorded request, else the own one with `prefix`."""
        if self.request:
            return self.request.branch or self.branch
        return self._own(prefix)

    def is_own(self, branch: str, prefix: str) -> bool:
        """Return whether coord names its branch so; that of an adopted request has another name."""
        return branch in (self.branch, self._own(prefix))

    def _own(self, prefix: str) -> str:
        return f"{prefix}{last_part(self.branch)}"


class TakenOver(FrozenModel):
    """The unlanded commits of a repository with which a run begins; they land with its own."""

    repo: str
    branch: str
    tip: str
    commits: int | None = None
    """Number of commits; None if it was not recorded."""
    todos: tuple[str, ...] = ()
    """The todos whose results they have."""
    is_rebuilt: bool = False
    """True if Redis has no record of them: the change set is rebuilt from the branch."""

    def __str__(self) -> str:
        size = "its commits" if self.commits is None else counted(self.commits, "commit")
        todos = f" ({listed(self.todos)})" if self.todos else ""
        why = "; the change set is rebuilt from it, because Redis has no record" if self.is_rebuilt else ""
        return f"{self.repo}: the run goes on with {size} of {self.branch}{todos}{why}"


TAKEN_OVER = TypeAdapter(tuple[TakenOver, ...])


class ChangeSet(FrozenModel):
    model_config = ConfigDict(extra="forbid")

    id: str
    """The plan's id, or that of a todo without plan."""
    repos: Mapping[str, RepoChange]
    source: Mapping[str, str] = {}
    """Todo → the run that has its result."""
    writers: Mapping[str, str] = {}
    """Repository → the run that may write it now."""
    set_back: Mapping[str, str] = {}
    """Repository → the commit that its pull request shows, where the tip was set back behind it, or is gone.
    """

    @property
    def writer(self) -> str:
        """Return a run that may write it now; empty if there is none."""
        return next(iter(self.writers.values()), "")

    @cached_property
    def open(self) -> Mapping[str, RepoChange]:
        """Return the repositories whose changes have not landed."""
        return {name: change for name, change in self.repos.items() if change.landed is None}

    @property
    def taken_over(self) -> tuple[TakenOver, ...]:
        """Return the commits with which a run of it begins."""
        names = ("repo", "branch", "tip", "commits", "todos")
        return tuple(
            TakenOver(**{name: getattr(one, name) for name in names}) for _, one in sorted(self.open.items())
        )

    def without_open(self) -> ChangeSet:
        """Return the change set without the parts that have not landed."""
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


def parse_change_set(change_set: str, raw: Mapping[str, str]) -> ChangeSet | None:
    """Return a change set from its hash in Redis; None if there is none. Raises Unreadable."""
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
        set_back = {
            name: RequestRef.model_validate_json(found["request"]).head
            for name, found in facts.items()
            if found.get("behind") and "request" in found
        }
    except (ValueError, KeyError) as error:  # ValidationError is one
        raise Unreadable(
            f"change set {change_set!r} cannot be read: {error}",
            f"inspect it in Redis; or rebuild it from its branches: coord plan adopt {change_set}",
        ) from error
    writers = {name: found["writer"] for name, found in facts.items() if found.get("writer")}
    return ChangeSet(id=change_set, repos=repos, source=source, writers=writers, set_back=set_back)


def _repo_change(repo: str, facts: Mapping[str, str], todos: Iterable[str]) -> RepoChange:
    if (branch := facts.get("branch", "")) and not is_named(branch):
        raise ValueError(f"its branch in {repo} is {branch!r:.100}, which is none of coord's")
    for name in ("tip", "base"):
        if (commit := facts.get(name, "")) and not _COMMIT.fullmatch(commit):
            raise ValueError(f"its {name} in {repo} is {commit!r:.100}, which is no commit")
    numbers = {name: facts[name] for name in ("commits", "files", "added", "removed") if facts.get(name)}
    return RepoChange.model_validate(
        {
            "repo": repo,
            "todos": tuple(todos),
            "runs": tuple(facts.get("runs", "").split()),
            "signed": facts.get("result", ""),
            "checks": tuple(_checks(facts.get("checks", ""))),
            "landed": Landed.model_validate_json(facts["landed"]) if "landed" in facts else None,
            "reverted": Reverted.model_validate_json(facts["reverted"]) if "reverted" in facts else None,
            "request": RequestRef.model_validate_json(facts["request"]) if "request" in facts else None,
            "set_back_by": facts.get("behind", ""),
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


MOST_FAILURES = 50
"""Failed tests that a result names."""

Number = Annotated[int, Field(ge=0)]


class CheckVerdict(Word):
    """The verdict on a repository. Only `green` is good."""

    GREEN = "green"
    RED = "red"
    """A test failed, the command failed, or no test was executed."""
    TIMED_OUT = "timed_out"
    COULD_NOT_RUN = "could_not_run"
    """The command could not be started, was killed, or left no report that can be read."""
    SKIPPED = "skipped"
    """A check that it waits for is not green."""
    WAITING = "waiting"
    """It has not ended."""


class FailedTest(FrozenModel):
    model_config = ConfigDict(extra="forbid")

    name: str
    message: str = ""


class CheckResult(FrozenModel):
    """Result of one check at one commit of its repository."""

    model_config = ConfigDict(extra="forbid")

    verdict: CheckVerdict
    why: str = ""
    """The reason of a verdict that is not green."""
    check: str | None = None
    kind: str | None = None
    total: Number | None = None
    """Number of tests; None without a report, like the following numbers."""
    passed: Number | None = None
    failed: Number | None = None
    skipped: Number | None = None
    errors: Number | None = None
    duration_s: float | None = None
    exit_code: int | None = None
    commit: str = ""
    needs: Mapping[str, str] = {}
    """Needed repository → the commit that it was checked against."""
    failures: tuple[FailedTest, ...] = ()
    """The first failed tests."""
    unnamed: Number = 0
    """Number of further failed tests."""
    known: bool = False
    """True if nothing failed that had not failed before the plan."""

    def written(self) -> str:
        return self.model_dump_json(exclude_defaults=True)


def read_result(output: Any) -> CheckResult | None:
    """Return the result in a todo's output, as text or parsed; None if there is none that can be read."""
    try:
        value = json.loads(output) if isinstance(output, str) else output
        return CheckResult.model_validate(value)
    except (ValueError, ValidationError, RecursionError):
        return None
