"""The database of the history: SQLite with FTS5, one file, readable by this user only.

Events, the figures of trends, and the position up to which each source was read, are written in one
transaction, so every event is kept exactly once whatever is killed. Figures are summed for each day; single
values are kept of those that medians need. Words are indexed by FTS5 with Porter's
stemmer. Events older than the retention are removed.
"""

from __future__ import annotations

import json
import os
import re
import sqlite3
import time
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from coordination.errors import CoordinationError, Unreadable
from coordination.files import make_private, open_own
from coordination.history.events import HistoryEvent, figures_of

RETENTION = timedelta(days=365)
LONGEST_TEXT = 10_000
"""Characters of an event that are indexed."""
COMPANIONS = ("-wal", "-shm", "-journal")
"""Endings of the files that SQLite keeps beside the database."""
FUTURE = timedelta(minutes=1)
"""Maximum time an event may be dated ahead of this machine's clock: the clocks of two machines differ."""
WAIT_S = 5.0
"""Limit of the wait for another process that writes."""
AGAIN_S = 0.005
"""Pause before a switch to the write-ahead log is tried again."""

SCHEMA = """
CREATE TABLE IF NOT EXISTS events (
  seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, at INTEGER NOT NULL, kind TEXT NOT NULL,
  entity TEXT NOT NULL,
  subject TEXT NOT NULL, title TEXT NOT NULL, words TEXT NOT NULL, actor TEXT NOT NULL, body TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS events_at ON events (at);
CREATE TABLE IF NOT EXISTS event_subjects (
  subject TEXT, seq INTEGER, PRIMARY KEY (subject, seq)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS event_repos (repo TEXT, seq INTEGER, PRIMARY KEY (repo, seq)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS daily (
  repo TEXT, name TEXT, day TEXT, assignee TEXT, number INTEGER NOT NULL, total REAL NOT NULL,
  PRIMARY KEY (repo, name, day, assignee)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS figures (day TEXT, name TEXT, repo TEXT, assignee TEXT, value REAL);
CREATE INDEX IF NOT EXISTS figures_of ON figures (repo, name, day, value);
CREATE TABLE IF NOT EXISTS vectors (seq INTEGER PRIMARY KEY, model TEXT NOT NULL, vector BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS positions (source TEXT PRIMARY KEY, position INTEGER NOT NULL) WITHOUT ROWID;
CREATE VIRTUAL TABLE IF NOT EXISTS word_index USING fts5 (
  subject, title, words, actor, content='events', content_rowid='seq',
  tokenize="porter unicode61 remove_diacritics 2");
"""
TABLES = tuple(re.findall(r"TABLE IF NOT EXISTS (\w+)", SCHEMA))
VERSION = 2
UPGRADE = """
INSERT OR IGNORE INTO daily
  SELECT repo, name, day, assignee, COUNT(*), SUM(value) FROM figures GROUP BY repo, name, day, assignee;
DROP INDEX IF EXISTS events_subject;
INSERT OR IGNORE INTO event_subjects SELECT subject, seq FROM events WHERE subject != '';
INSERT OR IGNORE INTO event_subjects
  SELECT substr(subject, 1, instr(subject, '/') - 1), seq FROM events WHERE instr(subject, '/') > 1;
INSERT OR IGNORE INTO event_subjects
  SELECT item.value, seq FROM events, json_each(events.body, '$.data.subjects') AS item;
"""
"""From version 1, which had no table of subjects and no sums of a day."""

INDEXED = "rowid, subject, title, words, actor"


