"""A commit of the run, made on this host or another, stands in a folder, or is brought into a checkout's objects.

    <state>/carried/<run>/<repo>/depot/       all that has arrived of the repository, and what a clone here lends
    <state>/carried/<run>/<repo>/<commit>/    a plain checkout of exactly that commit, made once
    <state>/carried/<run>/<repo>/lock         held by who makes one of them, and by every git that does it

A folder is made under another name and renamed when it is whole; who holds the lock is alone, so what stands under
that other name is left of somebody who was killed, and goes. It all goes with the run: `carried` says where it stands.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from coordination.errors import GitRefused
from coordination.files import lock, make_private, open_lock
from coordination.runs.cleanup_jobs import RUN_ID
from coordination.runs.records import Origin
from workers.transfer.bundles import BundleInfo, BundleStore, NotCarried, Remote, hidden, sentence
from workers.workspace.files import scratch
from workers.workspace.git import PATIENCE, Hold, ask, git
from workers.workspace.lock import POLL_S, describe_os_error
from workers.workspace.repository import branch_of, has_commit, is_commit, is_partial, look
from workers.workspace.trouble import GitInterrupted

ADDRESSES = (
    "protocol.allow=never",
    *(f"protocol.{name}.allow=always" for name in ("file", "git", "http", "https", "ssh")),
)
"""Of what is fetched from or pushed to. `ext::` and other remote helpers run a command; a user who needs one allows it by name
in git's configuration, or by GIT_ALLOW_PROTOCOL.
"""
LONGEST_CHAIN = 10_000
"""Bundles that build on each other: more than todos that one run has in one repository."""
_BUNDLED = re.compile(rf"refs/heads/{branch_of('')}{RUN_ID.pattern}")


@dataclass(frozen=True, kw_only=True)
class CommitRef:
    """A commit that a run has made somewhere, or began with."""

    run: str
    repo: str
    branch: str
    """What it is to be on in a folder of its own."""
    commit: str
    origin: Origin | None = None
    """Where it may be fetched from: of what Redis holds beside a bundle, anybody who serves the repository may have written it."""
    runs: tuple[str, ...] = ()
    """Those that this run takes up: it may stand on the branch of one of them."""

    @property
    def incoming(self) -> str:
        """The ref that keeps together what arrives. No branch moves: that is left to who has the fence."""
        return f"refs/coord/incoming/{self.run}"

    def may_come_from(self, there: Remote, commit: str) -> bool:
        """Whether the address is that of the run's own record, and the branch one on which the run can have left the commit."""
        if self.origin is None or there.url != self.origin.url:
            return False
        names = {self.branch, *map(branch_of, (self.run, *self.runs))}
        return there.branch in {self.origin.branch, *names, *(f"{name}-{commit[:12]}" for name in names)}


def carried(state: Path, run: str) -> Path:
    """Where the commits stand that todos of a run read; removed with the run."""
    return state.absolute() / "carried" / run


