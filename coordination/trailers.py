"""Read the trailers of commits, which any author of a commit may write: they are parsed as hostile.

git puts a NUL around each value, which no message that it shows contains. So a tab or a folded line in a
trailer cannot move another field. A value that is too long or has control characters is malformed: it counts
as absent, and the log names its commit. A history with more commits than MOST_COMMITS is refused and not read
in part, since a commit that is left out would look like work that was never done.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from coordination.errors import GitRefused

MOST_COMMITS = 100_000
"""The most commits of one question: git reads their trailers in about 2 s."""
LONGEST_VALUE = 10_000
"""The most characters of a value: the commit after a revert names the todos of a whole plan."""
_FENCE = re.compile(r"[0-9]{1,19}")
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrailerLog:
    """A question to `git log`: the trailers `Coord-KEY` of commits, and more fields of each."""

    keys: Sequence[str]
    fields: Sequence[str] = ()
    """Placeholders of git, such as %P; each is a key of a row, too."""

    @property
    def options(self) -> tuple[str, ...]:
        """Return the options of `git log`; a --max-count behind them replaces the one here."""
        trailers = (f"%(trailers:key=Coord-{key},valueonly,separator=%x20)" for key in self.keys)
        form = "%x00".join(("%H", *self.fields, *trailers))
        return ("-z", f"--max-count={MOST_COMMITS + 1}", f"--format={form}")

    def rows(self, output: str) -> Iterator[Mapping[str, str]]:
        """Yield the commits of git's output: `commit`, each field, and each key with its value, or with the
        values of repeated trailers behind each other. Raises GitRefused.
        """
        names = ("commit", *self.fields, *self.keys)
        words = output.split("\0")
        if len(words) > MOST_COMMITS * len(names) + 1:
            raise GitRefused(
                f"more than {MOST_COMMITS:,} commits are to be read for their trailers",
                "delete the branch coord/… that has so many: coord run clean, or git branch -D",
            )
        for start in range(0, len(words) - len(words) % len(names), len(names)):
            row = dict(zip(names, words[start : start + len(names)], strict=True))
            yield {**row, **{key: _value(row["commit"], key, row[key]) for key in self.keys}}


FENCES = TrailerLog(("Run", "Fence"))


def fence_of(row: Mapping[str, str]) -> int | None:
    """Return the fence of a commit that FENCES has read; None without a valid one."""
    return int(row["Fence"]) if _FENCE.fullmatch(row["Fence"]) else None


def _value(commit: str, key: str, text: str) -> str:
    if len(text) <= LONGEST_VALUE and (text.isprintable() or not text):
        return text
    logger.warning("commit %s: its trailer Coord-%s is malformed, and ignored", commit, key)
    return ""
