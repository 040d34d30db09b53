"""Fetch a commit of the run, made on this host or another, into a folder or into a checkout's objects.

    <state>/carried/<run>/<repo>/depot/       all objects of the repository that were fetched or are borrowed
    <state>/carried/<run>/<repo>/<commit>/    a plain checkout of exactly that commit, made once
    <state>/carried/<run>/<repo>/gates/<digest>/<commit>/    the same, for todos behind these gates
    <state>/carried/<run>/<repo>/checks/<reader>/<commit>/   the same, made anew for each check of a reader
    <state>/carried/<run>/<repo>/lock         held by the worker that makes one of these, and its git

A folder is made under the name `new` and renamed when it is complete. Only the holder of the lock makes one,
so a folder of that name was left by a killed worker, and is removed. All of it is removed with the run.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from coordination.branches import HEADS, is_named
from coordination.credentials.records import Purpose
from coordination.errors import GitRefused
from coordination.files import below, lock, make_private, open_lock
from coordination.git import is_commit
from coordination.runs.records import Origin
from workers.credentials import Access, without_credentials
from workers.process.trouble import GitInterrupted, describe_os_error
from workers.transfer.routes import (
    BundleInfo,
    BundleStore,
    NotCarried,
    Remote,
    fetch_branch,
    hidden,
    sentence,
)
from workers.workspace.files import remove_tree, scratch
from workers.workspace.git import PATIENCE, Hold, ask, git
from workers.workspace.lock import POLL_S
from workers.workspace.repository import has_commit, inspect, is_partial

LONGEST_CHAIN = 10_000
"""Bundles that build on each other: more than the todos of one run in one repository."""
_KEPT = re.compile(r"refs/coord/[^ ]+")
"""A reference of ours that is no branch."""


@dataclass(frozen=True, kw_only=True)
class CommitRef:
    """A commit that a run made on some host, or began with."""

    run_id: str
    repo: str
    branch: str
    """The branch that it gets in a folder of its own."""
    commit: str
    origin: Origin | None = None
    """The only address to fetch from. Any worker of the repository may write the record beside a bundle."""
    runs: tuple[str, ...] = ()
    """The runs that this one takes up: the commit may be on the branch of one of them."""
    bundled_by: str = ""
    """The run whose bundles lead to the commit; empty: this one."""
    at_origin: bool = False
    """True if the commit is on the branch of `origin`."""

    @property
    def incoming(self) -> str:
        """The ref of fetched commits. No branch moves: only the holder of the fence moves one."""
        return f"refs/coord/incoming/{self.run_id}"

    @property
    def sender(self) -> str:
        """Return the run under which a bundle, or the place, of the commit is recorded."""
        return self.bundled_by or self.run_id

    def may_come_from(self, remote: Remote, commit: str) -> bool:
        """Return whether the run's own record has this address, and the run may have used this branch."""
        if self.origin is None or remote.url != self.origin.url:
            return False
        runs = (self.run_id, *self.runs)
        return remote.branch == self.origin.branch or is_published(remote.branch, runs, commit)


def is_published(branch: str, runs: Iterable[str], commit: str) -> bool:
    """Return whether one of these runs may have pushed a commit to this branch, with any prefix."""
    return any(is_named(branch, name) for run in runs for name in (run, f"{run}-{commit[:12]}"))


def carried(state: Path, run: str) -> Path:
    """Return the folder with commits that todos of a run read; removed with the run."""
    return below(state.absolute(), "carried", run)


def depot_of(state: Path, run: str, repo: str) -> Path:
    """Return the repository with the objects that were fetched of one, or are borrowed."""
    return below(carried(state, run), repo, "depot")