class CommitFetcher:
    def __init__(
        self, bundles: BundleStore, state: Path, places: Mapping[str, Path], patience: timedelta = PATIENCE
    ) -> None:
        self._bundles = bundles
        self._state = state
        self._places = places
        self._patience = patience

    def folder(self, sought: CommitRef) -> Path:
        """A plain checkout of the commit; raises a CoordinationError that says why there can be none."""
        _check(sought)
        home = carried(self._state, sought.run) / sought.repo
        folder = home / sought.commit
        if not folder.is_dir():
            with describe_os_error(home), _alone_in(home, self._patience) as hold:
                if not folder.is_dir():
                    self._make(sought, home, folder, hold)
        return folder

    def fetch(self, sought: CommitRef, into: Path, hold: Hold | None = None) -> None:
        """Bring the commit into a repository's objects; no branch of it changes. Raises as `folder`."""
        _check(sought)
        if common_dir := _common_dir(into):  # nobody but who holds the worktree writes this ref: its git was killed
            (common_dir / f"{sought.incoming}.lock").unlink(missing_ok=True)
        try:
            self._bring(sought, into, hold)
        finally:
            with suppress(GitRefused):
                ask("update-ref", "-d", sought.incoming, cwd=into, hold=hold)

    def _bring(self, sought: CommitRef, into: Path, hold: Hold | None) -> None:
        bundles: dict[str, None] = {}
        at: str | None = sought.commit
        while at is not None and not has_commit(into, at):
            label = self._bundles.label(sought.run, sought.repo, at)
            if label.bundled and at not in bundles and len(bundles) < LONGEST_CHAIN:
                bundles[at] = None
                at = self._since(sought, label)
            elif label.remote is not None:
                _fetch(sought, at, label.remote, into, hold)
            else:
                raise NotCarried(label.why or _unsent(sought.repo, at))
        if at is not None:
            _point(sought, at, into, hold)
        for commit in reversed(bundles):
            self._unbundle(sought, commit, into, hold)

    def _since(self, sought: CommitRef, label: BundleInfo) -> str | None:
        if label.since is not None and not is_commit(label.since):
            raise NotCarried(f"{sought.repo}: a bundle adds to {sentence(label.since)!r}, which is no commit")
        return label.since

    def _make(self, sought: CommitRef, home: Path, folder: Path, hold: Hold) -> None:
        depot, new = home / "depot", home / "new"
        _remove_stale_locks(depot / ".git")
        _furnish(depot, sought, self._lender(sought))
        self.fetch(sought, depot, hold)
        if new.exists():
            shutil.rmtree(new)
        _furnish(new, sought, depot / ".git")
        git("update-ref", f"refs/heads/{sought.branch}", sought.commit, cwd=new)
        git("checkout", "--quiet", "--force", "--detach", sought.commit, cwd=new, hold=hold)
        new.rename(folder)

    def _lender(self, sought: CommitRef) -> Path | None:
        """The git directory of the clone here in which the run made the commit; else of the checkout here, if it has all it speaks of."""
        worktree = self._state / "worktrees" / sought.run / sought.repo
        common_dir = _common_dir(worktree)
        if common_dir is not None and has_commit(worktree, sought.commit):
            return common_dir
        place = self._places.get(sought.repo)
        common_dir = None if place is None else _common_dir(place)
        return None if place is None or common_dir is None or is_partial(place) else common_dir

    def _unbundle(self, sought: CommitRef, commit: str, into: Path, hold: Hold | None) -> None:
        with scratch(self._state) as folder:
            file = folder / "bundle"
            file.write_bytes(self._bundles.bundle(sought.run, sought.repo, commit))
            try:
                _refuse_other_heads(sought, commit, git("bundle", "list-heads", str(file), cwd=into))
                git("bundle", "unbundle", str(file), cwd=into, hold=hold)
                _point(sought, commit, into, hold)
            except GitInterrupted:
                raise
            except GitRefused as refused:
                words = f"{sought.repo}: the bundle of {commit[:12]} is of no use: {refused.message}"
                raise NotCarried(words) from refused


def _common_dir(place: Path) -> Path | None:
    """None where there is no repository that git accepts."""
    try:
        return look(place)[1] if place.is_dir() else None
    except GitInterrupted:
        raise
    except GitRefused:
        return None


def _unsent(repo: str, commit: str) -> str:
    return f"{repo}: {commit[:12]} is not here, and no host has sent it (a worker whose Redis is a unix:// socket sends nothing)"


def _check(sought: CommitRef) -> None:
    for name in (sought.run, sought.repo):
        if name in ("", ".", "..") or "/" in name:
            raise NotCarried(f"{name!r} cannot be the name of a folder", "name the repository otherwise")
    if not is_commit(sought.commit):
        raise NotCarried(f"{sought.repo}: {sought.commit!r} is no commit")


