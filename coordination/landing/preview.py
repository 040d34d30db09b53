"""Read the checkouts of this machine: preview a landing or a revert; find those that are behind after it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar

from coordination.declared import Column, Table
from coordination.files import is_folder
from coordination.frozen import FrozenModel
from coordination.git import NOBODY, ask_git, base_tip, commit_of, contains, has_commit, is_commit
from coordination.landing.readiness import Missing, is_lasting, missing_text
from coordination.models import LandAction, QaAction, Repo, Via
from coordination.runs.change_sets.records import BY_PEOPLE, CheckVerdict
from coordination.runs.records import TodoState
from coordination.runs.run_kinds import REVERT
from coordination.text import listed, quoted

MERGED = ("--write-tree", "--name-only", "--no-messages", "-z")

if TYPE_CHECKING:
    from coordination.landing.order import LandWave
    from coordination.landing.records import RepoLanding
    from coordination.landing.start import PreparedLanding
    from coordination.runs.views.records import TodoView


class RepoPreview(FrozenModel):
    """One repository of a landing or a revert."""

    shown: ClassVar = Table(
        columns=(
            Column("REPO"),
            Column("PLAN"),
            Column("BRANCH"),
            Column("BASE", of=lambda one: one.base[:12] or "?", wide=True),
            Column("TIP", of=lambda one: one.tip[:12], wide=True),
            Column("COMMITS", of=lambda one: "?" if one.commits is None else one.commits),
            Column("VIA"),
            Column("METHOD"),
            Column("AFTER", of=lambda one: ", ".join(one.after), flexible=True, folds=True),
            Column("WOULD", flexible=True, folds=True),
        )
    )
    repo: str
    branch: str
    """The base branch."""
    base: str = ""
    """Its tip, as this machine knows it; empty where the checkout is elsewhere."""
    tip: str
    """The commit that lands, or the landed one that is reverted."""
    work_branch: str = ""
    """The branch of the change set."""
    via: str
    method: str
    host: str
    commits: int | None = None
    """Number of commits that are not in the base branch; None if the checkout is on another machine."""
    after: tuple[str, ...] = ()
    """Repositories that land before it."""
    wave: int | None = None
    """The number of its wave; None without waves."""
    plan: str | None = None
    """Its plan, in a landing of several plans."""
    would: str
    """The expected outcome, as far as this machine can know it."""
    problem: str = ""
    """The reason why it would be refused, as far as this machine can know it."""
    request: str = ""
    """The page of its pull request; empty if there is none, or the forge was not asked."""
    not_asked: str = ""
    """The reason for which its remote or forge could not be asked; empty if they were, or need not be."""
    left_out: int = 0
    """Number of commits on `work_branch` that are not in the change set. People have made them since the last
    run, and they do not land.
    """


@dataclass(frozen=True, kw_only=True)
class RemoteFacts:
    """The answers of a repository's remote and forge before a landing."""

    request: str = ""
    """The page of its pull request; empty without one."""
    missing: tuple[Missing, ...] = ()
    """The conditions that its pull request does not meet."""
    problem: str = ""
    """The reason for which the forge would refuse everything; empty without one."""
    not_asked: str = ""
    """The reason for which remote or forge could not be asked."""


Asked = Mapping[tuple[str, str], RemoteFacts]
"""(plan, repository) → the answers."""
NOBODY_ASKED: Asked = MappingProxyType({})


class CheckPreview(FrozenModel):
    """One quality check of a landing."""

    repo: str
    check: str
    green: bool = False
    """True if its last result is green and holds for the trees that would land, as far as is known here."""


class WavePreview(FrozenModel):
    """One wave of a landing."""

    number: int
    repos: tuple[str, ...]
    soak_s: float | None = None
    check: str | tuple[str, ...] | None = None
    gate: bool = False
    """True if a person must approve it before it lands."""


class LandingPreview(FrozenModel):
    kind: str
    """`land` or `revert`."""
    change_set: str
    atomic: str
    repos: tuple[RepoPreview, ...]
    waves: tuple[WavePreview, ...] = ()
    """In the order in which they land; empty if all repositories land at once."""
    in_place: tuple[str, ...] = ()
    """Todos of the plan that worked in place: their work does not land."""
    checks: tuple[CheckPreview, ...] = ()
    """The quality checks that must be green."""
    unchecked: tuple[str, ...] = ()
    """Repositories that declare no check."""
    qa_skipped: str = ""
    """The reason why declared checks do not run; empty if they run."""
    overrides: tuple[str, ...] = ()
    """Options by which it lands without a safeguard; they need the right `override`."""

    compared: tuple[str, ...] = ()
    """Completed todos whose work no record of the change set has: git is asked for it before the landing
    starts.
    """

    @property
    def problems(self) -> tuple[str, ...]:
        return tuple(f"{one.repo}: {one.problem}" for one in self.repos if one.problem)


