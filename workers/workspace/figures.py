"""The size of a change set: commits, files and lines between its base and a commit, as a settle records it.

A todo that committed pays one call of git; its number of commits follows from that of the todo before it. One
that committed nothing pays nothing. A change that git cannot measure in time has no figures, and its todo
succeeds all the same.
"""

from __future__ import annotations

import re
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

from coordination.errors import GitRefused
from coordination.files import replace_file
from workers.workspace.git import ask
from workers.workspace.repository import is_commit

WITHIN = timedelta(seconds=5)
"""The most time that git may take for one of the calls: a change of a gigabyte has no figures."""
MARK = "\x01"
NET_CHANGE = (
    *("diff-tree", "--stdin", "--no-ext-diff", "--no-textconv", "--no-renames", "--shortstat", "--always"),
    f"--format={MARK}%P",
)
_COUNTS = re.compile(r"(\d+) (file|insertion|deletion)")


def measure(path: Path, base: str, since: str, tip: str, record: Path) -> str:
    """Return `base commits files added removed` of the change from `base` to `tip`; only `base` where git
    cannot tell the others: a commit is missing, the repository is away, or it takes too long.

    `since`: where the todo began. `record`: the file with the number of commits at that commit.
    """
    if not (is_commit(base) and is_commit(tip)):
        return ""
    if base == tip:
        return f"{base} 0 0 0 0"
    try:
        # Git shows the commit with its own parents, and then, as if `base` were its parent, the net change.
        shown = ask(*NET_CHANGE, cwd=path, stdin=f"{tip}\n{tip} {base}\n", patience=WITHIN)
        _, own, net = (*shown.stdout.split(MARK), "", "")[:3]
        if shown.returncode or not net:
            return base
        commits = _commits(path, base, since, tip, own.split("\n", 1)[0].strip(), record)
    except GitRefused:
        return base
    if commits is None:
        return base
    counts = {noun: int(number) for number, noun in _COUNTS.findall(net)}
    numbers = (counts.get(noun, 0) for noun in ("file", "insertion", "deletion"))
    return " ".join(map(str, (base, commits, *numbers)))


def _commits(path: Path, base: str, since: str, tip: str, parent: str, record: Path) -> int | None:
    """Return the number of commits since the base, and record it for the next todo."""
    known = _recorded(record, since) if parent == since else None
    if parent == base:
        count = 1
    elif known is not None:
        count = known + 1
    else:
        counted = ask("rev-list", "--count", tip, f"^{base}", cwd=path, patience=WITHIN)
        if counted.returncode:
            return None
        count = int(counted.stdout)
    with suppress(OSError):
        replace_file(record, f"{tip} {count}".encode(), durable=False)
    return count


def _recorded(record: Path, commit: str) -> int | None:
    try:
        at, _, count = record.read_text().partition(" ")
    except OSError:
        return None
    return int(count) if at == commit and count.isdecimal() else None
