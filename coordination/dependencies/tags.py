"""The newest version among the tags of what is checked out."""

from __future__ import annotations

import re
from pathlib import Path

from packaging.version import Version
from semantic_version import Version as Semantic

from coordination.dependencies import semver
from coordination.git import ask_git

_VERSION = re.compile(r"\d+\.\d")
"""A number alone is no version: `v3` moves along at those who use it so, and `2026` counts something else."""


def newest_version_tag(folder: Path) -> str | None:
    """By the order of versions, not of time: a late mend of 1.4 is not newer than 2.0. Only tags that HEAD holds count."""
    tags = ask_git(folder, "tag", "--merged", "HEAD").split("\n")
    versions = {tag: order for tag in tags if (order := _order(without_prefix(tag, folder.name)))}
    return max(versions, key=versions.__getitem__, default=None)


def without_prefix(tag: str, name: str) -> str:
    """`v1.2`, `release-1.2` and, where several packages share a repository, `name-v1.2`, `name@1.2`, `name/1.2`."""
    return re.sub(rf"^(?:(?:release|version|{re.escape(name)})[-@/_])?[vV]?(?=\d)", "", tag)


def _order(text: str) -> tuple[Version, Semantic] | None:
    """Both orders in one: a version that only one of them can read stands by its release in the other."""
    if not _VERSION.match(text):
        return None
    try:
        version = Version(text)
        return version, _semantic(text) or Semantic("0.0.0")
    except ValueError:
        semantic = _semantic(text)
        return (Version(f"{semantic.truncate()}.dev0"), semantic) if semantic else None


def _semantic(text: str) -> Semantic | None:
    try:
        return semver.read_version(text)
    except semver.Unreadable:
        return None