class HistoryStore:
    """Raises CoordinationError where the database is locked, cannot be written, lacks a table, or was written
    by a newer version of coord.
    """

    def __init__(self, path: Path) -> None:
        """Open the database, or begin one. An unreadable one is moved away, and a new one begun."""
        self.path = path
        self.replaced: Path | None = None
        """The place of an unreadable database that was moved away."""
        try:
            make_private(path.parent)
            self._db = self._opened()
        except OSError as error:
            raise explained(path, error) from error
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError):
                raise explained(path, error) from error
            self.replaced = move_away(path)
            self._db = self._opened()
        self._file = _identity(path)

    def _opened(self) -> sqlite3.Connection:
        db = _connected(self.path)
        try:
            _use_wal(db)
            db.execute("PRAGMA synchronous = NORMAL")
            version = int(db.execute("PRAGMA user_version").fetchone()[0])
            if version > VERSION:
                raise CoordinationError(
                    f"the history {self.path} was written by a newer version of coord: its schema is "
                    f"{version}, and this version knows {VERSION}",
                    "use that version; or make a new one from what is readable: coord history rebuild",
                )
            if version < VERSION:
                upgrade = UPGRADE if version else ""
                db.executescript(
                    f"BEGIN IMMEDIATE; {SCHEMA} {upgrade} PRAGMA user_version = {VERSION}; COMMIT"
                )
            for table in TABLES:  # one that is missing or damaged is noticed here, and not in the middle
                db.execute(f"SELECT 1 FROM {table} LIMIT 0")  # noqa: S608 (our names)
        except UnicodeDecodeError as error:  # sqlite3 quotes the damaged bytes in its message
            db.close()
            raise sqlite3.DatabaseError("its schema is damaged") from error
        except BaseException:
            db.close()
            raise
        return db

    def close(self) -> None:
        self._db.close()

    def is_current(self) -> bool:
        """Return whether the path still names the opened database: a rebuild replaces it."""
        return _identity(self.path) == self._file

    def __enter__(self) -> HistoryStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def position(self, source: str) -> int | str | None:
        """Return the position up to which a source was read, as it was given to `add`; None before the
        first.
        """
        rows = self.rows("SELECT position FROM positions WHERE source = ?", source)
        return next((row["position"] for row in rows), None)

    def add(self, events: Iterable[HistoryEvent], *, source: str = "", position: int | str = 0) -> int:
        """Keep the events that are new, and the position in their source; return how many were new."""
        new, now = 0, datetime.now(UTC)
        with self._transaction():
            for event in events:
                new += self._add(received(event, now))
            if source:
                self._db.execute(
                    "INSERT INTO positions VALUES (?, ?) ON CONFLICT DO UPDATE SET position = "
                    "excluded.position",
                    (source, position),
                )
        return new

    def _add(self, event: HistoryEvent) -> int:
        at_ms = int(event.at.timestamp() * 1000)
        body = {name: getattr(event, name) for name in ("repos", "changes", "record", "data")}
        texts = [_storable(text) for text in (event.subject, event.title, _words_of(event), event.actor)]
        data = _storable(json.dumps(body, ensure_ascii=False, default=str))
        added = self._db.execute(
            "INSERT OR IGNORE INTO events (id, at, kind, entity, subject, title, words, actor, body) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (event.id, at_ms, _storable(event.kind), _storable(event.entity), *texts, data),
        )
        if added.rowcount != 1:
            return 0
        self._db.execute(
            f"INSERT INTO word_index ({INDEXED}) VALUES (?, ?, ?, ?, ?)",  # noqa: S608 (our names)
            (added.lastrowid, *texts),
        )
        self._db.executemany(
            "INSERT OR IGNORE INTO event_subjects VALUES (?, ?)",
            [(_storable(subject), added.lastrowid) for subject in event.subjects],
        )
        self._db.executemany(
            "INSERT OR IGNORE INTO event_repos VALUES (?, ?)",
            [(_storable(repo), added.lastrowid) for repo in event.repos],
        )
        day = event.at.astimezone(UTC).date().isoformat()
        figures = [
            (_storable(f.repo), f.name, day, _storable(f.assignee), f.value, f.measured)
            for f in figures_of(event, self._created_at)
        ]
        self._db.executemany(
            "INSERT INTO daily VALUES (?, ?, ?, ?, 1, ?) ON CONFLICT DO UPDATE SET "
            "number = number + 1, total = total + excluded.total",
            [figure[:5] for figure in figures],
        )
        self._db.executemany(
            "INSERT INTO figures (repo, name, day, assignee, value) VALUES (?, ?, ?, ?, ?)",
            [figure[:5] for figure in figures if figure[5]],
        )
        return 1

    def _created_at(self, event: HistoryEvent) -> datetime | None:
        """Return the time of the event that created the record of an event; None if none is kept."""
        rows = self.rows(
            "SELECT MAX(at) AS at FROM events JOIN event_subjects AS of USING (seq) "
            "WHERE of.subject = ? AND events.subject = of.subject AND kind = ? AND at <= ?",
            *(_storable(event.subject), f"{event.entity}.created", int(event.at.timestamp() * 1000)),
        )
        return datetime.fromtimestamp(rows[0]["at"] / 1000, UTC) if rows and rows[0]["at"] else None

    def add_vectors(self, model: str, vectors: Iterable[tuple[int, bytes]]) -> None:
        with self._transaction():
            self._db.executemany(
                "INSERT OR REPLACE INTO vectors VALUES (?, ?, ?)",
                [(seq, model, vector) for seq, vector in vectors],
            )

    def remove_older(self, now: datetime, retention: timedelta = RETENTION) -> int:
        """Remove events and figures older than the retention; return the number of removed events."""
        oldest = now - retention
        with self._transaction():
            for table in ("daily", "figures"):
                self._db.execute(f"DELETE FROM {table} WHERE day < ?", (oldest.date().isoformat(),))  # noqa: S608
            before = (int(oldest.timestamp() * 1000),)
            old = "FROM events WHERE at < ?"
            self._db.execute(
                f"INSERT INTO word_index (word_index, {INDEXED}) "
                f"SELECT 'delete', seq, subject, title, words, actor {old}",
                before,
            )
            for table in ("event_repos", "event_subjects", "vectors"):
                self._db.execute(f"DELETE FROM {table} WHERE seq IN (SELECT seq {old})", before)  # noqa: S608
            gone = self._db.execute(f"DELETE {old}", before)
        return gone.rowcount

    def rows(self, sql: str, *values: Any) -> list[sqlite3.Row]:
        try:
            return self._db.execute(sql, values).fetchall()
        except sqlite3.Error as error:
            raise explained(self.path, error) from error

    def every(self) -> Iterator[HistoryEvent]:
        """Yield all events, oldest first."""
        try:
            for row in self._db.execute("SELECT * FROM events ORDER BY at, seq"):
                yield event_of(row)
        except sqlite3.Error as error:
            raise CoordinationError(
                f"the history {self.path} is damaged: {error}", "rebuild it: coord history rebuild"
            ) from error

    def complete(self) -> None:
        """Write everything into the one file of the database."""
        self.rows("PRAGMA wal_checkpoint(TRUNCATE)")
        self.rows("PRAGMA journal_mode = DELETE")

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        try:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")
        except sqlite3.Error as error:
            raise explained(self.path, error) from error


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _use_wal(db: sqlite3.Connection) -> None:
    """Switch to the write-ahead log. SQLite waits for nobody here, and several processes or threads may begin
    a database at once: then the call is repeated.
    """
    until = time.monotonic() + WAIT_S
    while db.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
        try:
            db.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > until:
                raise
            time.sleep(AGAIN_S)


