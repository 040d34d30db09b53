"""Git of the test forge: a bare repository whose merges are computed by git itself.

Processes of git take most of the forge's time. So branches are read from their files, answers about commits
are kept, as they cannot change, and one process commits files.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

UPDATE_HOOK = """#!/bin/sh
grep -qxF "$1" protected 2>/dev/null || exit 0
echo "protected branch hook declined: $1 takes changes by pull requests only" >&2
exit 1
"""


ID = re.compile("[0-9a-f]{40}")


class Conflicting(Exception):
    """The merge has conflicts."""


class Moved(Exception):
    """The branch is not at the commit that it was expected at."""


@dataclass(frozen=True)
class Bare:
    path: Path
    answers: dict[tuple[str, ...], str] = field(default_factory=dict, repr=False, compare=False)
    """Words of git that name commits by their ids → its answer."""

    def git(self, *words: str, text: str = "", env: Mapping[str, str] | None = None) -> str:
        done = subprocess.run(
            ["git", *words],
            cwd=self.path,
            input=text,
            capture_output=True,
            text=True,
            env=self._env(env or {}),
        )
        if done.returncode:
            raise subprocess.CalledProcessError(done.returncode, words, done.stdout, done.stderr)
        return done.stdout.strip()

    def _env(self, more: Mapping[str, str]) -> dict[str, str]:
        who = {f"GIT_{role}_{what}": value for role in ("AUTHOR", "COMMITTER")
               for what, value in (("NAME", "Forge"), ("EMAIL", "forge@localhost"))}  # fmt: skip
        return (
            {"PATH": os.environ["PATH"], "HOME": str(self.path), "GIT_CONFIG_NOSYSTEM": "1"}
            | who
            | dict(more)
        )

    def _ask(self, *words: str, about: tuple[str, ...]) -> str:
        """Return git's answer, and keep it if these words are ids of commits."""
        if words in self.answers:
            return self.answers[words]
        answer = self.git(*words)
        if all(map(ID.fullmatch, about)):
            self.answers[words] = answer
        return answer

    def branches(self) -> dict[str, str]:
        if not (self.path / "packed-refs").exists():
            return self._loose_branches()
        lines = self.git(
            "for-each-ref", "--format=%(objectname) %(refname:lstrip=2)", "refs/heads"
        ).splitlines()
        return {name: commit for commit, _, name in (line.partition(" ") for line in lines)}

    def _loose_branches(self) -> dict[str, str]:
        heads, found = self.path / "refs" / "heads", {}
        for file in sorted(heads.rglob("*")):
            with suppress(OSError):  # a folder, or just deleted
                if ID.fullmatch(commit := file.read_text().strip()) and file.suffix != ".lock":
                    found[str(file.relative_to(heads))] = commit
        return found

    def commit(self, name: str) -> str | None:
        """Return the full name of a commit or of a branch's tip."""
        if tip := self.branches().get(name.removeprefix("refs/heads/")):
            return tip
        try:
            return self._ask("rev-parse", "-q", "--verify", f"{name}^{{commit}}", about=(name,))
        except subprocess.CalledProcessError:
            return None

    def contains(self, tip: str, commit: str) -> bool:
        try:
            self._ask("merge-base", "--is-ancestor", commit, tip, about=(commit, tip))
        except subprocess.CalledProcessError:
            return False
        return True

    def ahead(self, base: str, head: str) -> list[str]:
        """Return the commits of `head` that `base` lacks, oldest first, without merges."""
        return self.git("rev-list", "--reverse", "--no-merges", f"{base}..{head}").split()

    def merged_tree(self, ours: str, theirs: str) -> str:
        """Return the tree of a merge. Raises Conflicting."""
        try:
            words = ("merge-tree", "--write-tree", "--no-messages", ours, theirs)
            return self._ask(*words, about=(ours, theirs)).splitlines()[0]
        except subprocess.CalledProcessError as error:
            if error.returncode == 1:
                raise Conflicting from None
            raise

    def commit_tree(
        self, tree: str, *parents: str, message: str, env: Mapping[str, str] | None = None
    ) -> str:
        named = [word for parent in parents for word in ("-p", parent)]
        return self.git("commit-tree", tree, *named, text=message, env=env)

    def replay(self, base: str, head: str) -> str:
        """Return the tip of `head` rebased onto `base`. Raises Conflicting, also where merges are lost."""
        tip = base
        for commit in self.ahead(base, head):
            # `merge-tree --merge-base` needs git 2.40: three commits without history say the same.
            parent = self.git("rev-parse", f"{commit}^^{{tree}}")
            old = self.commit_tree(parent, message="base")
            ours, theirs = (
                self.commit_tree(f"{side}^{{tree}}", old, message="side") for side in (tip, commit)
            )
            tree = self.merged_tree(ours, theirs)
            names = ("GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL", "GIT_AUTHOR_DATE")
            said = self.git("log", "-1", "--format=%an%n%ae%n%ad", "--date=raw", commit).splitlines()
            message = self.git("log", "-1", "--format=%B", commit)
            tip = self.commit_tree(tree, tip, message=message, env=dict(zip(names, said, strict=True)))
        if self.git("rev-parse", f"{tip}^{{tree}}") != self.merged_tree(base, head):
            raise Conflicting
        return tip

    def move(self, branch: str, new: str, old: str) -> None:
        """Set a branch from `old` to `new`; "" is no branch. Raises Moved."""
        nothing = "0" * 40
        try:
            self.git("update-ref", f"refs/heads/{branch}", new or nothing, old or nothing)
        except subprocess.CalledProcessError:
            raise Moved from None

    def write(self, branch: str, files: Mapping[str, str], message: str, start: str = "") -> str:
        """Commit files onto a branch, as a person does; begin it at `start`. Return the commit."""
        old = self.commit(f"refs/heads/{branch}") or ""
        parent = old or self.commit(start) or ""
        stream = [f"commit refs/heads/{branch}", "mark :1", "committer Forge <forge@localhost> now"]
        stream += [data(message), *([f"from {parent}"] if parent else [])]
        stream += [line for name, text in files.items() for line in (f"M 100644 inline {name}", data(text))]
        text = "\n".join([*stream, "get-mark :1", ""])
        # One pack instead of loose objects, for which it would start another process.
        return self.git(
            "-c", "fastimport.unpackLimit=0", "fast-import", "--quiet", "--date-format=now", text=text
        )

    def keep(self, commit: str, *refs: str) -> None:
        """Set refs, so that the commit stays."""
        self.git("update-ref", "--stdin", text="".join(f"update {ref} {commit}\n" for ref in refs))

    def protect(self, branches: list[str]) -> None:
        """Refuse pushes to these branches, by a real hook."""
        (self.path / "protected").write_text("".join(f"refs/heads/{name}\n" for name in branches))
        hook = self.path / "hooks" / "update"
        hook.write_text(UPDATE_HOOK)
        hook.chmod(0o755)


def data(text: str) -> str:
    """Return a text as `git fast-import` reads it."""
    return f"data {len(text.encode())}\n{text}"
