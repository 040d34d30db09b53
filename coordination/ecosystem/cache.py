"""Cache of parsed large files, so that an unchanged file is not parsed again.

There is one cache file per ecosystem file, in the user's own cache folder. It holds a pickle, which can
execute code when it is loaded, and files beside the ecosystem file may come with a clone of an untrusted
repository. So a cache file is used only if this user owns it, nobody else may write it, and it was made from
the same bytes by the same code. On any failure the file is parsed as if there were no cache.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import pickle
import stat
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import pydantic

from coordination import errors, models, settings
from coordination.ecosystem.parsing import Document, Snapshot
from coordination.ecosystem.yaml_text.tree import gc_paused
from coordination.environment import cache_folder_from_environment
from coordination.files import open_own, replacing

SMALLEST = 100_000
"""Minimum size in bytes: parsing a file of this size takes 30 ms, a lookup 5 ms."""
KEPT = 20
"""Number of cache files that are kept, the newest ones."""
_DIGEST_BYTES = hashlib.sha256().digest_size


def load(raw: bytes, path: Path) -> Snapshot | None:
    """Return the cached content for these bytes at this path, or None."""
    place = _cache_file(path) if len(raw) >= SMALLEST else None
    kept = _read_private(place) if place is not None else None
    if kept is None:
        return None
    digest = hashlib.sha256(raw).hexdigest()
    if kept[:_DIGEST_BYTES] != _key(digest):
        return None
    body = memoryview(kept)[2 * _DIGEST_BYTES :]
    if hashlib.sha256(body).digest() != kept[_DIGEST_BYTES : 2 * _DIGEST_BYTES]:
        return None
    with gc_paused():
        ecosystem, warnings, outline = pickle.loads(body)  # noqa: S301 - see the module docstring
    if warnings is not None:
        warnings = tuple(replace(problem, file=str(path)) for problem in warnings)
    document = Document(
        path=path, text=raw, ecosystem=ecosystem, known_warnings=warnings, known_digest=digest
    )
    return Snapshot(document=document, outline=outline)


def store(snapshot: Snapshot) -> None:
    document = snapshot.document
    place = _cache_file(document.path) if len(document.text) >= SMALLEST else None
    if place is None:
        return
    body = pickle.dumps((document.ecosystem, document.known_warnings, snapshot.outline), protocol=5)
    with contextlib.suppress(OSError):
        place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if _is_private(place.parent.lstat(), stat.S_ISDIR):
            with replacing(place, durable=False) as file:
                file.write(_key(document.digest) + hashlib.sha256(body).digest())
                file.write(body)
            _delete_old(place.parent)


def _cache_file(path: Path) -> Path | None:
    folder = cache_folder_from_environment()
    name = hashlib.sha256(os.fsencode(path.resolve())).hexdigest()[:32]
    return None if folder is None else folder / f"{name}.ecosystem"


def _key(digest: str) -> bytes:
    return hashlib.sha256(_code() + digest.encode()).digest()


@cache
def _code() -> bytes:
    """Return a fingerprint of the code that reads the file and defines its records: versions and source file
    states.
    """
    folders = (Path(__file__).parent, Path(str(models.__file__)).parent)
    sources = [Path(str(module.__file__)) for module in (errors, settings)]
    sources += [source for folder in folders for source in folder.rglob("*.py")]
    states = [(str(source), source.stat().st_size, source.stat().st_mtime_ns) for source in sorted(sources)]
    return repr((sys.version, pydantic.VERSION, states)).encode()


def _read_private(place: Path) -> bytes | None:
    try:
        if not _is_private(place.parent.lstat(), stat.S_ISDIR):
            return None
        with os.fdopen(open_own(place, os.O_RDONLY), "rb") as file:
            return file.read() if _is_private(os.fstat(file.fileno()), stat.S_ISREG) else None
    except OSError:
        return None


def _is_private(status: os.stat_result, kind: Callable[[int], bool]) -> bool:
    others_write = status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    return kind(status.st_mode) and status.st_uid == os.geteuid() and not others_write


def _delete_old(folder: Path) -> None:
    """Delete all but the newest cache files, and with them partly written ones of killed processes."""
    oldest_last = sorted(folder.iterdir(), key=lambda place: place.lstat().st_mtime, reverse=True)
    for place in oldest_last[KEPT:]:
        place.unlink(missing_ok=True)
