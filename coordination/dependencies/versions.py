"""The version that a provider's checkout has: what its manifest says, else its newest tag.

The files are looked at in the order below, as they lie in the folder; the first one that says a version counts. A manifest
that leaves its version to git (setuptools-scm, hatch-vcs and the like), and one without a version, lead on to the tags.
What a manifest computes by running code cannot be read here.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from packaging.version import Version
from semantic_version import Version as Semantic

from coordination.dependencies import semver
from coordination.dependencies.constraints import Rules, rules_for
from coordination.dependencies.manifests import cargo, npm, pyproject, setup_cfg
from coordination.errors import CoordinationError, NotFound
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


Reader = Callable[[Path], str | None]
"""From a folder to its version, None where its manifest is not there or says none; raises CoordinationError."""

MANIFESTS: dict[str, tuple[Rules, Reader]] = {
    "pyproject.toml": (Rules.PYTHON, pyproject.version),
    "package.json": (Rules.NPM, npm.version),
    "Cargo.toml": (Rules.CARGO, cargo.version),
    "setup.cfg": (Rules.PYTHON, setup_cfg.version),
}


@dataclass(frozen=True, kw_only=True)
class Found:
    version: str
    source: str
    """`pyproject.toml`, `tag v1.2.3`"""
    rules: Rules


def find_version(folder: Path) -> Found:
    """Raises NotFound with all that was looked for, or CoordinationError at a damaged manifest."""
    for name, (rules, read) in MANIFESTS.items():
        if version := read(folder):
            return Found(version=version, source=name, rules=rules)
    if tag := newest_version_tag(folder):
        return Found(version=without_prefix(tag, folder.name), source=f"tag {tag}", rules=_rules_by_name(folder))
    looked = ", ".join(MANIFESTS)
    raise NotFound(f"no version found in {folder}: none in {looked}, and no tag like v1.2.3 on what is checked out")


def find_rules(folder: Path) -> Rules:
    """By which rules the folder's version is judged; where it has none, by which it would be."""
    try:
        found = find_version(folder)
    except CoordinationError:
        return _rules_by_name(folder)
    return rules_for(found.version, found.rules)


def _rules_by_name(folder: Path) -> Rules:
    return next((rules for name, (rules, _) in MANIFESTS.items() if (folder / name).is_file()), Rules.ANY)


def why_not(error: CoordinationError) -> str:
    """On one line."""
    return f"{error.message}; {error.hint}" if error.hint else error.message
