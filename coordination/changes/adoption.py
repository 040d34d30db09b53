"""Adopt a branch as the tip of a change set: a person's branch, or work that Redis has lost.

Where branch and change set both have commits that the other lacks, the tip is a merge of them. With `replace`
the branch becomes the tip as it is, and todos whose commits it lacks are open again.

An adoption is a person's statement that the branch has the work of the change set. It is signed, where this
process has an identity, and takes the place of the signed result of the tip.

Its commits are bundled, so that todos on other hosts find them, as after a settle. The fields are those of a
run's bundles (workers/transfer/routes.py); a run that goes on from the change set gets a copy of them. Where
the whole history is too large for Redis, only the commits beyond the base branch are bundled, and the base is
fetched from the repository's url, or is in the clones of the other hosts.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from subprocess import TimeoutExpired
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from coordination.branches import (
    HEADS,
    OwnBranches,
    claim,
    copy_ref,
    discarded_ref,
    last_part,
    name_of_set,
    prefix_of,
    set_branch,
)
from coordination.changes.checkout import BranchWork, branch_with_work, facts_of, pushed_branch, todos_of
from coordination.changes.discard import alone
from coordination.changes.merge import commit_merge, merge_trees, tree_of
from coordination.errors import Conflict, GitRefused, NotFound
from coordination.files import is_folder
from coordination.frozen import FrozenModel
from coordination.git import (
    ask_git,
    base_tip,
    commit_of,
    contains,
    has_commit,
    history_exceeds,
    is_checked_out,
    may_have_refs,
)
from coordination.models import Repo
from coordination.runs.change_sets.records import ChangeSet, RepoChange, RequestRef
from coordination.runs.change_sets.store import ChangeSets
from coordination.runs.records import RunStatus
from coordination.text import listed, quoted
from coordination.trust.results import AdoptionRecord, seal_adoption

if TYPE_CHECKING:
    from coordination.runs.connection import Connection

PATIENCE_S = 60.0
"""Time limit of git for a bundle."""


class Adoption(FrozenModel):
    """A branch that is, or will be, the tip of a change set in one repository."""

    plan: str
    repo: str
    branch: str
    """The adopted branch."""
    base: str
    tip: str
    """The tip of the branch, or the commit that merges it with the tip of the change set."""
    merged: str = ""
    """The tip of the branch, where `tip` is another commit."""
    before: str
    """The tip of the change set before; empty where Redis had none."""
    host: str
    commits: int
    files: int
    added: int
    removed: int
    todos: Mapping[str, str]
    """Todo → its run, by the trailers of the commits."""
    runs: tuple[str, ...]
    lacks: tuple[str, ...]
    """Todos of the change set whose commits the branch lacks: they are open again."""
    request: RequestRef | None = None
    """The adopted pull request of the branch."""
    request_before: str = ""
    """Page of the request that it replaces, which stays open."""


def find_lost(
    plan: str,
    repos: Collection[Repo],
    places: Mapping[str, Path | None],
    known: ChangeSet | None,
    host: str,
    prefix: str,
) -> tuple[Adoption, ...]:
    """Return the work of a plan that the checkouts of this machine have and Redis does not. `prefix`: that of
    new branches.

    Raises NotFound where there is none; GitRefused where it is on several branches.
    """
    there = known.repos if known else {}
    found = []
    for repo in repos:
        place = places.get(repo.name)
        if repo.name in there or place is None or not is_folder(place):
            continue
        base = base_tip(place, repo.branch, remote=bool(repo.url))
        branch, ref = branch_with_work(place, repo.name, plan, base, prefix), ""
        if not branch and (ref := pushed_branch(place, plan, prefix)):
            branch = set_branch(plan, prefix)
        if branch and base:
            facts = facts_of(place, branch, plan, base, ref=ref)
            if facts.commits:
                found.append(_unknown(plan, repo.name, facts, host))
    if not found:
        what = f"has work of {plan}" + (" that Redis does not know" if there else "")
        raise NotFound(
            f"no checkout of this machine {what}",
            "run it on the host that has the commits; or name the repository and a branch: "
            "coord plan adopt --help",
        )
    return tuple(found)


def find_unrecorded(
    connection: Connection | None,
    plan: str,
    repos: Collection[Repo],
    places: Mapping[str, Path | None],
    host: str,
) -> tuple[Adoption, ...]:
    """Return the work at which coord has left the branches of a change set in the checkouts of this machine,
    and of which Redis has no record. Work that has landed, and that of runs that Redis knows to have left the
    repository elsewhere, is not lost. `connection`: None for a Redis that has no data.
    """
    known = ChangeSets(connection.store).read(plan) if connection else None
    there, found = known.repos if known else {}, list[Adoption]()
    for repo, place, branch, base, head in _left(plan, repos, places):
        if repo in there or _adds_nothing(place, base, head):
            continue
        facts = facts_of(place, branch, plan, base)
        newest = facts.runs[-1] if facts.runs else ""
        is_lost = connection is None or _may_be_lost(connection, newest, repo, head)
        if facts.todos and is_lost:
            found.append(_unknown(plan, repo, facts, host))
    return tuple(found)


def find_landed(plan: str, repos: Collection[Repo], places: Mapping[str, Path | None]) -> Mapping[str, str]:
    """Return repository → the commit at which coord has left the branch of a change set in the checkouts of
    this machine, where the base branch has its work.
    """
    return {
        repo: head
        for repo, place, _, base, head in _left(plan, repos, places)
        if _adds_nothing(place, base, head)
    }


def _left(
    plan: str, repos: Collection[Repo], places: Mapping[str, Path | None]
) -> Iterator[tuple[str, Path, str, str, str]]:
    """Yield the repositories with a branch of a change set as coord has left it: name, checkout, branch, the
    tip of the base branch, and the branch's commit.
    """
    for repo in repos:
        place = places.get(repo.name)
        ours = OwnBranches.of(place) if place is not None and is_folder(place) else None
        if place is None or ours is None or not may_have_refs(place, *ours.refs):
            continue
        for branch in ours.named(name_of_set(plan)):
            head = commit_of(place, f"{HEADS}{branch}")
            base = base_tip(place, repo.branch, remote=bool(repo.url)) if head else ""
            if base and head == commit_of(place, copy_ref(branch)):
                yield repo.name, place, branch, base, head
                break


def _unknown(plan: str, repo: str, facts: BranchWork, host: str) -> Adoption:
    """Return the adoption of work of which Redis has no record."""
    return Adoption(plan=plan, repo=repo, before="", host=host, lacks=(), **vars(facts))


def _adds_nothing(place: Path, base: str, head: str) -> bool:
    if contains(place, head, base):
        return True
    done = merge_trees(place, base, head)
    return not done.files and done.tree == tree_of(place, base)


def _may_be_lost(connection: Connection, run: str, repo: str, head: str) -> bool:
    """Return whether Redis does not know the run, or knows it to have left the repository at this commit."""
    keys = connection.keys.run(run)
    status: str | None = connection.redis.hget(keys.meta, "status")
    tip: str | None = connection.redis.hget(keys.tips, repo)
    return status is None or (tip == head and status != RunStatus.ROLLED_BACK)


def find_branch(
    plan: str,
    repo: Repo,
    place: Path | None,
    branch: str,
    known: ChangeSet | None,
    host: str,
    *,
    committed: Mapping[str, str],
    replace: bool = False,
    request: FetchedRequest | None = None,
) -> Adoption:
    """Return the adoption of a branch: merged with the tip of the change set where that has more.

    `committed`: todo → the commit with which it ended, as far as records say so; `replace`: take the branch
    as it is; `request`: that of the branch. Raises NotFound, GitRefused.
    """
    if place is None or not is_folder(place):
        raise GitRefused(
            f"{repo.name} has no checkout on this machine",
            "run the command on the machine that has the branch",
        )
    base = base_tip(place, repo.branch, remote=bool(repo.url))
    theirs = facts_of(place, branch, plan, base, ref=request.ref if request else "")
    if not theirs.commits:
        raise GitRefused(
            f"{branch} of {repo.name} has no commit that {repo.branch} lacks", "name another branch"
        )
    change = known.open.get(repo.name) if known else None
    if change is None or contains(place, change.tip, theirs.tip):
        tip, lacks = theirs.tip, tuple[str, ...]()
    else:
        sides = _Sides(plan=plan, change=change, place=place, theirs=theirs, request=request)
        tip = theirs.tip if replace else sides.merged()
        lacks = sides.lacks(committed) if replace else ()
    facts = theirs if tip == theirs.tip else facts_of(place, branch, plan, base, ref=tip)
    return Adoption(
        plan=plan,
        repo=repo.name,
        merged=theirs.tip if tip != theirs.tip else "",
        before=change.tip if change else "",
        host=host,
        lacks=lacks,
        **vars(facts),
    )


@dataclass(frozen=True, kw_only=True)
class FetchedRequest:
    """The pull request of a branch that was fetched."""

    number: int
    ref: str
    """The ref of this checkout at which the branch is."""


@dataclass(frozen=True, kw_only=True)
class _Sides:
    """The tip of a change set, and a branch that lacks some of it."""

    plan: str
    change: RepoChange
    place: Path
    theirs: BranchWork
    request: FetchedRequest | None

    def merged(self) -> str:
        """Return the commit that has the work of both. Raises GitRefused."""
        ours, theirs, repo = self.change.tip, self.theirs, self.change.repo
        self._require_our_tip()
        if contains(self.place, theirs.tip, ours):
            if self.request:  # the change set goes on in it
                return ours
            raise GitRefused(
                f"{theirs.branch} of {repo} has no commit that the change set of {self.plan} lacks",
                f"set the change set back to it: {self._command} --replace",
            )
        if self._has_our_content():
            return theirs.tip
        if again := sorted(self._ours_alone() & self._theirs_alone()):
            raise GitRefused(
                f"{theirs.branch} of {repo} has other commits of {listed(again)} than the change set of "
                f"{self.plan}",
                f"drop those of the change set: {self._command} --replace",
            )
        done = merge_trees(self.place, ours, theirs.tip)
        if done.files:
            raise GitRefused(
                f"{theirs.branch} of {repo} conflicts with the change set of {self.plan} in "
                f"{listed(done.files)}",
                self._by_hand(),
            )
        subject = f"Merge {theirs.branch} into {self.change.branch}"
        return commit_merge(self.place, done.tree, (ours, theirs.tip), subject, {"Plan": self.plan})

    def lacks(self, committed: Mapping[str, str]) -> tuple[str, ...]:
        """Return the todos of the change set whose commits the branch lacks."""
        known = has_commit(self.place, self.change.tip)
        if known and self._has_our_content():
            return ()
        gone = set(self._ours_alone()) if known else set()
        gone.update(
            todo for todo, commit in committed.items() if not contains(self.place, commit, self.theirs.tip)
        )
        return tuple(sorted(gone & set(self.change.todos) - self.theirs.todos.keys()))

    def _require_our_tip(self) -> None:
        if not has_commit(self.place, self.change.tip):
            elsewhere = f"run it on {self.change.host}, which has them; or " if self.change.host else ""
            raise GitRefused(
                f"{self.place} does not have the commits of {self.plan}, with which {self.theirs.branch} "
                "has to be merged",
                f"{elsewhere}drop them: {self._command} --replace",
            )

    def _has_our_content(self) -> bool:
        """Return whether the branch would get nothing from the change set: it was squashed, for example."""
        ours, theirs = self.change.tip, self.theirs.tip
        done = merge_trees(self.place, theirs, ours)
        apart = not contains(self.place, theirs, ours)
        return apart and not done.files and done.tree == tree_of(self.place, theirs)

    def _ours_alone(self) -> Set[str]:
        return todos_of(self.place, self.plan, self.change.tip, without=self.theirs.tip)

    def _theirs_alone(self) -> Set[str]:
        return todos_of(self.place, self.plan, self.theirs.tip, without=self.change.tip)

    @property
    def _command(self) -> str:
        where = f"--pr {self.request.number}" if self.request else quoted(self.theirs.branch)
        return f"coord plan adopt {quoted(self.plan, self.change.repo)} {where}"

    def _by_hand(self) -> str:
        """Return the commands that merge the sides."""
        branch = f"merge-{last_part(self.change.branch)}"
        folder = self.place.with_name(f"{self.place.name}-merge")
        adopt = f"coord plan adopt {quoted(self.plan, self.change.repo, branch)}"
        return (
            f"merge them: git -C {quoted(self.place)} worktree add -b {quoted(branch, folder)} "
            f"{self.theirs.tip}; git -C {quoted(folder)} merge {self.change.tip}; commit, and adopt that: "
            + adopt
            + (f"; then the request: {self._command}" if self.request else "")
            + f"; or drop the change set's side: {self._command} --replace"
        )


def adopt(
    connection: Connection,
    plan: str,
    found: Sequence[Adoption],
    repos: Collection[Repo],
    places: Mapping[str, Path | None],
    reopen: Callable[[Collection[str]], tuple[str, ...]],
) -> tuple[str, ...]:
    """Record the adoptions, with the commits for other hosts, and move the branch of the change set in the
    checkouts. `reopen`: opens todos in the file, and returns those that were completed, as this does.

    After a crash the same adoption is possible again, because its record comes last.

    Raises Conflict while a run writes or lands it, where it has moved since, or its branch is checked out.
    """
    declared = {repo.name: repo for repo in repos}
    with alone(connection, plan) as known:
        branches = dict[str, str]()
        for one in found:
            change, place = known.repos.get(one.repo) if known else None, places[one.repo]
            assert place is not None
            before = known.tip(one.repo) if known else ""
            if before != one.before:
                what = f"the change set of {plan} in {one.repo} has moved to {before[:12] or 'nothing'}"
                raise Conflict(what, f"see it, and try again: coord changes {plan}")
            branch = _branch(one, change, place, connection.settings.branch_prefix)
            claim(one.repo, place, prefix_of(branch))
            _refuse_checked_out(one, branch, place)
            branches[one.repo] = branch
        for one in found:
            _move_branch(one, branches[one.repo], places[one.repo])
        lacks = [todo for one in found for todo in one.lacks]
        reopened = reopen(lacks) if lacks else ()
        for one in found:
            change = known.repos.get(one.repo) if known else None
            facts = _facts(connection, one, branches[one.repo], change)
            commits = _commits(connection, one, declared[one.repo], facts["branch"], places[one.repo])
            ChangeSets(connection.store).adopt(plan, one.repo, facts, one.todos, one.lacks, commits)
    return reopened


def _commits(
    connection: Connection, one: Adoption, repo: Repo, branch: str, place: Path | None
) -> Mapping[str, bytes | str]:
    """Return the commits for other hosts; empty if Redis is reached by a unix socket, as there are none."""
    assert place is not None
    if connection.url.startswith("unix:"):
        return {}
    limit = connection.settings.bundle_limit_bytes
    return bundle_of(place, repo, branch, base=one.base, tip=one.tip, limit_bytes=limit)


def _facts(
    connection: Connection, one: Adoption, branch: str, change: RepoChange | None
) -> Mapping[str, str]:
    is_open = change is not None and change.landed is None
    runs = tuple(dict.fromkeys((*(change.runs if change and is_open else ()), *one.runs)))
    numbers = {name: str(getattr(one, name)) for name in ("commits", "files", "added", "removed")}
    return {
        "branch": branch,
        "base": one.base,
        "tip": one.tip,
        "host": one.host,
        "run": runs[-1] if runs else "",
        "runs": " ".join(runs),
        "result": _signed(connection, one, change.todos if change and is_open else ()),
        **numbers,
        **({"request": one.request.model_dump_json()} if one.request else {}),
    }


def _signed(connection: Connection, one: Adoption, before: Collection[str]) -> str:
    """Return the signed adoption; empty in a process without an identity."""
    if connection.signing is None:
        return ""
    at = datetime.now(UTC).isoformat(timespec="seconds")
    todos = tuple(sorted({*one.todos, *before} - {*one.lacks}))
    record = AdoptionRecord(
        **connection.here.origin(),
        change_set=one.plan,
        repo=one.repo,
        base=one.base,
        tip=one.tip,
        at=at,
        todos=todos,
    )
    return seal_adoption(record, connection.signing.signer)


def _branch(one: Adoption, change: RepoChange | None, place: Path, prefix: str) -> str:
    """Return the branch of the change set: the recorded one, else the adopted one if coord named it so, else
    a new one.
    """
    if change and change.branch:
        return change.branch
    is_own = last_part(one.branch) == name_of_set(one.plan) and OwnBranches.of(place).have(HEADS + one.branch)
    return one.branch if is_own else set_branch(one.plan, prefix)


def _refuse_checked_out(one: Adoption, branch: str, place: Path) -> None:
    ref = f"{HEADS}{branch}"
    if commit_of(place, ref) in ("", one.tip):
        return
    common_dir = ask_git(place, "rev-parse", "--path-format=absolute", "--git-common-dir")
    if is_checked_out(Path(common_dir), ref):
        raise Conflict(
            f"{branch} of {one.repo} is checked out, and would move to {one.tip[:12]}",
            "check out another branch there; see: git worktree list",
        )


def _move_branch(one: Adoption, branch: str, place: Path | None) -> None:
    """Move the branch of the change set, and the ref by which a worker knows that coord moved it. A tip that
    the adopted branch lacks stays under refs/coord/discarded.
    """
    assert place is not None
    if one.before and has_commit(place, one.before) and not contains(place, one.before, one.tip):
        ask_git(place, "update-ref", discarded_ref(branch, one.before), one.before)
    ref = f"refs/heads/{branch}"
    before = commit_of(place, ref)
    if before != one.tip:
        nothing = "0" * len(one.tip)
        ask_git(place, "update-ref", "-m", "coord: adopted", ref, one.tip, before or nothing)
    ask_git(place, "update-ref", copy_ref(branch), one.tip)
    if commit_of(place, ref) != one.tip:
        raise Conflict(
            f"{branch} of {one.repo} moved in the meantime", "see it with `coord changes`, and try again"
        )


def bundle_of(
    checkout: Path, repo: Repo, branch: str, *, base: str, tip: str, limit_bytes: int
) -> Mapping[str, bytes | str]:
    """Return the fields by which other hosts find the tip of a branch, or the reason why they cannot."""
    if not _is_part(checkout) and not history_exceeds(checkout, branch, limit_bytes):
        whole = _bundle(checkout, branch, limit_bytes=limit_bytes)
        if whole:
            return {tip: whole}
    if part := _bundle(checkout, branch, f"^{base}", limit_bytes=limit_bytes):
        return {tip: part, f"{tip} since": base, f"{base} elsewhere": _place_of_base(repo, base)}
    why = (
        f"{repo.name}: {tip[:12]} was adopted and not sent to other hosts: its commits are larger than "
        f"bundle_limit_bytes ({limit_bytes}); raise that, and adopt it again"
    )
    return {f"{tip} elsewhere": why}


def _place_of_base(repo: Repo, base: str) -> str:
    if repo.url:
        return f"remote {repo.branch} {repo.url}"
    return (
        f"{repo.name}: {base[:12]} of {repo.branch} is not here, and its history is too large to be sent; "
        "fetch it into the clone of this host"
    )


def _is_part(checkout: Path) -> bool:
    """Return whether the checkout is a shallow or partial clone."""
    shallow = ask_git(checkout, "rev-parse", "--is-shallow-repository") == "true"
    return shallow or bool(ask_git(checkout, "config", "--get", "extensions.partialClone"))


def _bundle(checkout: Path, branch: str, *without: str, limit_bytes: int) -> bytes:
    """Return a bundle; empty if git cannot make one, or if it is too large."""
    with TemporaryDirectory(prefix="coord-adopt-") as folder:
        file = Path(folder, "bundle")
        words = ("bundle", "create", "--quiet", str(file), f"refs/heads/{branch}", *without)
        try:
            ask_git(checkout, *words, timeout_s=PATIENCE_S)
        except TimeoutExpired:
            return b""
        if not file.exists() or file.stat().st_size > limit_bytes:
            return b""
        return file.read_bytes()