@contextmanager
def _alone_in(home: Path, patience: timedelta) -> Iterator[Hold]:
    make_private(home)
    descriptor = open_lock(home / "lock")
    try:
        if not lock(descriptor, patience.total_seconds(), POLL_S):
            raise NotCarried(f"{home} has been in use by another process for {patience}")
        yield Hold(fd=descriptor)
    finally:
        os.close(descriptor)


def _furnish(path: Path, sought: CommitRef, lender: Path | None) -> None:
    """A repository without hooks that finds in another one what it has not itself; harmless where it stands already."""
    form = "sha256" if len(sought.commit) == 64 else "sha1"
    path.mkdir(exist_ok=True)
    git("init", "--quiet", "--template=", "--initial-branch=main", f"--object-format={form}", cwd=path)
    borrowed, shallow = path / ".git" / "objects" / "info" / "alternates", path / ".git" / "shallow"
    borrowed.parent.mkdir(exist_ok=True)
    known = borrowed.read_bytes().splitlines() if borrowed.exists() else []
    if lender is not None and (objects := os.fsencode(lender / "objects")) not in known:
        with borrowed.open("ab") as lines:  # folders of other commits need those that stand there
            lines.write(objects + b"\n")
    if lender is not None and (lender / "shallow").exists():
        shutil.copyfile(lender / "shallow", shallow)
    else:
        shallow.unlink(missing_ok=True)


def _remove_stale_locks(git_dir: Path) -> None:
    """Nobody but who holds the lock of its folder works in it: the git that left them was killed."""
    for folder, below, files in os.walk(git_dir):
        if "objects" in below:
            below.remove("objects")
        for name in files:
            if name.endswith(".lock"):
                Path(folder, name).unlink(missing_ok=True)


def _refuse_other_heads(sought: CommitRef, commit: str, listed: str) -> None:
    """A bundle of ours holds one commit, on the branch of a run."""
    heads = [line.partition(" ") for line in listed.splitlines()]
    if [head for head, _, _ in heads] != [commit] or not _BUNDLED.fullmatch(heads[0][2]):
        raise NotCarried(
            f"{sought.repo}: the bundle of {commit[:12]} holds something else: {sentence(listed) or 'nothing'}"
        )


def _point(sought: CommitRef, commit: str, into: Path, hold: Hold | None) -> None:
    """A bundle fits only where what it adds to is on a ref, and git clears away what is on none."""
    git("update-ref", sought.incoming, commit, cwd=into, hold=hold)


def _fetch(sought: CommitRef, commit: str, there: Remote, into: Path, hold: Hold | None) -> None:
    repo = sought.repo
    if not sought.may_come_from(there, commit):
        raise NotCarried(
            f"{repo}: {commit[:12]} is said to be on {sentence(there.branch)!r} of {sentence(hidden(there.url))!r}, "
            f"which is not what run {sought.run} knows of {repo}",
        )
    try:
        fetch_branch(there, into, hold)
    except GitInterrupted:
        raise
    except GitRefused as refused:
        words = refused.message.replace(there.url, hidden(there.url))
        raise NotCarried(f"{repo}: {commit[:12]} is at {hidden(there.url)}, but: {words}") from refused
    if not has_commit(into, commit):
        raise NotCarried(f"{repo}: {commit[:12]} is not on {there.branch} of {hidden(there.url)} any more")


def fetch_branch(there: Remote, into: Path, hold: Hold | None = None) -> None:
    """Its commits become objects here, and no branch moves. Raises GitRefused."""
    options = ("--quiet", "--no-tags", "--no-write-fetch-head", "--no-auto-maintenance", "--recurse-submodules=no")
    ref = f"refs/heads/{there.branch}"
    if ask("check-ref-format", ref, cwd=into).returncode:
        raise GitRefused(f"{sentence(there.branch)!r} cannot be a branch's name")
    git("fetch", *options, "--", there.url, ref, cwd=into, settings=ADDRESSES, hold=hold)
