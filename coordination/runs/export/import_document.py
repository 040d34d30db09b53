"""Import the document of a run: check that it is unchanged since its export and can continue in another
Redis; then write it there as a draft that expires, which one step turns into a run.
"""

from __future__ import annotations

import base64
import gzip
import io
import json
import re
import sys
import zlib
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, ValidationError
from redis import Redis

from coordination.backend.keys import RunKeys, resource
from coordination.disk import in_units
from coordination.errors import Conflict, CoordinationError, UsageError
from coordination.frozen import FrozenModel
from coordination.models.values import RUN_ID
from coordination.runs.export import LARGEST
from coordination.runs.export.document import (
    FORMAT,
    HASH,
    KINDS,
    OTHERS,
    SET,
    STREAM,
    ZSET,
    Checksum,
    can_move,
)
from coordination.runs.records import Descriptor, RunStatus, TodoState
from coordination.runs.store import RunStore
from coordination.runs.submission.draft import DRAFT_TTL
from coordination.runs.submission.structure import refuse_damaged
from coordination.text import counted, listed

GZIP = b"\x1f\x8b"
BEGINNING = re.compile(rb'\s*\{\s*"coord_run"\s*:')
STREAM_ID = re.compile(r"([0-9]{1,20})-([0-9]{1,20})")
RESOURCE = re.compile(r"[A-Za-z0-9._-]{1,100}")
NEEDED = ("meta", "state", "descriptor", "facts")
FENCES = (" fence", " settled_by", " intent")
LARGEST_FENCE = 9_000_000_000_000_000
"""Greatest fence. Steps count in doubles: beyond 2^53 no fence would be newer than another."""
LARGEST_AMOUNT = 1_000_000_000
LARGEST_PART = 2**64
"""Limit of each part of a stream's id."""

Value = str | bytes


class RunDocument(FrozenModel):
    """The document of a run, checked by `read_document`."""

    model_config = ConfigDict(strict=True)

    coord_run: int
    run_id: str
    capacities: dict[str, int]
    keys: dict[str, dict[str, dict[str, Any]]]
    shared: dict[str, dict[str, Any]]

    @property
    def meta(self) -> Mapping[str, str]:
        return self.hash("meta")

    @property
    def status(self) -> RunStatus:
        return RunStatus(self.meta["status"])

    @property
    def timers(self) -> Mapping[str, float]:
        """Return todo → its due time, in ms."""
        return self.shared.get("timers", {})

    @cached_property
    def unsettled(self) -> frozenset[str]:
        return frozenset(todo for todo, state in self.hash("state").items() if not TodoState(state).ended)

    @property
    def fence(self) -> int:
        """Return the highest fence of the run."""
        values = (
            int(value)
            for fact, value in self.hash("facts").items()
            if fact.endswith(FENCES) and value.isdecimal()
        )
        return max(values, default=0)

    def hash(self, key: str) -> Mapping[str, str]:
        return self.keys.get(key, {}).get(HASH, {})

    def sections(self) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
        """Yield each key with its kind and its content, with binary values as bytes."""
        for key, content in self.keys.items():
            for kind, entries in content.items():
                yield (
                    key,
                    kind,
                    {name: _value(value) for name, value in entries.items()} if kind == HASH else entries,
                )


def load(path: Path, largest: int = LARGEST) -> RunDocument:
    """Load a document. Raise UsageError and Conflict as `read_document` does."""
    try:
        with path.open("rb") as file:  # a device, a pipe or a growing file may have no end
            return read_document(file.read(largest + 1), str(path), largest)
    except OSError as error:
        raise CoordinationError(
            f"{path} cannot be read: {error.strerror}", "name a file that coord run export wrote"
        ) from error


def read_document(data: bytes, name: str, largest: int = LARGEST) -> RunDocument:
    """Return the checked document.

    Raise UsageError where `name` is no exported run, is cut short, changed, or larger than `largest`
    unpacked; Conflict where it can only be inspected.
    """
    found = _parse(_unpacked(data, name, largest), name)
    if not isinstance(found, dict) or "coord_run" not in found:
        raise UsageError(f"{name} is not an exported run", "write one: coord run export RUN FILE")
    if found["coord_run"] != FORMAT:
        hint = (
            f"import it with coord {found.get('coord', 'of that format')}, which wrote it; "
            "or export it again with this version"
        )
        raise UsageError(
            f"{name} is of format {found['coord_run']!r}, and this coord reads format {FORMAT}", hint
        )
    if _checksum(found) != found.get("checksum"):
        raise _damaged(name, "its checksum does not match")
    try:
        received = RunDocument.model_validate(found)
        for problem in _problems(received):
            raise _damaged(name, problem)
    except (ValidationError, ValueError, LookupError) as error:
        raise _damaged(name, str(error).splitlines()[0]) from error
    descriptors, children, spec = (received.hash(key) for key in ("descriptor", "children", "spec"))
    refuse_damaged(received.run_id, received.meta, descriptors, children, spec)
    _refuse_running(received)
    return received


