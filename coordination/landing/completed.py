"""Compare the completed todos of a plan with the work that lands and with the base branches.

A todo that is completed in the file has its work in the change set or in a base branch, or never had any.
The record of the change set names the todos whose results it has. All others that would make a commit are
compared before a landing starts, by these facts:

| fact | read from |
|---|---|
| the commit of its last success, or that it had none | the hash `commits` in Redis |
| a commit with its trailers; whether the change set or the base branch has a commit | git, by workers |
| a person has completed it, not a run | the history of the file |

A commit that is known and in neither place refuses the landing, since its work would be lost. A todo of which
nothing is known needs the word of a person: `--accept TODO`, which counts for later sweeps and landings, too.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING

from coordination.branches import HEADS, is_named, name_of_set
from coordination.errors import UsageError
from coordination.landing.records import LandOptions
from coordination.landing.rules import plan_of
from coordination.models import (
    AgentAction,
    Ecosystem,
    InWorker,
    ManualAction,
    QaAction,
    ShellAction,
    Todo,
    TodoStatus,
    Via,
    Workspace,
)
from coordination.runs.change_sets.records import ChangeSet
from coordination.runs.landed_results import ExpectedResult, ResultFinding
from coordination.runs.submission.refusals import (
    ACCEPTED,
    NO_COMMIT,
    NotLanded,
    ask_for_results,
    record_accepted,
)
from coordination.runs.write_back import UNDONE
from coordination.text import listed, quoted

if TYPE_CHECKING:
    from coordination.runs.connection import Connection

ByHand = Callable[[Collection[str]], Mapping[str, bool]]
"""Returns the todos that a person has completed → whether they had been opened again before."""
SHOWN = 3


@dataclass(frozen=True, kw_only=True)
class Unrecorded:
    """The completed todos of a plan whose work the record of its change set does not have."""

    plan: str
    todos: Mapping[str, str] = field(default_factory=dict)
    """Todo → its repository."""
    tips: Mapping[str, str] = field(default_factory=dict)
    """Repository → the tip of the change set there."""
    own: Mapping[str, str] = field(default_factory=dict)
    """Repository → the branch of the change set there."""
    branches: Mapping[str, str] = field(default_factory=dict)
    """Repository → its base branch."""
    remote: frozenset[str] = frozenset()
    """Repositories whose base branch is the one at the url."""

    def expected(self, todo: str, commit: str, run: str, repo: str) -> ExpectedResult:
        """Return the question about a todo. `commit`, `run` and `repo`: of its last success; empty if
        unknown.
        """
        where = repo if repo in self.branches else self.todos[todo]
        return ExpectedResult(
            todo=todo, repo=where, branch=self.branches[where], commit=commit, run=run,
            plan=self.plan, tip=self.tips.get(where, ""), remote=where in self.remote,
        )  # fmt: skip


NO_WAYS: Mapping[str, Via | None] = MappingProxyType({})


def unrecorded(
    ecosystem: Ecosystem,
    change_set: ChangeSet | None,
    name: str,
    ways: Mapping[str, Via | None] = NO_WAYS,
    chosen: Collection[str] = (),
) -> Unrecorded:
    """Return the completed todos of a plan whose work no record of its change set has; with `chosen`, only
    those of these repositories. `ways`: repository → how it lands; others land as the plan says.
    """
    plan, todos = plan_of(ecosystem, name)
    repos = {repo.name: repo for repo in ecosystem.repos}
    usual = plan.land.via if plan and plan.land else None
    recorded = change_set.source if change_set else {}
    found = {
        todo.id: todo.repo
        for todo in todos
        if todo.status is TodoStatus.COMPLETED
        and todo.id not in recorded
        and (todo.repo in chosen or not chosen)
        and may_commit(todo.working_in(repos[todo.repo]))
    }
    return Unrecorded(
        plan=name,
        todos=found,
        tips={name: change.tip for name, change in change_set.open.items()} if change_set else {},
        own={name: change.branch for name, change in change_set.open.items()} if change_set else {},
        branches={name: repo.branch for name, repo in repos.items()},
        remote=frozenset(
            repo for repo, one in repos.items() if one.url and ways.get(repo, usual) is not Via.LOCAL
        ),
    )


def may_commit(todo: Todo) -> bool:
    """Return whether a run that completes the todo may leave a commit in a worktree."""
    action = todo.action
    if todo.workspace is Workspace.IN_PLACE or isinstance(action, ManualAction | QaAction | InWorker):
        return False
    return not (isinstance(action, ShellAction | AgentAction) and action.read_only)


def accepted_todos(
    ecosystem: Ecosystem, plans: Iterable[str], accepted: Collection[str]
) -> Mapping[str, str]:
    """Return each accepted todo → its repository. Raise UsageError where one is no completed todo of the
    plans.
    """
    every = (todo for plan in plans for todo in plan_of(ecosystem, plan)[1]) if accepted else ()
    done = {todo.id: todo.repo for todo in every if todo.status is TodoStatus.COMPLETED}
    if unknown := sorted(set(accepted) - done.keys()):
        raise UsageError(f"{listed(unknown)}: not a completed todo of this plan", "leave it out of --accept")
    return {todo: done[todo] for todo in accepted}


def refuse_lost(
    connection: Connection, compared: Collection[Unrecorded], command: str, accepted: Collection[str],
    by_hand: ByHand,
) -> None:  # fmt: skip
    """Raise NotLanded for a completed todo unless its commit is in the change set or in its base branch, or
    `accepted` names it; record those that it names.

    `command`: the command of this landing, which a hint repeats.
    """
    record_accepted(connection.store, accepted)
    named = {todo: one for one in compared for todo in one.todos if todo not in accepted}
    asked = _records(connection, named)
    if not asked:
        return
    no_commit = [todo for todo, (commit, _, _) in asked.items() if commit in ("", UNDONE)]
    people = by_hand(no_commit) if no_commit else {}
    undone = [
        ResultFinding(
            todo=todo, repo=named[todo].todos[todo], branch="", why=f"its result was undone by run {run}"
        )
        for todo, (commit, run, _) in asked.items()
        if commit == UNDONE and todo not in people
    ]
    expected = [named[todo].expected(todo, *record) for todo, record in asked.items() if record[0] != UNDONE]
    findings, unasked = (
        ask_for_results(connection.store, connection.registry, expected) if expected else ([], set())
    )
    standing = judge(expected, findings, people, unasked)
    missing = [*undone, *standing.missing]
    if missing:
        raise _lost(missing, named, standing.unknown, command, connection.settings.this_host)
    if standing.unanswered:
        raise _unanswered(standing.unanswered[0], command)
    if standing.unknown:
        raise _unknown(standing.unknown, command)


def _records(connection: Connection, todos: Iterable[str]) -> dict[str, tuple[str, str, str]]:
    """Return todo → commit, run and repository of its last success, for those that may have a commit; empty
    texts where nothing is recorded.
    """
    names = list(todos)
    found = connection.redis.hmget(connection.keys.commits, names) if names else []
    words = {
        todo: ([*str(record or "").split(" "), "", ""])[:3] for todo, record in zip(names, found, strict=True)
    }
    return {
        todo: (commit, run, repo)
        for todo, (commit, run, repo) in words.items()
        if commit not in (ACCEPTED, NO_COMMIT)
    }


def on_branches(connection: Connection, one: Unrecorded, by_hand: ByHand) -> list[ResultFinding]:
    """Return the completed todos whose commits workers find on a branch of the change set, and in no base
    branch. Raises NotLanded where a worker does not answer.
    """
    records = {
        todo: record for todo, record in _records(connection, one.todos).items() if record[0] != UNDONE
    }
    if not records:
        return []
    expected = [one.expected(todo, *record) for todo, record in records.items()]
    findings, unasked = ask_for_results(connection.store, connection.registry, expected)
    people = by_hand([todo for todo, (commit, _, _) in records.items() if not commit]) if findings else {}
    own, missing = name_of_set(one.plan), judge(expected, findings, people, unasked).missing
    return [
        found
        for found in missing
        if found.ref.startswith(HEADS) and is_named(found.ref.removeprefix(HEADS), own)
    ]


@dataclass(frozen=True, kw_only=True)
class Standing:
    """The completed todos that keep a plan from landing."""

    missing: tuple[ResultFinding, ...]
    """Those with a known commit that is in neither place."""
    unknown: tuple[str, ...]
    """Those of which nothing is known."""
    unanswered: tuple[ExpectedResult, ...]
    """Those whose repository no worker serves."""


def judge(
    expected: Collection[ExpectedResult],
    findings: Iterable[ResultFinding],
    by_hand: Mapping[str, bool],
    unasked: Collection[str] = (),
) -> Standing:
    """Return the todos that keep a plan from landing; pure. A commit that one host finds in the base branch
    or the change set is there: other clones may be behind.

    `by_hand`: as of `ByHand`. A todo that a person has completed after it was opened again owes nothing to a
    commit of before.
    """
    best = dict[str, ResultFinding]()
    for finding in findings:
        if finding.todo not in best or _rank(finding) > _rank(best[finding.todo]):
            best[finding.todo] = finding
    missing, unknown, unanswered = list[ResultFinding](), list[str](), list[ExpectedResult]()
    for one in expected:
        found = best.get(one.todo)
        if found is not None and found.why:
            if one.commit or not by_hand.get(one.todo):
                missing.append(found)
        elif (found is not None and found.commit) or one.todo in by_hand:
            continue
        elif found is None and one.repo in unasked:
            unanswered.append(one)
        else:
            unknown.append(one.todo)
    return Standing(missing=tuple(missing), unknown=tuple(unknown), unanswered=tuple(unanswered))


def _rank(finding: ResultFinding) -> tuple[bool, bool, bool]:
    """Return the weight of a finding: there, then missing at a ref, then missing, then unknown."""
    return bool(finding.commit and not finding.why), bool(finding.ref), bool(finding.why)


def _lost(
    missing: Collection[ResultFinding],
    named: Mapping[str, Unrecorded],
    unknown: Collection[str],
    command: str,
    here: str,
) -> NotLanded:
    shown = list(missing)[:SHOWN]
    hosts = {one.todo: f" on {one.host}" if one.ref and one.host != here else "" for one in shown}
    sentences = [f"{one.todo} of {one.repo} is completed, and {one.why}{hosts[one.todo]}" for one in shown]
    if len(missing) > SHOWN:
        sentences.append(f"and {len(missing) - SHOWN} more")
    if unknown:
        sentences.append(f"nothing is known of the work of {listed(unknown)}")
    first = shown[0]
    plan = named[first.todo].plan
    again = f"coord todo update {quoted(first.todo)} --status pending; coord sweep {quoted(plan)}"
    back = _way_back(first, plan, named[first.todo].own.get(first.repo, ""))
    if back and hosts[first.todo]:
        back = f"on {first.host}, {back}"
    ways = [back, f"run it again: {again}"]
    ways.append(f"if the base branch has the work in another form: {command} --accept {quoted(first.todo)}")
    return NotLanded("; ".join(sentences), "; or ".join(filter(None, ways)), missing)


def _way_back(finding: ResultFinding, plan: str, own: str) -> str:
    """Return the commands that bring a commit into the change set; empty if no ref has it. `own`: the branch
    of the change set, if something of it lands.
    """
    if not finding.ref:
        return ""
    commit, branch = finding.commit[:12], finding.ref.removeprefix("refs/heads/")
    if own:  # both sides count
        steps = f"git switch {quoted(own)}; git merge {commit}; git switch -"
        return (
            f"merge it in {finding.repo}: {steps}; then: coord plan adopt {quoted(plan, finding.repo, own)}"
        )
    if branch != finding.ref:
        return f"take it up: coord plan adopt {quoted(plan, finding.repo, branch)}"
    name = f"found-{commit}"
    adopt = f"coord plan adopt {quoted(plan, finding.repo, name)}"
    return f"take it up in {finding.repo}: git branch {name} {commit}; then: {adopt}"


def _unanswered(one: ExpectedResult, command: str) -> NotLanded:
    return NotLanded(
        f"{one.todo} is completed, and no worker of {one.repo} reports whether {one.branch} has its work",
        f"start one: coord worker --repo {quoted(one.repo)}; "
        f"or, if {one.branch} has it: {command} --accept {quoted(one.todo)}",
    )


def _unknown(todos: Collection[str], command: str) -> NotLanded:
    many = len(todos) > 1
    accept = " ".join(f"--accept {quoted(todo)}" for todo in todos)
    return NotLanded(
        f"nothing is known of the work of {listed(todos)}: {'they are' if many else 'it is'} completed, and "
        f"neither a record nor a commit names {'them' if many else 'it'}",
        f"see: coord todo show {quoted(next(iter(todos)))}; if the base branch has the work, or there was "
        f"none: {command} {accept}",
    )


def command_of(name: str, options: LandOptions) -> str:
    """Return the command that lands a plan with these options, without `--yes`."""
    words = ["coord", "land", name, *(word for repo in options.repos for word in ("--repo", repo))]
    values = {"--via": options.via, "--method": options.method, "--wave": options.wave}
    words += [str(word) for option, value in values.items() if value is not None for word in (option, value)]
    words += [
        word for word, given in (("--no-qa", options.no_qa), ("--when-ready", options.when_ready)) if given
    ]
    words += [word for todo in options.accept for word in ("--accept", todo)]
    return quoted(*words)
