"""Bare remotes of the repositories of a testbed, and what has landed there."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tests.testbed import Testbed, git


def remote(testbed: Testbed, name: str) -> Path:
    return testbed.folder / f"{name}.git"


def add_remotes(testbed: Testbed, *names: str) -> Mapping[str, Mapping[str, str]]:
    """Make repositories with a bare remote each; return repository → its fields in the file."""
    for name in names:
        git(testbed.repo(name), "clone", "-q", "--bare", ".", str(remote(testbed, name)))
    return {name: {"url": str(remote(testbed, name))} for name in names}


def files(testbed: Testbed, name: str) -> list[str]:
    """Return the files on `main` of a remote."""
    return git(remote(testbed, name), "ls-tree", "--name-only", "main").split()


def hook(testbed: Testbed, name: str, kind: str, script: str) -> Path:
    """Make a hook of a remote."""
    path = remote(testbed, name) / "hooks" / kind
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path