def explained(path: Path, error: sqlite3.Error | OSError) -> CoordinationError:
    why = error.strerror or str(error) if isinstance(error, OSError) else str(error)
    if isinstance(error, OSError) or re.search("readonly|unable to open", why):
        hint = f"make {path.parent} a folder with regular files that you may write, then try again"
    elif "locked" in why:
        hint = "wait for the other process, then try again"
    elif re.search("no such|vtable", why):
        hint = "make a new one from what is readable: coord history rebuild"
    else:
        hint = "make room, then try again; or make a new one: coord history rebuild"
    return CoordinationError(f"the history {path} cannot be used: {why}", hint)


def _connected(path: Path) -> sqlite3.Connection:
    """Open the file as a database, whatever is in it."""
    os.close(open_own(path, os.O_RDWR | os.O_CREAT))
    for companion in COMPANIONS:
        with suppress(FileNotFoundError):
            os.close(open_own(path.with_name(f"{path.name}{companion}"), os.O_RDONLY))
    # one thread after another uses it, see Memory
    db = sqlite3.connect(path, timeout=WAIT_S, isolation_level=None, check_same_thread=False)
    db.row_factory = sqlite3.Row
    db.text_factory = lambda text: text.decode(errors="replace")
    db.execute("PRAGMA trusted_schema = OFF")
    return db


