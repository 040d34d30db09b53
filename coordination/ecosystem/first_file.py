"""The first ecosystem.yaml of a folder: its repositories, and a small plan to begin with.

The git checkouts in a folder, as the repositories that a first ecosystem.yaml declares (`first_file.py`).
"""

from __future__ import annotations

import json
import os
import re
import secrets
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from coordination.ecosystem.yaml_text.values import plain_value
from coordination.errors import CoordinationError, UsageError
from coordination.git import ask_git
from coordination.models import Repo

_NEEDS_NO_QUOTES = re.compile(r"[A-Za-z./][A-Za-z0-9._/@+-]*(?:://?[A-Za-z0-9._/@+-]*)*")

_HEAD = """\
# The repositories that work together here, and the work that runs across them.
#
#   coord validate              is this file right?
#   coord forecast PLAN-001     what would run, in which order, for how long
#   coord sweep PLAN-001        run it

"""

_NO_REPOS = """\
# No git repositories were found here. Declare yours:
#
#   - name: my-service          # what the rest of the file calls it
#     path: ../my-service       # relative to this file
#     branch: main              # runs start from its tip
repos: []
"""

_REPOS = """\
repos:
  # path is relative to this file; runs start from the tip of branch, in a worktree of their own.
  # Also: role, tags, slots, prepare (makes a fresh worktree usable), qa (its own check command), workspace.
"""

_ID = """
coordination:
  id: {id}    # tells this ecosystem from others on one Redis; the same in every copy of this file
"""

_PLAN = """
  plans:
    # An example that changes nothing. Replace it with yours.
    - id: PLAN-001
      title: A look around
      status: active
      repos: [{repos}]

  todos:
    - id: TODO-001
      plan: PLAN-001
      task: Count the tracked files
      repo: {first}
      estimated_hours: 0.1
      action: git ls-files | wc -l        # a command; or {{type: python | agent | manual}}

    - id: TODO-002
      plan: PLAN-001
      task: Count the tracked files
      repo: {second}
      estimated_hours: 0.1
      action: git ls-files | wc -l

    - id: TODO-003
      plan: PLAN-001
      task: Say where it stands
      repo: {first}
      estimated_hours: 0.1
      blocked_by: [TODO-001, TODO-002]    # todos, issues or plans that come first
      action: git status --short --branch
"""


def new_id() -> str:
    """A random id of an ecosystem; the word before it keeps YAML from reading a number."""
    return f"eco-{secrets.token_hex(8)}"


def first_file(repos: Sequence[Repo]) -> str:
    """Its text: valid without warnings, and PLAN-001 can be swept as it is. Without repositories there is no plan."""
    if not repos:
        return _HEAD + _NO_REPOS + _ID.format(id=new_id())
    first, second = repos[0].name, repos[min(1, len(repos) - 1)].name
    names = dict.fromkeys((_scalar(first), _scalar(second)))
    plan = _PLAN.format(repos=", ".join(names), first=_scalar(first), second=_scalar(second))
    return _HEAD + _REPOS + "".join(map(_repo, repos)) + _ID.format(id=new_id()) + plan


def write_first(path: Path, text: str) -> None:
    """Write the file, never over another one; raises UsageError when there is one."""
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError as error:
        raise UsageError(
            f"{path} exists already and was left as it is", "edit it, or take it away and try again"
        ) from error
    except OSError as error:
        raise CoordinationError(
            f"{path} cannot be written: {error.strerror}", "make its folder writable and try again"
        ) from error


def _repo(repo: Repo) -> str:
    fields = {"name": repo.name, "path": repo.path, "url": repo.url, "branch": repo.branch}
    lines = [f"{name}: {_scalar(value)}" for name, value in fields.items() if value]
    return "  - " + "\n    ".join(lines) + "\n"


def _scalar(text: str) -> str:
    """As it is where YAML cannot take it for anything else; else in double quotes, which JSON's are."""
    plain = _NEEDS_NO_QUOTES.fullmatch(text) and plain_value(text) == text
    return text if plain else json.dumps(text, ensure_ascii=False)


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
            repos.append(_scanned_repo(folder, checkout, {r.name for r in repos}))
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


def _scanned_repo(folder: Path, checkout: Path, taken: set[str]) -> Repo:
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
