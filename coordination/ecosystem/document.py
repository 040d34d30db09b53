"""Finding and reading `ecosystem.yaml`: a valid file, or every problem with its line.

The content of a file is cached, so that an unchanged file is not parsed again, and a command that only reads
does not build the validators of all records, which takes 40 ms however small the file is: one cache file for
each ecosystem file, in the user's own cache folder. It is a pickle, which can execute code when it is loaded,
and a folder beside the ecosystem file may come with a clone of an untrusted repository. So a cache file is
used only if this user owns it, nobody else may write it, and the same code made it from the same bytes. On
any failure the file is parsed as if there were no cache.
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
from functools import cache, lru_cache
from pathlib import Path

import pydantic

from coordination import errors, models, settings
from coordination.ecosystem.parsing import Document, Snapshot, parse
from coordination.ecosystem.yaml_text.tree import gc_paused
from coordination.environment import cache_folder_from_environment
from coordination.errors import CoordinationError, NotFound
from coordination.files import is_folder, is_there, open_own, replacing, why_closed
from coordination.models import FILE_NAME
from coordination.text import quoted

KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFBLK: "a device",
    stat.S_IFCHR: "a device",
}

__all__ = ["Document", "find", "load", "parse", "read_bytes", "snapshot"]


def find(start: Path, explicit: Path | None = None) -> Path:
    """Return the path of the file: the explicit one, else the nearest in `start` or a folder above it. Raises
    NotFound.
    """
    if explicit is not None:
        path = explicit / FILE_NAME if is_folder(explicit) else explicit
        if path != explicit and explicit.name == FILE_NAME and not is_there(path):
            path = explicit
        if kind := _other_kind(path):
            raise _no_file(path, kind)
        if why := why_closed(path):
            raise CoordinationError(why, "correct the path, or make it readable")
        if not is_there(path):
            raise NotFound(
                f"there is no file {path}",
                f"correct the path, or write one: coord init {quoted(path.parent)}",
            )
        return path
    start = start.absolute()
    no_files = []
    for folder in (start, *start.parents):
        path = folder / FILE_NAME
        if kind := _other_kind(path):
            no_files.append((path, kind))
        elif is_there(path):
            return path
    if no_files:
        raise _no_file(*no_files[0])
    raise NotFound(
        f"there is no {FILE_NAME} in {start} or any folder above it",
        "write one from the repositories here: coord init; or name one: --ecosystem FILE",
    )


def _other_kind(path: Path) -> str:
    """Return the kind of a path that is no regular file; "" for a regular file, and if nothing is there."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return "a link to nothing" if os.path.islink(path) else ""  # noqa: PTH114 -- a name may be too long
    return "" if stat.S_ISREG(mode) else KINDS.get(stat.S_IFMT(mode), "a special file")


def _no_file(path: Path, kind: str) -> NotFound:
    return NotFound(f"{path} is {kind}, not a file", "move it away, or name another file: --ecosystem FILE")


def load(path: Path) -> Document:
    """Read and validate the file. Raises NotFound, InvalidFile, or CoordinationError if it cannot be read."""
    return snapshot(read_bytes(path), path).document


@lru_cache(maxsize=1)  # an edit starts with the same bytes that were read to plan it
def snapshot(raw: bytes, path: Path) -> Snapshot:
    """Return the content of the file at `path`, from the cache if it was parsed before.
    Raises InvalidFile.
    """
    content = _load_cached(raw, path)
    if content is None:
        content = parse(raw, path).snapshot()
        store_cached(content)
    return content


def read_bytes(path: Path) -> bytes:
    """Return the bytes of the file. Raises NotFound if it is no regular file: a pipe would block for ever."""
    if kind := _other_kind(path):
        raise _no_file(path, kind)
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise NotFound(
            f"there is no file {path}", "write one from the repositories here: coord init"
        ) from error
    except OSError as error:
        raise CoordinationError(
            f"{path} cannot be read: {error.strerror}", "make it readable and try again"
        ) from error


CACHE_FILES = 20
"""Number of cache files that stay, the newest ones."""
_DIGEST_BYTES = hashlib.sha256().digest_size


def _load_cached(raw: bytes, path: Path) -> Snapshot | None:
    """Return the cached content for these bytes at this path, or None."""
    file = _cache_file(path)
    cached = _read_private(file) if file is not None else None
    if cached is None:
        return None
    digest = hashlib.sha256(raw).hexdigest()
    if cached[:_DIGEST_BYTES] != _key(digest):
        return None
    body = memoryview(cached)[2 * _DIGEST_BYTES :]
    if hashlib.sha256(body).digest() != cached[_DIGEST_BYTES : 2 * _DIGEST_BYTES]:
        return None
    with gc_paused():
        ecosystem, warnings, outline = pickle.loads(body)  # noqa: S301 - see the module docstring
    if warnings is not None:
        warnings = tuple(replace(problem, file=str(path)) for problem in warnings)
    document = Document(
        path=path, text=raw, ecosystem=ecosystem, known_warnings=warnings, known_digest=digest
    )
    return Snapshot(document=document, outline=outline)


def store_cached(snapshot: Snapshot) -> None:
    """Write the content of a file into its cache file; a failure is ignored."""
    document = snapshot.document
    place = _cache_file(document.path)
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
    """Delete all but the newest files, among them the unfinished ones of killed processes."""
    newest_first = sorted(folder.iterdir(), key=lambda place: place.lstat().st_mtime, reverse=True)
    for place in newest_first[CACHE_FILES:]:
        place.unlink(missing_ok=True)
