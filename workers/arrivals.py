"""A commit of another host is brought to this one: to stand in a folder, or into a checkout's objects.

    <state>/carried/<run>/<repo>/depot/       all that has arrived of the repository, and what the checkout here lends
    <state>/carried/<run>/<repo>/<commit>/    a plain checkout of exactly that commit, made once
    <state>/carried/<run>/<repo>/lock         held by who makes one of them, and by every git that does it

A folder is made under another name and renamed when it is whole; who holds the lock is alone, so what stands under
that other name is left of somebody who was killed, and goes. It all goes with the run: `carried` says where it stands.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from coordination.errors import GitRefused
from coordination.wire.private import make_private
from workers.git import PATIENCE, git
from workers.occupancy import POLL_S, words_for
from workers.parcels import NotCarried, Parcels, Remote, hidden
from workers.repository import has_commit, is_partial, look
from workers.scratch import scratch
from workers.trouble import GitInterrupted

_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


@dataclass(frozen=True, kw_only=True)
class Sought:
    """A commit that a run has made somewhere, or began with."""

    run: str
    repo: str
    branch: str
    """What it is to be on where it is brought to."""
    commit: str


def carried(state: Path, run: str) -> Path:
    """Where all that was carried here for a run stands; removed with the run."""
    return state.absolute() / "carried" / run


class Arrivals:
    def __init__(
        self, parcels: Parcels, state: Path, places: Mapping[str, Path], patience: timedelta = PATIENCE
    ) -> None:
        self._parcels = parcels
        self._state = state
        self._places = places
        self._patience = patience

    def folder(self, sought: Sought) -> Path:
        """A plain checkout of the commit; raises a CoordinationError that says why there can be none."""
        _check(sought)
        home = carried(self._state, sought.run) / sought.repo
        folder = home / sought.commit
        if not folder.is_dir():
            with words_for(home), _alone_in(home, self._patience) as hold:
                if not folder.is_dir():
                    self._make(sought, home, folder, hold)
        return folder

    def fetch(self, sought: Sought, into: Path, hold: int | None = None) -> None:
        """Bring the commit into a repository, on its branch there; nothing else in it changes. Raises as `folder`."""
        bundles: list[str] = []
        at: str | None = sought.commit
        while at is not None and not has_commit(into, at):
            label = self._parcels.label(sought.run, sought.repo, at)
            if label.bundled and at not in bundles:
                bundles.append(at)
                at = label.since
            elif label.remote is not None:
                _fetch(sought.repo, at, label.remote, into, hold)
            else:
                raise NotCarried(label.why or _unsent(sought.repo, at))
        if at is not None:
            _point(sought, at, into)
        for commit in reversed(bundles):
            self._unbundle(sought, commit, into, hold)

    def _make(self, sought: Sought, home: Path, folder: Path, hold: int) -> None:
        depot, new = home / "depot", home / "new"
        _furnish(depot, sought, self._lender(sought.repo))
        self.fetch(sought, depot, hold)
        if new.exists():
            shutil.rmtree(new)
        _furnish(new, sought, depot / ".git")
        _point(sought, sought.commit, new)
        git("checkout", "--quiet", "--force", "--detach", sought.commit, cwd=new, hold=hold)
        new.rename(folder)

    def _lender(self, repo: str) -> Path | None:
        """The git directory of the checkout here, if there is one that has all it speaks of."""
        place = self._places.get(repo)
        if place is None or not place.is_dir():
            return None
        try:
            _, common_dir = look(place)
        except GitRefused:
            return None
        return None if common_dir is None or is_partial(place) else common_dir

    def _unbundle(self, sought: Sought, commit: str, into: Path, hold: int | None) -> None:
        with scratch(self._state) as folder:
            file = folder / "bundle"
            file.write_bytes(self._parcels.bundle(sought.run, sought.repo, commit))
            try:
                git("bundle", "unbundle", str(file), cwd=into, hold=hold)
                _point(sought, commit, into)
            except GitInterrupted:
                raise
            except GitRefused as refused:
                words = f"{sought.repo}: the bundle of {commit[:12]} is of no use: {refused.message}"
                raise NotCarried(words) from refused


def _unsent(repo: str, commit: str) -> str:
    return f"{repo}: {commit[:12]} is not here, and no host has sent it (a worker whose Redis is a unix:// socket sends nothing)"


def _check(sought: Sought) -> None:
    for name in (sought.run, sought.repo):
        if name in ("", ".", "..") or "/" in name:
            raise NotCarried(f"{name!r} cannot be the name of a folder", "name the repository otherwise")
    if not _COMMIT.fullmatch(sought.commit):
        raise NotCarried(f"{sought.repo}: {sought.commit!r} is no commit")


@contextmanager
def _alone_in(home: Path, patience: timedelta) -> Iterator[int]:
    make_private(home)
    lock = os.open(home / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        _wait_for(lock, home, patience)
        yield lock
    finally:
        os.close(lock)


def _wait_for(lock: int, home: Path, patience: timedelta) -> None:
    deadline = time.monotonic() + patience.total_seconds()
    while True:
        try:
            return fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise NotCarried(f"{home} has been in use by another process for {patience}") from None
            time.sleep(POLL_S)


def _furnish(path: Path, sought: Sought, lender: Path | None) -> None:
    """A repository without hooks that finds in another one what it has not itself; harmless where it stands already."""
    form = "sha256" if len(sought.commit) == 64 else "sha1"
    path.mkdir(exist_ok=True)
    git("init", "--quiet", "--template=", "--initial-branch=main", f"--object-format={form}", cwd=path)
    borrowed, shallow = path / ".git" / "objects" / "info" / "alternates", path / ".git" / "shallow"
    borrowed.parent.mkdir(exist_ok=True)
    borrowed.write_bytes(b"" if lender is None else os.fsencode(lender / "objects") + b"\n")
    if lender is not None and (lender / "shallow").exists():
        shutil.copyfile(lender / "shallow", shallow)
    else:
        shallow.unlink(missing_ok=True)


def _point(sought: Sought, commit: str, into: Path) -> None:
    """A bundle fits only where what it adds to is on a branch, and git clears away what is on none."""
    git("update-ref", f"refs/heads/{sought.branch}", commit, cwd=into)


def _fetch(repo: str, commit: str, there: Remote, into: Path, hold: int | None) -> None:
    try:
        fetch_branch(there, into, hold)
    except GitInterrupted:
        raise
    except GitRefused as refused:
        words = refused.message.replace(there.url, hidden(there.url))
        raise NotCarried(f"{repo}: {commit[:12]} is at {hidden(there.url)}, but: {words}") from refused
    if not has_commit(into, commit):
        raise NotCarried(f"{repo}: {commit[:12]} is not on {there.branch} of {hidden(there.url)} any more")


def fetch_branch(there: Remote, into: Path, hold: int | None = None) -> None:
    """Its commits become objects here, and no branch moves. Raises GitRefused."""
    options = ("--quiet", "--no-tags", "--no-write-fetch-head", "--no-auto-maintenance", "--recurse-submodules=no")
    git("fetch", *options, "--", there.url, f"refs/heads/{there.branch}", cwd=into, hold=hold)
