"""What `prepare` left untracked in a worktree (a virtual environment, say): it is neither cleaned away nor committed.

<records>/prepared    it has succeeded
<records>/exclude     patterns of what it left, for git, behind those of the user
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

from coordination.wire.private import open_private
from workers.git import ask


class Prepared:
    def __init__(self, records: Path, checkout: Path) -> None:
        self._done = records / "prepared"
        self._exclude = records / "exclude"
        self._checkout = checkout

    @property
    def done(self) -> bool:
        return self._done.exists()

    def mark(self, left: Iterable[str]) -> None:
        patterns = [_pattern(name) for name in left if name and "\n" not in name]
        text = "\n".join([*_personal_excludes(self._checkout), *patterns, ""])
        with open_private(self._exclude, errors="surrogateescape") as file:
            file.write(text)
        self._done.touch(mode=0o600)

    def forget(self) -> None:
        """The worktree is made anew."""
        for file in (self._done, self._exclude):
            file.unlink(missing_ok=True)

    @property
    def settings(self) -> tuple[str, ...]:
        """For our git."""
        return (f"core.excludesFile={self._exclude}",) if self._exclude.exists() else ()

    @property
    def environment(self) -> dict[str, str]:
        """For the todo's own git: `git add --all` in a todo must not take in what `prepare` left, either."""
        if not self.settings:
            return {}
        name, _, value = self.settings[0].partition("=")
        return {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": name, "GIT_CONFIG_VALUE_0": value}


def _pattern(name: str) -> str:
    return "/" + re.sub(r"([\\*?\[ ])", r"\\\1", name)


def _personal_excludes(checkout: Path) -> list[str]:
    """core.excludesFile names one file, and ours takes the place of the user's: so theirs is copied in."""
    named = ask("config", "--type=path", "--get", "core.excludesFile", cwd=checkout).stdout.strip()
    config = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")  # where git looks, too
    file = Path(named) if named else config / "git" / "ignore"
    return file.read_text(errors="surrogateescape").splitlines() if file.is_file() else []