def _unpacked(data: bytes, name: str, largest: int) -> bytes:
    """Unpack at most `largest` bytes: a few bytes may unpack to gigabytes."""
    if data.startswith(GZIP):
        try:
            with gzip.GzipFile(fileobj=io.BytesIO(data)) as packed:
                data = packed.read(largest + 1)
        except (OSError, EOFError, zlib.error) as error:
            raise UsageError(
                f"{name} cannot be unpacked: {error}", "was it copied whole? export the run again"
            ) from error
    if len(data) > largest:
        raise UsageError(
            f"{name} has more than {in_units(largest)}, unpacked: it is not read",
            "if you know where it comes from and this machine has thirty times that memory: "
            "coord run import --max-size SIZE",
        )
    return data


def _parse(data: bytes, name: str) -> Any:
    try:
        return json.loads(data, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        if BEGINNING.match(data):
            raise UsageError(
                f"{name} is an exported run that is cut short: {error}", "copy it again, whole"
            ) from error
        raise UsageError(f"{name} is not JSON: {error}", "write one: coord run export RUN FILE") from error


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a number")


def _damaged(name: str, why: str) -> UsageError:
    return UsageError(
        f"{name} is damaged, or was changed: {why}", "export the run again, and copy it unchanged"
    )


def _checksum(found: Mapping[str, Any]) -> str:
    """Return the checksum of the entries in the order of `document.py`; any text for a malformed document."""
    checksum = Checksum()
    for name, value in found.items():
        if name not in ("keys", "shared", "checksum"):
            checksum.add(name, value)
    for key, kind, entries in _all_sections(found.get("keys")):
        for name, value in entries.items():
            checksum.add(key, kind, name, value)
    shared = found.get("shared")
    for name, value in (shared if isinstance(shared, dict) else {}).items():
        checksum.add("shared", name, value)
    return str(checksum)


def _all_sections(keys: Any) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    for key, content in (keys if isinstance(keys, dict) else {}).items():
        for kind, entries in (content if isinstance(content, dict) else {}).items():
            if isinstance(entries, dict):
                yield key, kind, entries


def _problems(run: RunDocument) -> Iterator[str]:
    """Yield a sentence for each value that no run of coord has, although the checksum fits. Some of them
    raise ValueError or LookupError instead.
    """
    if not RUN_ID.fullmatch(run.run_id):
        yield f"{run.run_id!r} cannot be a run's id"
    for key in NEEDED:
        if not run.hash(key):
            yield f"it has no {key}"
    known = _kinds(run)
    for key, content in run.keys.items():
        if list(content) != [known.get(key)]:
            yield f"{key} is not a key of a run, or has another type"
        yield from (f"{key} has an invalid value" for _ in _misfits(*next(iter(content.items()))))
    todos = run.hash("state")
    if not (todos.keys() == run.hash("descriptor").keys() >= run.timers.keys()):
        yield "its todos are not the same everywhere"
    yield from _odd_figures(run)
    json.dumps(run.keys, ensure_ascii=False).encode()  # half a surrogate cannot be sent to Redis


def _odd_figures(run: RunDocument) -> Iterator[str]:
    """Yield a sentence for each time, fence or capacity that Redis would refuse or miscalculate with."""
    _ = run.status, run.unsettled
    if not all(map(_is_number, (float(run.meta["started_at"]), *run.timers.values()))):
        yield "it has an invalid time"
    if run.fence > LARGEST_FENCE:
        yield f"it has a fence larger than {LARGEST_FENCE}"
    for name, amount in run.capacities.items():
        if not RESOURCE.fullmatch(name) or not 0 < amount <= LARGEST_AMOUNT:
            yield f"{amount} of {name!r} is not a capacity"


def _kinds(run: RunDocument) -> Mapping[str, str]:
    own = {key.rpartition(":")[2]: KINDS.get(key.rpartition(":")[2], OTHERS) for key in RunKeys("run").own}
    logs = {f"log:{todo}": STREAM for todo in run.hash("state")}
    repos = {Descriptor.parse(descriptor).repo for descriptor in run.hash("descriptor").values()}
    return own | logs | {f"bundle:{repo}": HASH for repo in repos}


def _misfits(kind: str, entries: Mapping[str, Any]) -> Iterator[str]:
    before = (0, 0)
    for name, value in entries.items():
        if kind == STREAM:
            match = STREAM_ID.fullmatch(name)
            at = (int(match[1]), int(match[2])) if match else (0, 0)
            fits = (
                before < at < (LARGEST_PART, 0)
                and at[1] < LARGEST_PART
                and isinstance(value, dict)
                and value
                and all(isinstance(v, str) for v in value.values())
            )
            before = at
        else:
            fits = _FITS[kind](value)
        if not fits:
            yield name


def _is_value(value: Any) -> bool:
    """Return whether it is a value of a field. Raise ValueError for invalid base64."""
    if isinstance(value, dict) and isinstance(value.get("base64"), str):
        base64.b64decode(value["base64"], validate=True)
        return True
    return isinstance(value, str)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


_FITS: Mapping[str, Callable[[Any], bool]] = {
    HASH: _is_value,
    SET: lambda value: value is True,
    ZSET: _is_number,
}


def _value(value: str | Mapping[str, str]) -> Value:
    return value if isinstance(value, str) else base64.b64decode(value["base64"], validate=True)


def _refuse_running(run: RunDocument) -> None:
    """Raise Conflict where a todo ran: its lease and its worker belong to the Redis that it came from."""
    running = [todo for todo, state in run.hash("state").items() if state == TodoState.RUNNING]
    running += [todo for todo in run.shared.get("holders", {}) if todo not in running]
    if can_move(run.status, running):
        return
    what = f", and {counted(len(running), 'todo')} ran: {listed(running)}" if running else ""
    raise Conflict(
        f"run {run.run_id} was {run.status} when it was exported{what}: this document can only be inspected",
        f"in its Redis: coord run pause {run.run_id}; when none of its todos is running, export it again",
    )


ENTRIES_AT_ONCE = 500
BYTES_AT_ONCE = 1024 * 1024


def refuse_known(store: RunStore, run: RunDocument) -> None:
    """Raise Conflict where a run of that id exists. A draft is left over from an interrupted import, and is
    no conflict.
    """
    status = store.status(run.run_id)
    listed = store.redis.zscore(store.keys.runs, run.run_id) is not None
    if listed or status not in (None, RunStatus.DRAFT):
        what = f"run {run.run_id} is here already: it is {status or 'listed, without records'}"
        raise Conflict(what, f"look at it: coord show-run {run.run_id}; nothing was imported")


def adopt(store: RunStore, run: RunDocument, actor: str, check: Callable[[], object] = lambda: None) -> None:
    """Import the run. Raise Conflict where it exists already. The caller holds the start lock. `check` is
    called when the draft is in Redis; where it raises, the draft expires.
    """
    refuse_known(store, run)
    keys = store.keys.run(run.run_id)
    names = [f"{keys.prefix}:{name}" for name in run.keys]
    store.redis.unlink(*keys.own, *names)
    _declare_missing(store, run)
    writer = _Writer(store.redis)
    for name, kind, entries in run.sections():
        writer.write(f"{keys.prefix}:{name}", kind, _as_draft(keys, name, entries))
    writer.flush()
    check()
    further = [name for name in names if name not in keys.own]
    reply = store.adopt(run.run_id, further, run.status, run.meta["started_at"], run.fence, actor, run.timers)
    if reply.word != "adopted":
        raise Conflict(
            f"run {run.run_id} was not imported: it is {reply.status or 'gone'}", "import it again"
        )
    _keep_commits(store, run)


def _keep_commits(store: RunStore, run: RunDocument) -> None:
    """Record the commits of completed todos for `submission/refusals.py`, where no newer one is known."""
    facts, descriptors = run.hash("facts"), run.hash("descriptor")
    with store.redis.pipeline(transaction=False) as pipeline:
        for todo, state in run.hash("state").items():
            commit = facts.get(f"{todo} commit")
            if state == TodoState.SUCCEEDED and commit and commit != facts.get(f"{todo} began"):
                source = facts.get(f"{todo} run", run.run_id)
                pipeline.hsetnx(
                    store.keys.commits, todo, f"{commit} {source} {Descriptor.parse(descriptors[todo]).repo}"
                )
        pipeline.execute()


def _as_draft(keys: RunKeys, name: str, entries: Any) -> Any:
    return {**entries, "status": RunStatus.DRAFT} if name == "meta" else entries


def _declare_missing(store: RunStore, run: RunDocument) -> None:
    """Declare the resources that its todos need and this Redis lacks, with their former capacities."""
    names = list(run.capacities)
    known = (
        store.redis.hmget(store.keys.locks.capacities, [resource(name) for name in names]) if names else []
    )
    store.declare(
        {name: run.capacities[name] for name, there in zip(names, known, strict=True) if there is None}
    )


class _Writer:
    """Writer of chunks that set their own expiry, because the process may die between any two of them."""

    def __init__(self, redis: Redis) -> None:
        self._pipeline = redis.pipeline(transaction=True)
        self._entries = self._bytes = 0

    def write(self, key: str, kind: str, entries: Any) -> None:
        for name, value in entries.items():
            match kind:
                case "hash":
                    self._pipeline.hset(key, name, value)
                case "set":
                    self._pipeline.sadd(key, name)
                case "stream":
                    self._pipeline.xadd(key, value, id=name)
                case _:
                    self._pipeline.zadd(key, {name: value})
            self._entries += 1
            self._bytes += len(value) if kind == HASH else 0
            if self._entries >= ENTRIES_AT_ONCE or self._bytes >= BYTES_AT_ONCE:
                self._pipeline.expire(key, DRAFT_TTL)
                self.flush()
        self._pipeline.expire(key, DRAFT_TTL)

    def flush(self) -> None:
        self._pipeline.execute()
        self._entries = self._bytes = 0
