"""The folder of a todo that ran in a sandbox, made harmless for the worker's git, which works there next.

git opens each `.gitignore` and each `HEAD` that it meets, and would wait for ever for a pipe of that name. It
looks into the repositories in a folder, and follows their `.git` to wherever it leads. So before git works:

* pipes, sockets and devices are removed: they have no content, and the processes that used them are gone;
* so is a `.gitignore`, or another file of that kind, that is larger than any honest one: git reads the whole
  of it into memory, and a file may say any size without taking space;
* the `.git` of each nested repository is moved to a folder that no todo can write, and back afterwards.

The walk follows no link and opens no file. Call it when no process of the todo is alive.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from coordination.errors import GitRefused
from coordination.files import make_private, open_private
from workers.workspace.drivers import is_obeyed
from workers.workspace.files import open_below, read_regular, remove_tree

MOST_ENTRIES = 2_000_000
WITHIN = timedelta(seconds=60)
"""Limits of a walk: 100,000 files take 0.2 s."""
LONGEST_LIST = 64 * 1024 * 1024
PLACES = "places.json"
READ_WHOLE = frozenset({".gitignore", ".gitattributes", ".gitmodules", ".lfsconfig"})
LARGEST = 1024 * 1024
"""Bytes of a file that git reads into memory before it knows what is in it."""


@dataclass(frozen=True, kw_only=True)
class Survey:
    """Entries of a folder that are no content of its repository, as paths relative to it."""

    special: Sequence[str] = ()
    """Pipes, sockets and devices, and files of `READ_WHOLE` that are too large."""
    nested: Sequence[str] = ()
    """`.git` entries below the folder's own."""
    attributes: Sequence[str] = ()
    """Files that git and Git LFS obey: `.gitattributes`, and `.lfsconfig` of the folder itself."""
    unreadable: Sequence[str] = ()
    """Folders that cannot be listed."""


def survey(folder: Path, names: frozenset[str] = frozenset({".git"})) -> Survey:
    """Walk through a folder. `names`: those of repositories, in lower case. Raises GitRefused beyond the
    limits.
    """
    nested: list[str] = []
    others: list[tuple[str, os.DirEntry[str]]] = []
    unreadable: list[str] = []
    count, until = 0, time.monotonic() + WITHIN.total_seconds()
    waiting = [""]
    while waiting:
        inner = waiting.pop()
        try:
            with os.scandir(f"{folder}/{inner}") as entries:
                for entry in entries:
                    count += 1
                    name = entry.name.lower()
                    if name in names:
                        if inner or entry.name != ".git":
                            nested.append(inner + entry.name)
                    elif entry.is_dir(follow_symlinks=False):
                        waiting.append(f"{inner}{entry.name}/")
                    elif name in READ_WHOLE or not entry.is_file(follow_symlinks=False):
                        others.append((inner + entry.name, entry))
        except OSError:
            unreadable.append(inner)
        if count > MOST_ENTRIES or time.monotonic() > until:
            raise GitRefused(
                f"the todo left more files than coord reads: {count:,} in {folder}",
                f"let it leave at most {MOST_ENTRIES:,}, or write elsewhere ($TMPDIR)",
            )
    return Survey(
        special=[place for place, entry in others if _is_special(entry)],
        nested=nested,
        attributes=[place for place, _ in others if is_obeyed(place)],
        unreadable=unreadable,
    )


def _is_special(entry: os.DirEntry[str]) -> bool:
    if not entry.is_file(follow_symlinks=False):
        return not entry.is_symlink()
    try:
        return entry.stat(follow_symlinks=False).st_size > LARGEST
    except FileNotFoundError:
        return False


class Tamed:
    """A folder while the worker's git works in it. `kept`: the folder for what is moved away."""

    def __init__(self, folder: Path, kept: Path) -> None:
        self._folder = folder
        self._kept = kept
        self._places: list[str] = []
        self.special: set[str] = set()
        """Entries that were removed."""
        self.unreadable: Sequence[str] = ()

    @property
    def repositories(self) -> Sequence[str]:
        """Return the folders whose `.git` was moved away."""
        return [place.rpartition("/")[0] for place in self._places]

    def begin(self) -> None:
        """Make the folder harmless; call it again after commands of the todo. Raises GitRefused, OSError."""
        if not self._places:
            self._restore_after_kill()
        found = survey(self._folder)
        self.unreadable = found.unreadable
        for name in found.special:
            self._remove(name)
            self.special.add(name)
        if found.nested:
            self._hide(found.nested)

    def end(self) -> None:
        """Put back what was moved away, where its folder is still there. Raises OSError."""
        for number, place in enumerate(self._places):
            self._put_back(number, place)
        if self._places:
            remove_tree(self._kept)
        self._places = []

    def _restore_after_kill(self) -> None:
        if not self._kept.exists():
            return
        listed = read_regular(self._kept, PLACES, LONGEST_LIST)
        with suppress(ValueError):
            self._places = json.loads(listed or b"[]")
        self.end()
        remove_tree(self._kept)

    def _hide(self, nested: Sequence[str]) -> None:
        first = len(self._places)
        self._places += nested
        make_private(self._kept)
        with open_private(self._kept / PLACES) as file:
            json.dump(self._places, file)
        for number, place in enumerate(nested, start=first):
            with self._parent_of(place) as parent:
                parent.make_writable()
                os.rename(parent.name, self._kept / str(number), src_dir_fd=parent.fd)

    def _put_back(self, number: int, place: str) -> None:
        # git may have put a link where the folder was, so no link is followed.
        with suppress(OSError), self._parent_of(place) as parent:
            parent.make_writable()
            if not parent.has_entry:
                os.rename(self._kept / str(number), parent.name, dst_dir_fd=parent.fd)

    def _remove(self, name: str) -> None:
        with suppress(FileNotFoundError), self._parent_of(name) as parent:
            parent.make_writable()
            os.unlink(parent.name, dir_fd=parent.fd)

    def _parent_of(self, place: str) -> _Parent:
        return _parent_of(self._folder, place)


@dataclass(frozen=True, kw_only=True)
class _Parent:
    """The open folder of an entry."""

    fd: int
    name: str

    @property
    def has_entry(self) -> bool:
        try:
            os.lstat(self.name, dir_fd=self.fd)
        except FileNotFoundError:
            return False
        return True

    def make_writable(self) -> None:
        mode = os.fstat(self.fd).st_mode
        if mode & 0o700 != 0o700:
            os.fchmod(self.fd, mode & 0o7777 | 0o700)

    def __enter__(self) -> _Parent:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.fd)


def _parent_of(folder: Path, place: str) -> _Parent:
    *folders, name = place.split("/")
    return _Parent(fd=open_below(folder, folders), name=name)


def rename_below(folder: Path, place: str, name: str) -> None:
    """Rename an entry below a folder, and follow no link on the way. Raises OSError."""
    with _parent_of(folder, place) as parent:
        parent.make_writable()
        os.rename(parent.name, name, src_dir_fd=parent.fd, dst_dir_fd=parent.fd)


def repositories_in(folder: Path) -> Iterator[str]:
    """Yield the entries below that are repositories of their own, or state of coord."""
    yield from survey(folder, frozenset({".git", ".coord"})).nested
