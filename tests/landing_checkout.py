"""A checkout with a change set, and the base branch on which the change set lands."""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from coordination.models import Method
from tests.worktrees import ANN, git, save
from workers.landing.commits import landing_message, prepare
from workers.landing.records import BaseBranch, Prepared

POINTER = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 1\n"
"""A file of Git LFS, as git has it."""
LINES = "".join(f"line {number}\n" for number in range(30))


def fake_git_lfs(folder: Path, monkeypatch: pytest.MonkeyPatch, *, says: str = "") -> Path:
    """Put a `git lfs` into PATH which fails if it `says` something; return the file that gets its words and
    its input.
    """
    program, called = folder / "bin" / "git-lfs", folder / "called"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\n{{ echo "$@"; cat; }} >> {called}\necho "{says}" >&2\ntest -z "{says}"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    return called


class LandingCheckout:
    """A checkout on `main`, with the change set `since..tip` beside it: two commits, three files."""

    def __init__(self, path: Path, url: str = "") -> None:
        self.path = path
        self.scripts = path.parent / "scripts"
        save(path, "text", text=LINES, old="old\n")
        self.since = self.tip_of("main")
        git("switch", "--quiet", "-c", "coord/PLAN", cwd=path)
        save(path, "work one", text=LINES.replace("line 3\n", "line three\n"), new="new\n")
        (path / "old").unlink()
        self.tip = save(path, "work two", new="new\nnewer\n")
        git("switch", "--quiet", "main", cwd=path)
        self.at = BaseBranch(
            repo="widgets", path=path, branch="main", url=url, patience=timedelta(seconds=60)
        )

    def at_url(self, url: str, **more: object) -> BaseBranch:
        return replace(self.at, url=url, **more)  # type: ignore[arg-type]

    def tip_of(self, name: str) -> str:
        return git("rev-parse", name, cwd=self.path)

    def files(self, name: str) -> dict[str, str]:
        names = git("ls-tree", "-r", "--name-only", name, cwd=self.path).splitlines()
        return {file: git("show", f"{name}:{file}", cwd=self.path) for file in names}

    def person(self, *words: str) -> str:
        """A git command of a person in the checkout; returns HEAD."""
        git(*words, cwd=self.path, settings=ANN)
        return self.tip_of("HEAD")

    def made(self, base: str, method: Method = Method.MERGE, tip: str = "", since: str = "") -> Prepared:
        tip, since = tip or self.tip, since or self.since
        message = landing_message("Widgets", plan="PLAN", run="r1", base=base, tip=tip)
        found = prepare(self.at, base=base, tip=tip, since=since, method=method, message=message)
        assert isinstance(found, Prepared), found
        return found
