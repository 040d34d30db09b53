"""The part of a repository that its own code, run by our git, may not change: configuration and refs.

The worktrees of a repository share them with the checkout of the user. A key of KEPT that has changed while
our command ran is put back, by compare-and-swap under git's own lock. Refs are named and left: a person may
be working there. A branch that moved together with the HEAD of a worktree that has it checked out, or by a
landing of coord, is such work and no fault. New branches and tags are none either.

Without a change, this costs two reads of a small file, and with `refs` two processes of git.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from coordination.branches import OwnBranches
from coordination.errors import GitRefused
from coordination.text import listed
from workers.workspace.git import ask, git

USABLE = re.compile(r"core\.(bare|worktree)")
"""Keys that say which files the repository has. A todo may set others, a name for its own commits say."""
KEPT = re.compile(rf"{USABLE.pattern}|user\..*")
"""Keys with which a changed value makes the checkout unusable, or its commits those of somebody else."""
REFS = ("refs/heads", "refs/tags")
LANDED = "\tcoord: landed"
"""End of the line in a branch's log with which coord has landed there."""

TRIES = 3

Values = Mapping[str, tuple[str, ...]]


class SharedStateChanged(GitRefused):
    """Code of the repository has changed refs or configuration that it shares with the user's checkout."""


@dataclass(frozen=True, kw_only=True)
class SharedState:
    """Configuration and refs of a repository at one moment."""

    common_dir: Path
    config: bytes
    refs: Mapping[str, str] | None
    """Commit by ref; None if they are not compared."""
    moved: str = ""
    """The ref that our command moves."""

    @classmethod
    def read(cls, common_dir: Path, *, refs: bool, moved: str = "") -> SharedState:
        """Read the state. Raises OSError, GitInterrupted."""
        return cls(
            common_dir=common_dir,
            config=(common_dir / "config").read_bytes(),
            refs=_refs(common_dir) if refs else None,
            moved=moved,
        )

    def refuse_changes(self, author: str, hint: str, keys: re.Pattern[str] = KEPT) -> None:
        """Put changed keys back. Raises SharedStateChanged if anything has changed since this was read.
        `author`: the code that ran since, for people.
        """
        if found := self.put_back(author, keys):
            raise SharedStateChanged(found, hint)

    def put_back(self, author: str, keys: re.Pattern[str] = KEPT) -> str:
        """Put changed keys back; return a sentence on all that has changed, empty if nothing has."""
        found = [*self._changed_keys(keys), *self._changed_refs()]
        return f"while {author} ran, there changed: {'; '.join(found)}" if found else ""

    def _changed_keys(self, keys: re.Pattern[str]) -> Iterator[str]:
        file = self.common_dir / "config"
        now = file.read_bytes()
        if now == self.config:
            return
        before, after = _kept(self.common_dir, self.config), _kept(self.common_dir, now)
        for key in sorted(before.keys() | after.keys()):
            old, new = before.get(key, ()), after.get(key, ())
            if old != new and keys.fullmatch(key):
                done = "put back" if _put_back(file, key, old, new) else "left as it is"
                yield f"{key} of {file} from {_shown(old)} to {_shown(new)} ({done})"

    def _changed_refs(self) -> Iterator[str]:
        if self.refs is None:
            return
        now = _refs(self.common_dir)
        for ref, old in self.refs.items():
            new = now.get(ref, "")
            if new != old and ref != self.moved and not self._is_somebodys_work(ref, new):
                yield f"{ref} from {old[:12]} to {new[:12] or 'nothing'} (left as it is)"

    def _is_somebodys_work(self, ref: str, new: str) -> bool:
        if not new:
            return False
        logs = [self.common_dir / "logs" / ref]
        if LANDED in _last_line(logs[0]):
            return True
        for head in (self.common_dir / "HEAD", *self.common_dir.glob("worktrees/*/HEAD")):
            if _text(head).strip() == f"ref: {ref}" and f" {new} " in _last_line(
                head.parent / "logs" / "HEAD"
            ):
                return True
        return False


def _refs(common_dir: Path) -> Mapping[str, str]:
    listing = git(
        "for-each-ref",
        "--format=%(refname) %(objectname)",
        *REFS,
        cwd=common_dir,
        variables={"GIT_DIR": str(common_dir)},
    )
    pairs, ours = (line.split(" ") for line in listing.splitlines()), OwnBranches.of(common_dir)
    return {ref: commit for ref, commit in pairs if not ours.have(ref)}


def _kept(folder: Path, config: bytes) -> Values:
    text = config.decode(errors="surrogateescape")
    listing = ask("config", "--file=-", "-z", "--list", cwd=folder, stdin=text or "\n").stdout
    found: dict[str, tuple[str, ...]] = {}
    for entry in filter(None, listing.split("\0")):
        key, _, value = entry.partition("\n")
        if KEPT.fullmatch(key):
            found[key] = (*found.get(key, ()), value)
    return found


def _put_back(file: Path, key: str, old: tuple[str, ...], new: tuple[str, ...]) -> bool:
    """Set a key back from `new` to `old`; return False if it has other values by now, or git is writing."""
    for _ in range(TRIES):
        seen = file.read_bytes()
        if _kept(file.parent, seen).get(key, ()) != new:
            return False
        try:
            if _swap(file, seen, _edited(file.parent, seen, key, old, new)):
                return True
        except (GitRefused, OSError):
            return False
    return False


def _edited(folder: Path, config: bytes, key: str, old: tuple[str, ...], new: tuple[str, ...]) -> bytes:
    with tempfile.TemporaryDirectory(prefix="coord-config-") as private:
        draft = Path(private, "config")
        draft.write_bytes(config)
        edit = ("config", f"--file={draft}")
        if len(old) == len(new) == 1:
            git(*edit, key, *old, cwd=folder)  # where it stands
        else:
            if new:
                git(*edit, "--unset-all", key, cwd=folder)
            for value in old:
                git(*edit, "--add", key, value, cwd=folder)
        return draft.read_bytes()


def _swap(file: Path, seen: bytes, edited: bytes) -> bool:
    """Replace the file's content if it is still `seen`, under the lock that git takes. Raises OSError, also
    if git has the lock.
    """
    file = file.resolve()
    lock = file.with_name(f"{file.name}.lock")
    mode = file.stat().st_mode & 0o777
    handle = os.open(lock, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        with os.fdopen(handle, "wb") as locked:
            unchanged = file.read_bytes() == seen
            locked.write(edited)
        if unchanged:
            lock.replace(file)
            return True
    except BaseException:
        lock.unlink(missing_ok=True)
        raise
    lock.unlink()
    return False


def _shown(values: tuple[str, ...]) -> str:
    return listed([repr(value) for value in values]) if values else "nothing"


def _text(file: Path) -> str:
    with suppress(OSError):
        return file.read_text(errors="replace")
    return ""


def _last_line(log: Path) -> str:
    lines = _text(log).splitlines()
    return lines[-1] if lines else ""
