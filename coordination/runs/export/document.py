"""Write the document of a run in pieces: only its state and one page of a log, or one bundle, are in memory
at once. A file is written whole or not at all, compressed if its suffix is `.gz`, and readable by its owner
only, because logs and commands may hold secrets.

The archiver writes ended runs to a folder of this machine before Redis deletes them. A thread writes each
batch, because a large run takes longer than a maintenance leader may hang; it is no `BackgroundService`,
because it ends with its batch. A run that cannot be written is logged once and tried again; it is deleted
only when its file is whole and on disk.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import logging
import threading
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import IO, Any

import redis
from redis.client import NEVER_DECODE

from coordination.backend.keys import RunKeys, member, resource
from coordination.errors import Conflict, CoordinationError, NotFound
from coordination.files import below, remove_unfinished, replacing, sync_folder
from coordination.runs.records import Descriptor, RunStatus
from coordination.runs.store import RunStore
from coordination.text import listed

FORMAT = 2
PAGE = 1000
"""Number of stream entries that are read at once."""
STREAMS = 20
"""Number of streams whose first pages are read at once."""
HASH, ZSET, SET, STREAM = "hash", "zset", "set", "stream"
KINDS: Mapping[str, str] = {"ready": ZSET, "queued": ZSET, "sent": ZSET, "unsent": SET, "events": STREAM}
"""Name of a run's own key → its kind."""
OTHERS = HASH

Entries = Iterable[tuple[str, Any]]
"""Field, member or id → value."""


class Checksum:
    """Checksum of the document's entries, in their order."""

    def __init__(self) -> None:
        self._sum = hashlib.sha256()

    def add(self, *values: Any) -> None:
        self._sum.update(compact(values).encode() + b"\n")

    def __str__(self) -> str:
        return self._sum.hexdigest()


def compact(value: Any) -> str:
    """Return the value as ASCII JSON; equal values give equal text, because names are sorted."""
    return json.dumps(value, separators=(",", ":"), sort_keys=True)


def document_of(store: RunStore, run_id: str, *, to_import: bool = False) -> Iterator[str]:
    """Yield the document in pieces: `file.writelines(document_of(store, run_id))`. The run's state is that of
    one moment.

    Raise NotFound, also where the run is deleted meanwhile; Conflict where its records are damaged, and with
    `to_import`, before anything is written, where something of the run is running.
    """
    try:
        yield from _document(store, run_id, to_import=to_import)
    except UnicodeDecodeError as error:
        raise Conflict(
            f"the records of run {run_id} are damaged: {error}", "check Redis: coord doctor"
        ) from error


def _document(store: RunStore, run_id: str, *, to_import: bool) -> Iterator[str]:
    todos = list(store.redis.hkeys(store.keys.run(run_id).state))
    moment = _moment(store, run_id, todos)
    if to_import:
        _refuse_unfinished(run_id, moment, todos)
    checksum = Checksum()
    yield "{\n"
    for name, value in _header(store, run_id, moment).items():
        checksum.add(name, value)
        yield f"{json.dumps(name)}: {json.dumps(value)},\n"
    yield '"keys": {'
    yield from _sections(_keys(store, run_id, moment, todos), checksum)
    yield '\n},\n"shared": {'
    yield from _pairs(_shared(moment, todos).items(), checksum, "shared")
    _refuse_forgotten(store, run_id)
    yield f'}},\n"checksum": "{checksum}"\n}}\n'


def _sections(keys: Iterable[tuple[str, str, Entries]], checksum: Checksum) -> Iterator[str]:
    before = ""
    for key, kind, entries in keys:
        yield f'{before}\n{json.dumps(key)}: {{"{kind}": {{'
        yield from _pairs(entries, checksum, key, kind)
        yield "}}"
        before = ","


def _pairs(entries: Entries, checksum: Checksum, *where: str) -> Iterator[str]:
    before = ""
    for name, value in entries:
        checksum.add(*where, name, value)
        yield f"{before}{json.dumps(name)}: {json.dumps(value)}"
        before = ", "


def _moment(store: RunStore, run_id: str, todos: Sequence[str]) -> Mapping[str, Any]:
    """Return the run's own keys except the events, and its todos' entries in the keys of all runs, all of one
    moment.
    """
    own = [key for key in store.keys.run(run_id).own if _kind(key) != STREAM]
    members = [member(run_id, todo) for todo in todos] or [""]
    with store.redis.pipeline(transaction=True) as pipeline:
        for key in own:
            match _kind(key):
                case "zset":
                    pipeline.zrange(key, 0, -1, withscores=True)
                case "set":
                    pipeline.smembers(key)
                case _:
                    pipeline.hgetall(key)
        pipeline.zmscore(store.keys.timers, members)
        pipeline.hmget(store.keys.holders, members)
        found = pipeline.execute()
    moment = dict(zip([*map(_name, own), "timers", "holders"], found, strict=True))
    if not moment["meta"]:
        raise NotFound(f"there is no run {run_id!r}", "list the runs: coord list-runs")
    return moment