class CommitFetcher:
    def __init__(
        self,
        bundles: BundleStore,
        state: Path,
        places: Mapping[str, Path],
        patience: timedelta = PATIENCE,
        access: Access = without_credentials,
    ) -> None:
        self._access = access
        self._bundles = bundles
        self._state = state
        self._places = places
        self._patience = patience

    def folder(self, commit_ref: CommitRef, apart: Sequence[str] = (), *, anew: bool = False) -> Path:
        """Return a plain checkout of the commit. `apart`: names of folders that keep it from readers without
        them; `anew`: nothing that an earlier reader has left there stays.

        Raises a CoordinationError with the reason why there can be none.
        """
        _check(commit_ref)
        home = carried(self._state, commit_ref.run_id) / commit_ref.repo
        place = below(home, *apart)
        folder = place / commit_ref.commit
        if anew or not folder.is_dir():
            with describe_os_error(home), _locked(home, self._patience) as hold:
                if anew:
                    remove_tree(place)
                if not folder.is_dir():
                    make_private(place)
                    self._make(commit_ref, home, folder, hold)
        return folder

    def fetch(self, commit_ref: CommitRef, into: Path, hold: Hold | None = None) -> None:
        """Fetch the commit into a repository's objects; no branch of it changes. Raises as `folder`."""
        _check(commit_ref)
        # Only the holder of the worktree writes this ref: its git was killed.
        if common_dir := _common_dir(into):
            (common_dir / f"{commit_ref.incoming}.lock").unlink(missing_ok=True)
        try:
            self._fetch_all(commit_ref, into, hold)
        finally:
            with suppress(GitRefused):
                ask("update-ref", "-d", commit_ref.incoming, cwd=into, hold=hold)

    def _fetch_all(self, commit_ref: CommitRef, into: Path, hold: Hold | None) -> None:
        bundles: dict[str, None] = {}
        at: str | None = commit_ref.commit
        while at is not None and not has_commit(into, at):
            label = self._label(commit_ref, at)
            if label.bundled and at not in bundles and len(bundles) < LONGEST_CHAIN:
                bundles[at] = None
                at = self._since(commit_ref, label)
            elif label.remote is not None:
                with self._access(
                    commit_ref.run_id, commit_ref.repo, label.remote.url, Purpose.READ
                ) as variables:
                    _fetch(commit_ref, at, label.remote, into, hold, variables)
            else:
                raise NotCarried(label.why or _unsent(commit_ref.repo, at))
        if at is not None:
            _point(commit_ref, at, into, hold)
        for commit in reversed(bundles):
            self._unbundle(commit_ref, commit, into, hold)

    def _label(self, commit_ref: CommitRef, commit: str) -> BundleInfo:
        if commit_ref.at_origin and commit_ref.origin is not None:
            branch = Remote(commit_ref.origin.branch, commit_ref.origin.url)
            return BundleInfo(bundled=False, since=None, remote=branch, why="")
        return self._bundles.label(commit_ref.sender, commit_ref.repo, commit)

    def _since(self, commit_ref: CommitRef, label: BundleInfo) -> str | None:
        if label.since is not None and not is_commit(label.since):
            raise NotCarried(
                f"{commit_ref.repo}: a bundle adds to {sentence(label.since)!r}, which is not a commit"
            )
        return label.since

    def _make(self, commit_ref: CommitRef, home: Path, folder: Path, hold: Hold) -> None:
        depot, new = depot_of(self._state, commit_ref.run_id, commit_ref.repo), home / "new"
        _remove_stale_locks(depot / ".git")
        _make_repository(depot, commit_ref, self._lender(commit_ref))
        self.fetch(commit_ref, depot, hold)
        if new.exists():
            shutil.rmtree(new)
        _make_repository(new, commit_ref, depot / ".git")
        git("update-ref", f"refs/heads/{commit_ref.branch}", commit_ref.commit, cwd=new)
        git("checkout", "--quiet", "--force", "--detach", commit_ref.commit, cwd=new, hold=hold)
        new.rename(folder)

    def _lender(self, commit_ref: CommitRef) -> Path | None:
        """Return the git directory to lend objects: of the run's worktree here, else of the checkout here.

        None if neither has what the commit refers to.
        """
        worktree = self._state / "worktrees" / commit_ref.run_id / commit_ref.repo
        common_dir = _common_dir(worktree)
        if common_dir is not None and has_commit(worktree, commit_ref.commit):
            return common_dir
        place = self._places.get(commit_ref.repo)
        common_dir = None if place is None else _common_dir(place)
        return None if place is None or common_dir is None or is_partial(place) else common_dir

    def _unbundle(self, commit_ref: CommitRef, commit: str, into: Path, hold: Hold | None) -> None:
        with scratch(self._state) as folder:
            file = folder / "bundle"
            file.write_bytes(self._bundles.bundle(commit_ref.sender, commit_ref.repo, commit))
            try:
                _refuse_other_heads(commit_ref, commit, git("bundle", "list-heads", str(file), cwd=into))
                git("bundle", "unbundle", str(file), cwd=into, hold=hold)
                _point(commit_ref, commit, into, hold)
            except GitInterrupted:
                raise
            except GitRefused as refused:
                message = f"{commit_ref.repo}: the bundle of {commit[:12]} cannot be used: {refused.message}"
                raise NotCarried(message) from refused


def _common_dir(place: Path) -> Path | None:
    """Return the common git directory; None if git accepts no repository there."""
    try:
        return inspect(place)[1] if place.is_dir() else None
    except GitInterrupted:
        raise
    except GitRefused:
        return None