def preview_of(
    prepared: PreparedLanding, places: Mapping[str, Path | None], asked: Asked = NOBODY_ASKED
) -> LandingPreview:
    """Return the preview. `places`: repository → its checkout, None if it is on another machine; `asked`: the
    answers of remotes and forges. Raises GitRefused.
    """
    landing = prepared.landing
    reverts = prepared.kind == REVERT
    return LandingPreview(
        kind=prepared.kind,
        change_set=landing.change_set,
        atomic=landing.atomic,
        repos=tuple(
            _with_answers(
                _of_repo(one, part.change_set, REVERT if reverts else str(part.method), places.get(one.repo)),
                asked.get((part.change_set, one.repo), RemoteFacts()),
                when_ready=landing.when_ready,
            ).model_copy(
                update={
                    "wave": part.wave_of(one.repo) or None,
                    "plan": part.change_set if landing.plans else None,
                }
            )
            for part in landing.parts
            for one in part.repos
        ),
        waves=tuple(_of_wave(wave) for wave in landing.waves),
        in_place=landing.in_place,
        checks=tuple(_checks(prepared, places)),
        unchecked=landing.unchecked,
        qa_skipped=landing.qa_skipped,
        overrides=prepared.overrides,
        compared=tuple(
            todo for one in prepared.compared for todo in one.todos if todo not in prepared.accepted
        ),
    )


def _of_wave(wave: LandWave) -> WavePreview:
    return WavePreview(
        number=wave.number,
        repos=wave.repos,
        soak_s=wave.soak.total_seconds() if wave.soak else None,
        check=wave.check,
        gate=wave.gate is not None,
    )


def _checks(prepared: PreparedLanding, places: Mapping[str, Path | None]) -> Iterator[CheckPreview]:
    todos = prepared.graph.todos.values() if prepared.graph and prepared.landing.qa else ()
    lands = (todo.action for todo in todos if isinstance(todo.action, LandAction))
    before = {check.todo for action in lands for check in action.checks}
    trees: dict[str, str] = {}
    for todo in todos:
        if not isinstance(todo.action, QaAction) or todo.id not in before:
            continue
        trees = trees or _trees(prepared, places)
        result = prepared.results.get(todo.id)
        read = {todo.repo: result.commit, **result.needs} if result else {}
        repos = {todo.repo, *trees.keys() & (todo.action.needs or ())}
        green = result is not None and result.verdict is CheckVerdict.GREEN and repos <= read.keys()
        yield CheckPreview(
            repo=todo.repo,
            check=todo.action.check or todo.id,
            green=green and all(trees[repo] == _tree(places.get(repo), read[repo]) != "" for repo in repos),
        )


def _trees(prepared: PreparedLanding, places: Mapping[str, Path | None]) -> dict[str, str]:
    """Return repository → the tree of its base branch after the landing; empty if it is not known."""
    assert prepared.records is not None
    landing = {one.repo: one for one in prepared.landing.repos}
    branches = {repo.name: repo for repo in prepared.records.repos}
    found = {}
    for repo in prepared.repos:
        one, checkout = landing.get(repo), places.get(repo)
        remote = one.via is not Via.LOCAL if one else bool(branches[repo].url)
        base = base_tip(checkout, branches[repo].branch, remote=remote) if checkout else ""
        if one and base and checkout:
            found[repo] = ask_git(checkout, "merge-tree", "--write-tree", base, one.change.tip)
        else:
            found[repo] = _tree(checkout, base)
    return found


def _tree(checkout: Path | None, commit: str) -> str:
    if checkout is None or not commit:
        return ""
    return ask_git(checkout, "rev-parse", "--verify", "--quiet", f"{commit}^{{tree}}")


def _of_repo(one: RepoLanding, plan: str, method: str, checkout: Path | None) -> RepoPreview:
    reverts = method == REVERT
    tip = one.landed.commit if reverts else one.change.tip
    known = RepoPreview(
        repo=one.repo,
        branch=one.branch,
        tip=tip,
        work_branch=one.change.branch,
        via=one.via,
        method=method,
        host=one.change.host,
        after=one.after,
        would="be decided on its host",
    )
    if checkout is None or not is_folder(checkout):
        return known
    base = base_tip(checkout, one.branch, remote=one.via is not Via.LOCAL)
    if not base:
        problem = f"there is no branch {one.branch} in {checkout}: create it, or correct `branch` in the file"
        return known.model_copy(update={"problem": problem, "would": "be refused"})
    if reverts:
        outcome = _outcome_of_revert(checkout, base, tip, one.landed.tree_before)
        return known.model_copy(update={"base": base} | outcome)
    commits = _count(checkout, f"{base}..{tip}")
    left_out = _count(checkout, f"{tip}..refs/heads/{one.change.branch}") if one.change.branch else None
    found = {"base": base, "commits": commits, "left_out": left_out or 0}
    resolve = f"coord plan resolve {quoted(plan, one.repo)}"
    return known.model_copy(update=found | _outcome(checkout, base, tip, method, resolve))


