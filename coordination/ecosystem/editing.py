"""Atomic edits of the file by one writer at a time: an edit is applied exactly as meant, or not at all.

Under the file's lock an edit reads the file, decides what to change, makes the new text, parses it, compares
its values with the intended ones, and replaces the file as a whole. A text editor that does not know the lock
may save in between; so the bytes are compared once more right before the replacement, and the edit starts
again if they differ.

The lock is the kernel's (`flock`) on a small file beside the edited one, so it is released when its holder
dies. Lock files are never removed, because two writers could then hold locks on two files of one name. They
are in `.coord/`, which git ignores. `flock` has no timeout, so a waiting process polls, and a writer that
locks again at once would nearly always be faster. So there is a second lock: one process waits for the lock
itself, and all others, including a returning writer, wait for the second.
"""

from __future__ import annotations

import contextlib
import logging
import os
import stat
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

from coordination.ecosystem import piecewise
from coordination.ecosystem.changes import Changes, Edit, RecordPath, revise
from coordination.ecosystem.document import read_bytes, snapshot, store_cached
from coordination.ecosystem.journal import Journal
from coordination.ecosystem.parsing import Document, Snapshot, parse
from coordination.ecosystem.record_events import events_of
from coordination.ecosystem.yaml_text.tree import gc_paused
from coordination.environment import actor
from coordination.errors import CoordinationError, EditConflict
from coordination.files import (
    lock,
    open_lock,
    open_private,
    remove_unfinished,
    replacing,
    sync_folder,
    unlock,
)

__all__ = ["Edit", "RecordPath", "edit", "revised"]

WAIT = timedelta(seconds=30)
"""Limit of the wait for the lock: an edit of a file with 10,000 todos takes up to 4 s, and many may wait."""
ATTEMPTS = 5
"""Attempts of an edit while a text editor keeps saving the file."""
_POLL_S = 0.01
_POLL_OF_FIRST_S = 0.001
"""Polling interval of the one process that waits for the lock itself."""

Events = Sequence[Mapping[str, Any]]

logger = logging.getLogger(__name__)


@contextmanager
def exclusive(path: Path, wait: timedelta = WAIT) -> Iterator[None]:
    """Hold the lock of the file at `path`. Raises EditConflict if others hold it for longer than `wait`."""
    deadline = time.monotonic() + wait.total_seconds()
    with _lock_file(path, "turn") as second, _lock_file(path, "lock") as first:
        _lock(second, path, deadline, _POLL_S)
        _lock(first, path, deadline, _POLL_OF_FIRST_S)
        unlock(second)
        yield


@contextmanager
def _lock_file(path: Path, kind: str) -> Iterator[int]:
    """Open the lock file of that kind beside the file, and close it at the end."""
    folder = path.parent / ".coord"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        ignore = folder / ".gitignore"
        if not ignore.exists():
            with open_private(ignore) as file:
                file.write("*\n")
        descriptor = open_lock(folder / f"{path.name}.{kind}")
    except OSError as error:
        raise CoordinationError(
            f"{path} cannot be edited: {folder}: {error.strerror}", "make its folder writable and try again"
        ) from error
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _lock(descriptor: int, path: Path, deadline: float, poll_s: float) -> None:
    if not lock(descriptor, max(0.0, deadline - time.monotonic()), poll_s):
        raise EditConflict(f"another process is editing {path}", "try again when it has finished")


def save(path: Path, new: bytes, meanwhile: Callable[[], object] | None = None) -> None:
    """Replace the file's bytes; keep its mode and owner, and follow a symlink.

    The bytes are on disk before the name points to them; `meanwhile` is called while they are written. On
    failure the old file is unchanged, and CoordinationError states the cause.
    """
    target = path.resolve()
    try:
        before = target.stat()
        if not before.st_mode & (stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH) or not os.access(
            target, os.W_OK
        ):
            raise PermissionError(13, "the file is read-only")  # the rename alone would succeed
        with replacing(target, durable=True, meanwhile=meanwhile) as file:
            file.write(new)
            with contextlib.suppress(PermissionError):  # only root may change the owner
                os.fchown(file.fileno(), before.st_uid, before.st_gid)
            os.fchmod(file.fileno(), stat.S_IMODE(before.st_mode))
        with contextlib.suppress(OSError):  # the file is complete; not every file system can sync a folder
            sync_folder(target.parent)
    except OSError as error:
        raise CoordinationError(
            f"{path} was not changed: {error.strerror or error}",
            "make room or give the right to write, then try again",
        ) from error


def edit(
    path: Path,
    decide: Callable[[Edit], None],
    *,
    cause: str = "",
    check: Callable[[Iterable[Mapping[str, Any]]], object] | None = None,
) -> Document:
    """Apply the changes that `decide` collects and return the new document; without changes, write nothing.
    `cause`: the run whose results are written, for the history. `check` is called with the events of the
    changes before they are written, and refuses them by an exception.

    `decide` may be called several times, each time with the current file. Raises what `decide` raises,
    EditConflict, InvalidFile (the file was invalid before), or CoordinationError (it cannot be written); the
    file is then unchanged.
    """
    with exclusive(path.resolve()), gc_paused():
        for _ in range(ATTEMPTS):
            before = snapshot(read_bytes(path), path)
            proposal = Edit(before.document)
            decide(proposal)
            if not proposal.changes:
                return before.document
            after = _revised(before, proposal.changes)
            events = events_of(before.document.ecosystem, after.document.ecosystem, proposal.changes)
            for event in events:
                if remarks := proposal.remarks.get(event["subject"]):
                    event["data"] = remarks
            if check is not None:
                check(events)
            if read_bytes(path) == before.document.text:
                _write(path, before.document, after.document, events, cause)
                store_cached(after)
                return after.document
    raise EditConflict(
        f"{path} was changed {ATTEMPTS} times during the edit", "save it in the editor and try again"
    )


def _write(path: Path, before: Document, after: Document, events: Events, cause: str) -> None:
    remove_unfinished(path.resolve())  # other writers of coord need the lock, so none is active
    with ExitStack() as saved:
        record = partial(_record, saved, before, after, events, cause)
        save(path, after.text, meanwhile=record)


def _record(saved: ExitStack, before: Document, after: Document, events: Events, cause: str) -> None:
    """Write the edit into the journal and to disk; when `saved` closes, record that it was made.

    The edit is made even if the journal cannot be written.
    """
    journal = Journal(after.path.resolve())
    try:
        recording = journal.recording(before, after, events, actor(), datetime.now(UTC), cause=cause)
        saved.enter_context(recording)
        journal.sync()
    except OSError as error:
        logger.warning(
            "the history may lack the edit of %s: %s: %s; make it a regular file that you may write",
            journal.file,
            journal.path,
            error.strerror,
        )


def revised(document: Document, changes: Changes) -> Document:
    """Return the document with the changes; write nothing. Raises as `edit` does."""
    with gc_paused():
        return _revised(snapshot(document.text, document.path), changes).document


def _revised(before: Snapshot, changes: Changes) -> Snapshot:
    document = before.document
    return piecewise.revise(before, changes) or revise(parse(document.text, document.path), changes)