def _unsent(repo: str, commit: str) -> str:
    return (
        f"{repo}: {commit[:12]} is not here, and no host has sent it (a worker whose Redis is a unix:// "
        "socket sends nothing)"
    )


def _check(commit_ref: CommitRef) -> None:
    for name in (commit_ref.run_id, commit_ref.repo):
        if name in ("", ".", "..") or "/" in name:
            raise NotCarried(f"{name!r} cannot be the name of a folder", "name the repository otherwise")
    if not is_commit(commit_ref.commit):
        raise NotCarried(f"{commit_ref.repo}: {commit_ref.commit!r} is not a commit")


@contextmanager
def _locked(home: Path, patience: timedelta) -> Iterator[Hold]:
    make_private(home)
    descriptor = open_lock(home / "lock")
    try:
        if not lock(descriptor, patience.total_seconds(), POLL_S):
            raise NotCarried(f"{home} has been in use by another process for {patience}")
        yield Hold(fd=descriptor)
    finally:
        os.close(descriptor)


def _make_repository(path: Path, commit_ref: CommitRef, lender: Path | None) -> None:
    """Make a repository without hooks that borrows the objects of another one, unless it exists already."""
    form = "sha256" if len(commit_ref.commit) == 64 else "sha1"
    path.mkdir(exist_ok=True)
    git("init", "--quiet", "--template=", "--initial-branch=main", f"--object-format={form}", cwd=path)
    borrowed, shallow = path / ".git" / "objects" / "info" / "alternates", path / ".git" / "shallow"
    borrowed.parent.mkdir(exist_ok=True)
    known = borrowed.read_bytes().splitlines() if borrowed.exists() else []
    if lender is not None and (objects := os.fsencode(lender / "objects")) not in known:
        with borrowed.open("ab") as lines:  # folders of other commits need the earlier lines
            lines.write(objects + b"\n")
    if lender is not None and (lender / "shallow").exists():
        shutil.copyfile(lender / "shallow", shallow)
    else:
        shallow.unlink(missing_ok=True)


def _remove_stale_locks(git_dir: Path) -> None:
    """Remove lock files of killed gits: the holder of the folder's lock is alone."""
    for folder, folders, files in os.walk(git_dir):
        if "objects" in folders:
            folders.remove("objects")
        for name in files:
            if name.endswith(".lock"):
                Path(folder, name).unlink(missing_ok=True)


def _refuse_other_heads(commit_ref: CommitRef, commit: str, listed: str) -> None:
    """Refuse a bundle that is not one commit on a reference of ours."""
    heads = [line.partition(" ") for line in listed.splitlines()]
    if [head for head, _, _ in heads] != [commit] or not _is_ours(heads[0][2]):
        raise NotCarried(
            f"{commit_ref.repo}: the bundle of {commit[:12]} holds something else: "
            f"{sentence(listed) or 'nothing'}"
        )


def _is_ours(ref: str) -> bool:
    """Return whether a ref of a bundle may be a branch of a run or a change set, or another ref of ours."""
    own = ref.startswith(HEADS) and is_named(ref.removeprefix(HEADS))
    return own or _KEPT.fullmatch(ref) is not None


def _point(commit_ref: CommitRef, commit: str, into: Path, hold: Hold | None) -> None:
    """Put the commit on a ref: a bundle needs its base on one, and git prunes objects that are on none."""
    git("update-ref", commit_ref.incoming, commit, cwd=into, hold=hold)


def _fetch(
    commit_ref: CommitRef,
    commit: str,
    remote: Remote,
    into: Path,
    hold: Hold | None,
    variables: Mapping[str, str],
) -> None:
    repo = commit_ref.repo
    if not commit_ref.may_come_from(remote, commit):
        raise NotCarried(
            f"{repo}: {commit[:12]} is recorded on {sentence(remote.branch)!r} of "
            f"{sentence(hidden(remote.url))!r}, "
            f"which is not what run {commit_ref.run_id} knows of {repo}",
        )
    try:
        fetch_branch(remote, into, hold, variables)
    except GitInterrupted:
        raise
    except GitRefused as refused:
        message = refused.message.replace(remote.url, hidden(remote.url))
        raise NotCarried(f"{repo}: {commit[:12]} is at {hidden(remote.url)}, but: {message}") from refused
    if not has_commit(into, commit):
        raise NotCarried(f"{repo}: {commit[:12]} is not on {remote.branch} of {hidden(remote.url)} any more")