def _header(store: RunStore, run_id: str, moment: Mapping[str, Any]) -> Mapping[str, Any]:
    meta = moment["meta"]
    return {
        "coord_run": FORMAT,
        "run_id": run_id,
        "plan_id": meta.get("plan_id"),
        "status": meta.get("status"),
        "graph": meta.get("graph"),
        "coord": version("coord"),
        "exported_at": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "capacities": _capacities(store, moment["descriptor"].values()),
    }


def _capacities(store: RunStore, descriptors: Iterable[str]) -> Mapping[str, int]:
    """Return the capacities of the resources that the todos name: see `Descriptor.locks`."""
    head = resource("")
    locks = (
        line.partition(" ")[2]
        for descriptor in descriptors
        for line in Descriptor.parse(descriptor).locks.split("\n")[1:]
    )
    names = sorted({name for name in locks if name.startswith(head)})
    found = store.redis.hmget(store.keys.locks.capacities, names) if names else []
    return {name.removeprefix(head): int(n) for name, n in zip(names, found, strict=True) if n is not None}


def _keys(
    store: RunStore, run_id: str, moment: Mapping[str, Any], todos: Sequence[str]
) -> Iterator[tuple[str, str, Entries]]:
    keys = store.keys.run(run_id)
    for name in map(_name, keys.own):
        if entries := moment.get(name):
            yield name, _kind(name), _entries(_kind(name), entries)
    yield from _streams(store, keys, todos)
    for repo in sorted({Descriptor.parse(descriptor).repo for descriptor in moment["descriptor"].values()}):
        if fields := store.redis.hkeys(keys.bundle(repo)):
            yield _name(keys.bundle(repo), keys), HASH, _bundle(store, keys.bundle(repo), sorted(fields))


def _entries(kind: str, found: Any) -> Entries:
    if kind == SET:
        return ((one, True) for one in sorted(found))
    if kind == ZSET:
        return ((member, _plain(score)) for member, score in found)
    pairs: Entries = found.items()
    return pairs


def _streams(store: RunStore, keys: RunKeys, todos: Sequence[str]) -> Iterator[tuple[str, str, Entries]]:
    streams = [keys.events, *map(keys.log, todos)]
    for start in range(0, len(streams), STREAMS):
        some = streams[start : start + STREAMS]
        with store.redis.pipeline(transaction=False) as pipeline:
            for key in some:
                pipeline.xrange(key, count=PAGE)
            pages = pipeline.execute()
        for key, first in zip(some, pages, strict=True):
            if first:
                yield _name(key, keys), STREAM, _stream(store, key, first)


def _stream(store: RunStore, key: str, page: Any) -> Entries:
    while page:
        yield from page
        page = store.redis.xrange(key, f"({page[-1][0]}", count=PAGE) if len(page) == PAGE else ()


def _bundle(store: RunStore, key: str, fields: Iterable[str]) -> Entries:
    for field in fields:
        # coord's clients decode replies as text; a bundle is binary.
        found: bytes | None = store.redis.execute_command("HGET", key, field, **{NEVER_DECODE: True})
        if found is not None:
            yield field, _text_or_bytes(found)


def _text_or_bytes(found: bytes) -> str | Mapping[str, str]:
    try:
        return found.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(found).decode()}


def _shared(moment: Mapping[str, Any], todos: Sequence[str]) -> Mapping[str, Mapping[str, Any]]:
    values_of = {name: zip(todos, moment[name], strict=False) for name in ("timers", "holders")}
    return {
        name: {todo: _plain(value) for todo, value in pairs if value is not None}
        for name, pairs in values_of.items()
    }


def _plain(score: str | float) -> str | float:
    """Return whole numbers as int: programs that reformat JSON write whole floats in more than one way."""
    return int(score) if isinstance(score, float) and score.is_integer() else score


def can_move(status: RunStatus, running: Collection[str]) -> bool:
    """Return whether a run in this state, with these running todos, can continue in another Redis."""
    return not running and (status.ended or status is RunStatus.PAUSED)