def readable(path: Path) -> Iterator[HistoryEvent | None]:
    """Yield all events of a database in any state, and None for each that cannot be read. Raises Unreadable
    where it has no events that could be, CoordinationError where another process has locked it, OSError.
    """
    with closing(_connected(path)) as db:
        try:
            last = int(db.execute("SELECT MAX(seq) FROM events").fetchone()[0] or 0)
        except (sqlite3.Error, UnicodeDecodeError) as error:
            if "locked" in str(error):
                raise explained(path, sqlite3.OperationalError(str(error))) from error
            raise Unreadable(f"the history {path} is no readable database: {error}") from error
        for seq in range(1, last + 1):
            try:
                row = db.execute("SELECT * FROM events WHERE seq = ?", (seq,)).fetchone()
                if row is not None:
                    yield event_of(row)
            except (sqlite3.Error, CoordinationError):
                yield None


def move_away(path: Path) -> Path:
    """Rename a database to the first free name of `NAME.broken`, `NAME.broken.2` …, with the files beside it;
    return it.
    """
    free = _unused(path.with_name(f"{path.name}.broken"))
    path.replace(free)
    for companion in COMPANIONS:
        with suppress(FileNotFoundError):
            path.with_name(f"{path.name}{companion}").replace(free.with_name(f"{free.name}{companion}"))
    return free


def received(event: HistoryEvent, now: datetime) -> HistoryEvent:
    """Return the event as it is kept: one that is dated in the future gets the present time, and its own one
    as `told_at`.
    """
    if event.at <= now + FUTURE:
        return event
    parts = tuple(received(part, now) for part in event.parts)
    data = {**event.data, "told_at": event.at.isoformat()}
    return event.model_copy(update={"at": now, "data": data, "parts": parts})


def _unused(path: Path) -> Path:
    """Return the path, or the first of `PATH.2`, `PATH.3`, … that does not exist."""
    number, free = 1, path
    while free.exists() or free.is_symlink():
        number += 1
        free = path.with_name(f"{path.name}.{number}")
    return free


def event_of(row: sqlite3.Row) -> HistoryEvent:
    """Raises CoordinationError for a row that is damaged."""
    try:
        body = json.loads(row["body"])
        return HistoryEvent(
            id=row["id"],
            at=datetime.fromtimestamp(row["at"] / 1000, UTC),
            kind=row["kind"],
            subject=row["subject"],
            title=row["title"],
            actor=row["actor"],
            repos=tuple(body["repos"]),
            changes=body["changes"],
            record=body["record"],
            data=body["data"],
        )
    except (ValueError, KeyError, TypeError, OverflowError, OSError, RecursionError) as error:
        raise CoordinationError(
            f"the history is damaged: event {row['id']!r:.100} cannot be read",
            "rebuild it: coord history rebuild",
        ) from error


def _words_of(event: HistoryEvent) -> str:
    """Return the text of an event besides its subject, title and actor."""
    parts: list[str] = [event.kind.replace(".", " "), *event.repos]
    for value in (event.record, event.changes, event.data):
        parts += _texts_in(value)
    return " ".join(parts)[:LONGEST_TEXT]


def _texts_in(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from _texts_in(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _texts_in(inner)


def _storable(value: Any) -> Any:
    """Return text without what SQLite cannot keep: halves of a surrogate pair."""
    return value.encode(errors="replace").decode() if isinstance(value, str) else value
