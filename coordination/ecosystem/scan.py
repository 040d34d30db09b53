"""The git checkouts in a folder, as the repositories that a first ecosystem.yaml declares (`first_file.py`)."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from coordination.git import ask_git
from coordination.models import Repo

DEPTH = 3
"""Folders below the first: `group/subgroup/repo` is found."""

NOT_ENTERED = frozenset({"node_modules", "venv", "__pycache__", "site-packages", "vendor", "build", "dist", "target"})


def find_repos(folder: Path, depth: int = DEPTH) -> list[Repo]:
    """Every checkout below `folder`, with its path relative to it, sorted by path; if there is none, `folder` itself.

    What stands inside a checkout (submodules, vendored sources) is its own business; of several worktrees of one
    repository the first counts. Raises GitRefused when there is no git.
    """
    checkouts = list(_checkouts(folder, depth)) or [folder] * _is_checkout(folder)
    repos: list[Repo] = []
    stores: set[str] = set()
    for checkout in checkouts:
        store = ask_git(checkout, "rev-parse", "--path-format=absolute", "--git-common-dir") or str(checkout)
        if store not in stores:
            stores.add(store)
            repos.append(_repo(folder, checkout, {r.name for r in repos}))
    return repos


def _checkouts(folder: Path, depth: int) -> Iterator[Path]:
    for child in _folders(folder):
        if _is_checkout(child):
            yield child
        elif depth > 1 and not child.is_symlink():
            yield from _checkouts(child, depth - 1)


def _folders(folder: Path) -> list[Path]:
    try:
        children = [Path(entry.path) for entry in os.scandir(folder) if entry.is_dir()]
    except OSError:  # not ours to read, or gone
        return []
    return sorted(c for c in children if not c.name.startswith(".") and c.name not in NOT_ENTERED and _is_text(c.name))


def _is_text(name: str) -> bool:
    """Names that are no Unicode cannot be written into the file."""
    return name.isprintable() and not any("\ud800" <= c <= "\udfff" for c in name)


def _is_checkout(folder: Path) -> bool:
    return (folder / ".git").exists()


def _repo(folder: Path, checkout: Path, taken: set[str]) -> Repo:
    relative = checkout.relative_to(folder)
    url = ask_git(checkout, "config", "--get", "remote.origin.url")
    return Repo(
        name=_name(relative if relative.parts else Path(folder.resolve().name), taken),
        path=relative.as_posix(),
        url=without_credentials(url) if url else None,
        branch=_branch(checkout),
    )


def _name(relative: Path, taken: set[str]) -> str:
    """The folder's name in the letters that names are made of; with its parents' when another one has it already."""
    parts = [_plain(part) for part in relative.parts]
    names = ["-".join(parts[-n:]) for n in range(1, len(parts) + 1)]
    numbered = (f"{names[-1]}-{n}" for n in range(2, len(taken) + 3))
    return next(name for name in (*names, *numbered) if name not in taken)


def _plain(part: str) -> str:
    ascii_part = unicodedata.normalize("NFKD", part).encode("ascii", "ignore").decode()
    return re.sub(r"[^A-Za-z0-9._-]+", "-", ascii_part).strip("-.")[:60] or "repo"


def _branch(checkout: Path) -> str:
    """What origin calls its default branch, if it is here too; else the one that is checked out."""
    default = ask_git(checkout, "symbolic-ref", "--short", "refs/remotes/origin/HEAD").removeprefix("origin/")
    if default and ask_git(checkout, "rev-parse", "--verify", "--quiet", f"refs/heads/{default}"):
        return default
    current = ask_git(checkout, "symbolic-ref", "--short", "HEAD")
    return (
        current or ask_git(checkout, "for-each-ref", "--count=1", "--format=%(refname:short)", "refs/heads") or "main"
    )


def without_credentials(url: str) -> str:
    """The address without passwords and tokens: the file is shared. `git@host:path` holds none."""
    if "://" not in url:
        return url
    parts = urlsplit(url)
    user, _, host = parts.netloc.rpartition("@")
    keep = user.partition(":")[0] if parts.scheme in ("ssh", "git+ssh") else ""
    return urlunsplit((parts.scheme, f"{keep}@{host}" if keep else host, parts.path, "", ""))
