"""The size of a change set: commits, files and lines between its base and a commit, as a settle records it.

A todo that committed pays one question to git; its number of commits follows from that of the todo before it.
One that committed nothing pays nothing. A change that git cannot measure in time has no figures, and its todo
succeeds all the same.
"""

from __future__ import annotations

import re
import zlib
from contextlib import suppress
from pathlib import Path

from coordination.errors import GitRefused
from coordination.files import replace_file
from workers.workspace.git import ask
from workers.workspace.git_sessions import NET_CHANGE, WITHIN, GitSessions
from workers.workspace.repository import is_commit

LONGEST_HEAD = 4096
_COUNTS = re.compile(r"(\d+) (file|insertion|deletion)")
_PARENT = re.compile(rb"\nparent ([0-9a-f]+)")


def measure(
    path: Path,
    common_dir: Path,
    base: str,
    since: str,
    tip: str,
    record: Path,
    sessions: GitSessions | None = None,
) -> str:
    """Return `base commits files added removed` of the change from `base` to `tip`; only `base` where git
    cannot tell the others: a commit is missing, the repository is away, or it takes too long.

    `common_dir`: the repository's git directory. `since`: where the todo began. `record`: the file
    with the number of commits at that commit.
    """
    if not (is_commit(base) and is_commit(tip)):
        return ""
    if base == tip:
        return f"{base} 0 0 0 0"
    try:
        net = _net_change(path, common_dir, base, tip, sessions)
        commits = None if net is None else _commits(path, common_dir / "objects", base, since, tip, record)
    except GitRefused:
        return base
    if commits is None or net is None:
        return base
    counts = {noun: int(number) for number, noun in _COUNTS.findall(net)}
    numbers = (counts.get(noun, 0) for noun in ("file", "insertion", "deletion"))
    return " ".join(map(str, (base, commits, *numbers)))


def _net_change(
    path: Path, common_dir: Path, base: str, tip: str, sessions: GitSessions | None
) -> str | None:
    if sessions and (known := sessions.compare(path, common_dir, base, tip)) is not None:
        return known
    net = ask(*NET_CHANGE, base, tip, cwd=path, patience=WITHIN)
    return None if net.returncode else net.stdout


def _commits(path: Path, objects: Path, base: str, since: str, tip: str, record: Path) -> int | None:
    """Return the number of commits since the base, and record it for the next todo."""
    known = 0 if since == base else _recorded(record, since)
    if known is not None and _parents(objects, tip) == [since]:
        count = known + 1
    else:
        counted = ask("rev-list", "--count", tip, f"^{base}", cwd=path, patience=WITHIN)
        if counted.returncode:
            return None
        count = int(counted.stdout)
    with suppress(OSError):
        replace_file(record, f"{tip} {count}".encode(), durable=False)
    return count


def _parents(objects: Path, commit: str) -> list[str]:
    """Return the parents of a commit that was just made; none if it is no loose object.

    A call of git for it takes 2 ms.
    """
    try:
        packed = (objects / commit[:2] / commit[2:]).read_bytes()
        head = zlib.decompressobj().decompress(packed, LONGEST_HEAD).partition(b"\n\n")[0]
    except (OSError, zlib.error):
        return []
    return [name.decode() for name in _PARENT.findall(head)]


def _recorded(record: Path, commit: str) -> int | None:
    try:
        at, _, count = record.read_text().partition(" ")
    except (OSError, ValueError):
        return None
    return int(count) if at == commit and count.isdecimal() else None
