"""Work of a todo that its commit does not contain: the reasons, and the record that every front end shows."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import Annotated

from pydantic import Field, TypeAdapter

from coordination.frozen import FrozenModel
from coordination.text import counted

PATHS_SHOWN = 10
LONGEST_PATH = 200
LIMIT_CHARACTERS = 20_000
"""The longest list as text: a worker writes it, and a front end reads it whole."""

Text = Annotated[str, Field(max_length=2000)]


class NotCommittedReason(StrEnum):
    """Reasons why files of a todo are not in its commit; `text` is the same for people."""

    REPOSITORY = "repository"
    """A git repository within the worktree: git would record its commit, which no other place has. The todo
    fails.
    """
    UNREADABLE = "unreadable"
    """A folder that git cannot read. The todo fails."""
    SUBMODULE_CHANGES = "submodule_changes"
    """Changes in a submodule that no commit there has. The worktree is kept."""
    SUBMODULE_COMMIT = "submodule_commit"
    """A commit of a submodule that only the worktree has. The worktree is kept."""
    IGNORED = "ignored"
    """Files that .gitignore names: later todos of the run in the repository have them, nobody else has."""
    REFS = "refs"
    """Branches and tags of a todo in a sandbox beside the current branch: nobody has them."""
    HOOKS = "hooks"
    """Changes that git hooks have left beside the commit. The worktree is kept, until another todo runs in
    it.
    """
    SPECIAL = "special"
    """Pipes, sockets and devices of a todo in a sandbox, and a `.gitignore` that is too large for git: they
    were removed.
    """

    @property
    def text(self) -> str:
        return _TEXTS[self]

    @property
    def keeps_worktree(self) -> bool:
        """Return whether the run's worktree stays because of it, although the run succeeded."""
        return self in (
            NotCommittedReason.SUBMODULE_CHANGES,
            NotCommittedReason.SUBMODULE_COMMIT,
            NotCommittedReason.HOOKS,
        )


_TEXTS = {
    NotCommittedReason.REPOSITORY: "a git repository of its own",
    NotCommittedReason.UNREADABLE: "git cannot read it",
    NotCommittedReason.SUBMODULE_CHANGES: "changes that are in no commit of the submodule",
    NotCommittedReason.SUBMODULE_COMMIT: "its commit is in this worktree alone",
    NotCommittedReason.IGNORED: "ignored by git",
    NotCommittedReason.REFS: "a branch or tag that is not taken from a sandbox",
    NotCommittedReason.HOOKS: "left by git hooks after the commit",
    NotCommittedReason.SPECIAL: "no file, or too large for git to read, and removed",
}


class NotCommitted(FrozenModel):
    """Files of a todo that are not in its commit, for one reason."""

    reason: NotCommittedReason
    paths: tuple[Text, ...] = Field(max_length=PATHS_SHOWN)
    """The first files and folders (with `/` at the end), relative to the worktree."""
    count: int
    """Number of all files and folders."""
    hint: Text = ""
    """The next command or step; empty without one."""

    @property
    def text(self) -> str:
        """Return `vendor/tmpl: a git repository of its own`."""
        more = f" and {self.count - len(self.paths)} more" if self.count > len(self.paths) else ""
        return f"{', '.join(self.paths)}{more}: {self.reason.text}"


def not_committed(reason: NotCommittedReason, paths: Sequence[str], hint: str = "") -> NotCommitted:
    """Return the record of these files, whatever their names are."""
    shown = (path.encode(errors="replace").decode()[:LONGEST_PATH] for path in paths[:PATHS_SHOWN])
    return NotCommitted(reason=reason, paths=tuple(shown), count=len(paths), hint=hint)


_LIST = TypeAdapter(tuple[NotCommitted, ...])


def written(found: Iterable[NotCommitted]) -> str:
    """Return the records as text for Redis or a file; empty without any. The last ones of a very long list
    are left out.
    """
    kept = [one.model_dump(mode="json", exclude_defaults=True) for one in found]
    while kept and len(text := json.dumps(kept, separators=(",", ":"))) > LIMIT_CHARACTERS:
        kept.pop()
    return text if kept else ""


def read(text: str | None) -> tuple[NotCommitted, ...]:
    """Return the records of a text. Raises ValueError."""
    if not text:
        return ()
    if len(text) > LIMIT_CHARACTERS:
        raise ValueError(f"the list has more than {counted(LIMIT_CHARACTERS, 'character')}")
    return _LIST.validate_json(text)