def _with_answers(one: RepoPreview, facts: RemoteFacts, *, when_ready: bool) -> RepoPreview:
    """Return the preview of a repository with the answers of its remote and forge."""
    found: dict[str, str] = {"request": facts.request, "not_asked": facts.not_asked}
    text, name = missing_text(facts.missing), facts.request or "its pull request"
    if text and when_ready and not is_lasting(facts.missing):
        found["would"] = f"wait until {name} is ready ({text}), then {one.would}"
    elif text or facts.problem:
        problems = [one.problem, facts.problem, f"{name} is not ready: {text}" if text else ""]
        found |= {"would": "be refused", "problem": "; ".join(filter(None, problems))}
    return one.model_copy(update=found)


def _count(checkout: Path, commits: str) -> int | None:
    count = ask_git(checkout, "rev-list", "--count", commits)
    return int(count) if count.isdecimal() else None


def _outcome(checkout: Path, base: str, tip: str, method: str, resolve: str) -> dict[str, str]:
    if not has_commit(checkout, tip):
        return {"would": "be decided on its host"}
    merged = ask_git(checkout, "merge-tree", "--write-tree", base, tip)
    if not merged:
        return {"would": "be refused", "problem": f"{tip[:12]} conflicts with {base[:12]}: {resolve}"}
    if merged == ask_git(checkout, "rev-parse", f"{base}^{{tree}}"):
        return {"would": "change nothing: the base branch lacks no commit or change of it"}
    if method != "ff":
        return {"would": f"{method} {tip[:12]} into {base[:12]}"}
    if contains(checkout, base, tip):
        return {"would": f"move from {base[:12]} to {tip[:12]}"}
    return {"would": "be refused", "problem": f"the base branch has moved to {base[:12]}: no fast-forward"}


def _outcome_of_revert(checkout: Path, base: str, landed: str, before: str) -> dict[str, str]:
    """Return the outcome of a three-way merge: the landed commit as ancestor, the base branch as ours, and
    the tree before the landing as theirs.
    """
    trees = [_tree(checkout, commit) for commit in (landed, base, before)]
    if not all(trees):
        return {"would": "be decided on its host"}
    root = _synthetic(checkout, trees[0])
    ours, theirs = (_synthetic(checkout, tree, root) for tree in trees[1:])
    merged = ask_git(checkout, "merge-tree", *MERGED, ours, theirs, codes=(0, 1)).rstrip("\0")
    tree, *files = merged.split("\0")
    if files:
        problem = f"{listed(dict.fromkeys(files))} changed in {base[:12]} since {landed[:12]} landed: "
        hint = "take that change out first, or revert both by hand"
        return {"would": "be refused", "problem": f"{problem}{hint}"}
    if tree == trees[1]:
        return {"would": "change nothing: the base branch has none of it"}
    return (
        {"would": f"add a commit that reverts {landed[:12]}"} if tree else {"would": "be decided on its host"}
    )


def _synthetic(checkout: Path, tree: str, *parents: str) -> str:
    """Return a commit of a tree, for a merge; no ref has it."""
    options = [option for parent in parents for option in ("-p", parent)]
    return ask_git(checkout, "commit-tree", *options, "-m", "compare", tree, settings=NOBODY)


def commands_to_pull(
    todos: Iterable[TodoView], repos: Iterable[Repo], places: Mapping[str, Path | None]
) -> tuple[str, ...]:
    """Return the commands that update the checkouts of this machine whose base branch lacks the commit of a
    landing or revert, as after one by push or pull request. `places`: as for `preview_of`.
    """
    declared, found = {repo.name: repo for repo in repos}, dict[str, str]()
    for todo in todos:
        repo, checkout, commit = declared.get(todo.repo), places.get(todo.repo), _commit_at_base(todo)
        if repo is None or not repo.url or checkout is None or not is_folder(checkout) or not commit:
            continue
        ref = f"refs/heads/{repo.branch}"
        if not contains(checkout, commit, ref) and commit_of(checkout, ref):
            found[repo.name] = _command_to_pull(checkout, repo.branch, repo.url)
    return tuple(found.values())


def _commit_at_base(todo: TodoView) -> str:
    """Return the commit that a todo has brought to a base branch, by its output; empty without one."""
    output = todo.output if todo.state is TodoState.SUCCEEDED else None
    if not isinstance(output, dict) or output.get("method") == BY_PEOPLE:
        return ""  # people may have merged other commits with the same content
    commit = output.get("by") or output.get("commit")
    return commit if isinstance(commit, str) and is_commit(commit) else ""


def _command_to_pull(checkout: Path, branch: str, url: str) -> str:
    remote = ask_git(checkout, "config", "--get", f"branch.{branch}.remote")
    source = remote or re.sub(r"^(https?://)[^/]*@", r"\1", url)
    if ask_git(checkout, "symbolic-ref", "--short", "--quiet", "HEAD") != branch:
        return f"git -C {quoted(checkout)} fetch {quoted(source, f'{branch}:{branch}')}"
    return f"git -C {quoted(checkout)} pull" + ("" if remote else f" {quoted(source, branch)}")