def _refuse_unfinished(run_id: str, moment: Mapping[str, Any], todos: Sequence[str]) -> None:
    status = RunStatus(moment["meta"]["status"])
    running = [todo for todo, fence in zip(todos, moment["holders"], strict=False) if fence is not None]
    if not can_move(status, running):
        begin = "" if status is RunStatus.PAUSED else f"pause it first: coord run pause {run_id}; "
        raise Conflict(
            f"run {run_id} is {status}{f', and {listed(running)} of it runs' if running else ''}: "
            "it cannot be moved as it is",
            f"{begin}when none of its todos is running, export it again; "
            "or export it for inspection only: --look",
        )


def _refuse_forgotten(store: RunStore, run_id: str) -> None:
    if not store.redis.exists(store.keys.run(run_id).meta):
        raise NotFound(f"run {run_id} was deleted while it was read", "keep_runs says how long runs are kept")


def _name(key: str, keys: RunKeys | None = None) -> str:
    """Return the key without the run's prefix."""
    return key.removeprefix(f"{keys.prefix}:") if keys else key.rpartition(":")[2]


def _kind(key: str) -> str:
    return KINDS.get(key.rpartition(":")[2], OTHERS)


COMPRESSED = ".gz"


def save(pieces: Iterable[str], path: Path) -> None:
    """Write under a temporary name until the file is whole and on disk. Raise CoordinationError where it
    cannot be written.
    """
    try:
        with replacing(path, durable=True) as raw:
            _write(pieces, raw, compressed=path.suffix == COMPRESSED)
        sync_folder(path.parent)
    except OSError as error:
        hint = (
            "make room, or name another file"
            if path.parent.is_dir()
            else f"make the folder {path.parent}, or name another"
        )
        raise CoordinationError(f"{path} cannot be written: {error.strerror or error}", hint) from error


def _write(pieces: Iterable[str], raw: IO[bytes], *, compressed: bool) -> None:
    if not compressed:
        raw.writelines(piece.encode() for piece in pieces)
        return
    with (
        gzip.GzipFile(fileobj=raw, mode="wb", filename="", mtime=0) as packed,
        io.BufferedWriter(packed) as buffered,
    ):
        buffered.writelines(piece.encode() for piece in pieces)


AGAIN_AFTER_S = 60.0

logger = logging.getLogger(__name__)


class RunArchiver:
    """Writes ended runs to a folder of this machine."""

    def __init__(self, store: RunStore, folder: Path, again_after_s: float = AGAIN_AFTER_S) -> None:
        self._store = store
        self._folder = folder
        self._again_after_s = again_after_s
        self._guard = threading.Lock()
        self._kept: set[str] = set()
        self._reported: dict[str, str] = {}
        self._next_try = 0.0
        self._thread: threading.Thread | None = None

    def keep(self, runs: Sequence[str]) -> list[str]:
        """Return the runs that are archived. The others are being written, or will be: ask again."""
        with self._guard:
            self._kept &= set(runs)
            missing = [run_id for run_id in runs if run_id not in self._kept]
        busy = self._thread is not None and self._thread.is_alive()
        if missing and not busy and time.monotonic() >= self._next_try:
            self._thread = threading.Thread(
                target=self._write_all, args=[missing], name="archiver", daemon=True
            )
            self._thread.start()
        return [run_id for run_id in runs if run_id not in missing]

    def file_of(self, run_id: str) -> Path:
        return below(self._folder, f"{run_id}.json.gz")

    def _write_all(self, runs: Collection[str]) -> None:
        for run_id in runs:
            try:
                remove_unfinished(self.file_of(run_id))
                save(document_of(self._store, run_id), self.file_of(run_id))
            except NotFound:  # it has no records any more
                self._mark_kept(run_id)
            except (CoordinationError, redis.RedisError) as error:
                self._next_try = time.monotonic() + self._again_after_s
                self._report_once(run_id, error)
                if isinstance(error.__cause__, OSError) or isinstance(
                    error, redis.ConnectionError | redis.TimeoutError
                ):
                    return  # the folder or Redis fails: the next run would fail too
            else:
                self._mark_kept(run_id)

    def _mark_kept(self, run_id: str) -> None:
        self._reported.pop(run_id, None)
        with self._guard:
            self._kept.add(run_id)

    def _report_once(self, run_id: str, error: Exception) -> None:
        reason = str(getattr(error, "message", error))
        if self._reported.get(run_id) != reason:
            logger.error(
                "run %s is kept although keep_runs is over, because it cannot be exported: %s", run_id, reason
            )
        self._reported[run_id] = reason
