"""Journal of an ecosystem file: every edit by coord, and every other change as one entry.

The journal is a file of JSON lines in `.coord/`, written under the lock of edits. The first line names the
checkout. There are two kinds of entries. A *file* entry has the whole text; one begins each journal, and
others record that somebody else changed the file (an editor, `git pull`, another branch). An *edit* entry has
the digests of the text before and after, the part of the text that was replaced, the records that changed,
and who did it. It is on disk before the file is replaced, and a line `done` follows. After a crash in
between, the digest of the file tells whether the edit took place: the next writer adds `done` or `undone`.

So the complete entries always lead to the text of the file, exactly. Who changed what is exact, except when a
crash was followed by a foreign change before the next start of coord: then that edit is part of the foreign
change.

A journal larger than `LIMIT` bytes is renamed to `….old`, and a new one begins with the text of that moment.
Entries are numbered through all journals of a checkout. A checkout that was copied gets a new id.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from coordination.ecosystem.parsing import Document
from coordination.files import open_own
from coordination.git import ask_git

LIMIT = 4 * 2**20
"""Bytes of a journal; there are at most two of this size."""
LARGEST_TEXT = 64 * 2**20
"""Largest text in bytes that an entry may expand to; a journal may come with a foreign folder."""
_TAIL = 1 << 16
"""Bytes that are first read from the end of a journal to find its last line."""
_BLOCK = 1 << 15
"""Bytes that are compared at once to find the part of a text that an edit replaced."""

_ID = re.compile(rb"""(?:^|[\s{,])["']?id["']?[ \t]*:[ \t]*["']?([A-Za-z0-9][A-Za-z0-9._-]*)""")
"""The id of a record in the text of a file, which need not be valid."""

Event = Mapping[str, Any]
DAMAGED = (ValueError, KeyError, TypeError, RecursionError, zlib.error)
"""Errors of reading a line that coord did not write, or not whole."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One change of the file. `text` is the whole text after it, `events` are the records that coord changed;
    of a foreign change they are empty, and `commit` is the commit that was checked out.
    """

    seq: int
    at: datetime
    actor: str
    before: str | None
    after: str
    text: bytes
    events: tuple[Event, ...] = ()
    commit: str = ""
    cause: str = ""
    """The run whose results were written."""


@dataclass(frozen=True, kw_only=True)
class _End:
    """Last line of a journal: its number, the digest of the file by then, and the digest that an open edit
    leads to.
    """

    seq: int
    digest: str
    intended: str | None = None


def digest_of(text: bytes) -> str:
    return hashlib.sha256(text).hexdigest()


class Journal:
    """The journal of one file. The caller holds the lock of edits, except for `entries`. Methods raise
    OSError.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        folder = file.parent / ".coord"
        self.path = folder / f"{file.name}.journal"
        self.older = folder / f"{file.name}.journal.old"

    @contextmanager
    def recording(
        self,
        before: Document,
        after: Document,
        events: Sequence[Event],
        actor: str,
        at: datetime,
        *,
        cause: str = "",
    ) -> Iterator[None]:
        """Record the edit that is made inside; an exception leaves it open until the next `catch_up`.
        `cause`: the run for which the actor makes it.

        Before the file is replaced, `sync` must have written the record to disk.
        """
        seq = self._catch_up(before.text, before.digest, at) + 1
        line = {
            "edit": seq,
            "at": at.isoformat(),
            "actor": actor,
            "before": before.digest,
            "after": after.digest,
            "events": list(events),
            "splice": _splice(before.text, after.text),
            **({"cause": cause} if cause else {}),
        }
        self._append(line)
        yield
        with suppress(OSError):  # the digest will tell
            self._append({"done": seq, "digest": after.digest})

    def sync(self) -> None:
        """Write the journal to disk."""
        handle = open_own(self.path, os.O_WRONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

    def catch_up(self, text: bytes, at: datetime, actor: str = "") -> int:
        """Complete the journal up to the present text of the file; return the number of the last entry.

        `actor`: who wrote this text, if that was coord.
        """
        return self._catch_up(text, digest_of(text), at, actor)

    def _catch_up(self, text: bytes, digest: str, at: datetime, actor: str = "") -> int:
        end = self._end()
        if end is None:
            return self._begin(text, at, None, actor)
        if end.intended is not None:
            ending, known = ("done", end.intended) if digest == end.intended else ("undone", end.digest)
            self._append({ending: end.seq, "digest": known})
            end = _End(seq=end.seq, digest=known)
        if digest != end.digest:
            return self._append_file(text, at, end, actor)
        if self.path.stat().st_size > LIMIT:
            return self._begin(text, at, end)
        return end.seq

    def renew(self, text: bytes, at: datetime) -> None:
        """Start a new journal with the present text, because the old one is damaged."""
        self._begin(text, at, self._end())

    def _begin(self, text: bytes, at: datetime, end: _End | None, actor: str = "") -> int:
        """Start a journal with the present text, after the end of an older one."""
        checkout = self.checkout()
        if end is None and checkout is not None:  # unreadable at its end
            end = _End(seq=max((entry.seq for entry in self.entries()), default=0) + 1, digest="")
        checkout = checkout or os.urandom(8).hex()
        if self.path.exists():
            self.path.replace(self.older)
        self._append({"checkout": checkout, "path": str(self.file.resolve())})
        return self._append_file(text, at, end, actor)

    def _append_file(self, text: bytes, at: datetime, end: _End | None, actor: str) -> int:
        seq = end.seq + 1 if end else 1
        line = {
            "file": seq,
            "at": at.isoformat(),
            "actor": actor,
            "before": (end.digest if end else "") or None,
            "after": digest_of(text),
            "text": _packed(text),
            "commit": ask_git(self.file.resolve().parent, "rev-parse", "HEAD"),
        }
        self._append(line, durable=True)
        return seq

    def checkout(self) -> str | None:
        """Return the id of the checkout that the journal belongs to; None without a journal of this path."""
        try:
            with os.fdopen(open_own(self.path, os.O_RDONLY), "rb") as file:
                return self._checkout_in(file.readline(_TAIL))
        except FileNotFoundError:
            return None

    def _checkout_in(self, first: bytes) -> str | None:
        try:
            read = json.loads(first)
            return str(read["checkout"]) if read["path"] == str(self.file.resolve()) else None
        except (ValueError, KeyError, TypeError):
            return None

    def _append(self, line: Mapping[str, Any], *, durable: bool = False) -> None:
        written = json.dumps(line, ensure_ascii=False, separators=(",", ":")).encode(errors="replace") + b"\n"
        handle = open_own(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        try:
            size = os.fstat(handle).st_size
            try:
                _write_all(handle, written)
                if durable:
                    os.fsync(handle)
            except OSError:
                with suppress(OSError):
                    os.ftruncate(handle, size)
                raise
        finally:
            os.close(handle)

    def _end(self) -> _End | None:
        """Return the end of the journal, after removing a line that was cut; None if there is no journal of
        this checkout, or it is unreadable.
        """
        try:
            line = self._last_line()
            if line is None:
                return None
            read = json.loads(line)
            if "edit" in read:
                return _End(seq=int(read["edit"]), digest=str(read["before"]), intended=str(read["after"]))
            if "file" in read:
                return _End(seq=int(read["file"]), digest=str(read["after"]))
            seq = read["done"] if "done" in read else read["undone"]
            return _End(seq=int(seq), digest=str(read["digest"]))
        except (ValueError, KeyError, TypeError):
            return None

    def _last_line(self) -> bytes | None:
        try:
            with os.fdopen(open_own(self.path, os.O_RDWR), "r+b") as file:
                if self._checkout_in(file.readline(_TAIL)) is None:
                    return None
                size, block = file.seek(0, os.SEEK_END), _TAIL
                while size:
                    begin = max(0, size - block)
                    file.seek(begin)
                    tail = file.read(size - begin)
                    complete = tail.rfind(b"\n") + 1
                    start = tail.rfind(b"\n", 0, max(0, complete - 1)) + 1
                    if begin and not (complete and start):
                        block *= 4
                        continue
                    if complete < len(tail):
                        file.truncate(begin + complete)
                    return tail[start:complete] or None
                return None
        except FileNotFoundError:
            return None

    def entries(self, after: int = 0) -> Iterator[Entry]:
        """Yield the complete entries of both journals with a number above `after`, each with the text that it
        led to; before them the entries that tell the last valid text: the last edit and what follows it.

        After an unreadable line the entries up to the next whole text are left out.
        """
        checkout = self.checkout()
        before: list[Entry] = []
        for path in (self.older, self.path):
            for entry in _read(path, checkout, after):
                if entry.seq > after:
                    yield from before
                    before = []
                    yield entry
                else:
                    before = [entry] if entry.events else [*before, entry]

    def ids(self) -> set[str]:
        """Return the ids of all records that the file has had, as far back as the journals go. Too many are
        returned rather than too few: also those of undone edits, and of the checkout that this one is a copy
        of.
        """
        return {found for path in (self.older, self.path) for found in _ids_in(path)}


def _ids_in(path: Path) -> Iterator[str]:
    try:
        with os.fdopen(open_own(path, os.O_RDONLY), "rb") as file:
            for line in file:
                with suppress(*DAMAGED):
                    read = json.loads(line)
                    yield from (str(event["subject"]) for event in (read["events"] if "edit" in read else ()))
                    text = _unpacked(read["text"]) if "file" in read else b""
                    yield from (name.decode() for name in _ID.findall(text))
    except OSError:  # there is none, or it cannot be read
        return


def _read(path: Path, checkout: str | None, checked_after: int) -> Iterator[Entry]:
    """Yield the complete entries of a journal. The digests of old ones are not computed: it takes most of the
    time.
    """
    text: bytes | None = None
    intended: Entry | None = None
    try:
        with os.fdopen(open_own(path, os.O_RDONLY), "rb") as file:
            if json.loads(file.readline(_TAIL))["checkout"] != checkout:
                return
            for line in file:
                try:
                    read = json.loads(line)
                    if "file" in read:
                        text, intended = _unpacked(read["text"]), None
                        yield _entry(read, int(read["file"]), text, checked_after)
                    elif "edit" in read and text is not None:
                        text_then = _spliced(text, read["splice"])
                        intended = _entry(read, int(read["edit"]), text_then, checked_after)
                    elif "done" in read and intended is not None:
                        text = intended.text
                        yield intended
                        intended = None
                    elif "undone" in read:
                        intended = None
                except DAMAGED:
                    text = intended = None
    except (FileNotFoundError, *DAMAGED):
        return


def _entry(read: Mapping[str, Any], seq: int, text: bytes, checked_after: int) -> Entry:
    if seq > checked_after and digest_of(text) != read["after"]:
        raise ValueError("the text of an entry does not match its digest")
    return Entry(
        seq=seq,
        at=datetime.fromisoformat(read["at"]).astimezone(UTC),
        actor=str(read.get("actor", "")),
        before=read["before"],
        after=read["after"],
        text=text,
        events=tuple(event for event in read.get("events", ()) if isinstance(event, dict)),
        commit=str(read.get("commit", "")),
        cause=str(read.get("cause", "")),
    )


def _splice(before: bytes, after: bytes) -> list[Any]:
    """Return [bytes kept at the start, bytes kept at the end, packed bytes between them in `after`]."""
    shorter = min(len(before), len(after))
    start = _common(shorter, lambda i, j: before[i:j] == after[i:j])
    end = _common(
        shorter - start,
        lambda i, j: before[len(before) - j : len(before) - i] == after[len(after) - j : len(after) - i],
    )
    return [start, end, _packed(after[start : len(after) - end])]


def _common(longest: int, same: Callable[[int, int], bool]) -> int:
    """Return the largest n up to `longest` so that same(i, j) holds for all parts of 0…n: block by block,
    then by bisection.
    """
    low = 0
    while low + _BLOCK <= longest and same(low, low + _BLOCK):
        low += _BLOCK
    begin, high = low, min(low + _BLOCK, longest)
    while low < high:
        middle = (low + high + 1) // 2
        if same(begin, middle):
            low = middle
        else:
            high = middle - 1
    return low


def _spliced(text: bytes, splice: Sequence[Any]) -> bytes:
    start, end, middle = int(splice[0]), int(splice[1]), _unpacked(splice[2])
    return text[:start] + middle + text[len(text) - end :] if end else text[:start] + middle


def _packed(text: bytes) -> str:
    return base64.b64encode(zlib.compress(text, 1)).decode()


def _unpacked(packed: str) -> bytes:
    reader = zlib.decompressobj()
    text = reader.decompress(base64.b64decode(packed, validate=True), LARGEST_TEXT)
    if not reader.eof:
        raise ValueError("the text of an entry is too long or cut")
    return text


def _write_all(handle: int, written: bytes) -> None:
    while written:
        written = written[os.write(handle, written) :]
