"""The first ecosystem.yaml of a folder: the git repositories found there, and a small example plan."""

from __future__ import annotations

import os
import re
import secrets
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from coordination.ecosystem.editing import exclusive
from coordination.ecosystem.journal import Journal
from coordination.ecosystem.yaml_text.rendering import scalar
from coordination.environment import actor
from coordination.errors import CoordinationError, UsageError
from coordination.git import ask_git
from coordination.models import Repo

_HEAD = """\
# The repositories that work together here, and the work that runs across them.
#
#   coord validate              check this file
#   coord plan forecast {plan}     show what would run, in which order, for how long
#   coord sweep {plan}        run it

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
  id: {id}    # names this ecosystem on a shared Redis; keep it in every copy of this file
"""

_PLAN = """
  plans:
    # An example that changes nothing. Replace it with yours.
    - id: {plan}
      title: A look around
      status: active
      repos: [{repos}]

  todos:
    - id: {todos[0]}
      plan: {plan}
      task: Count the tracked files
      repo: {first}
      estimated_hours: 0.1
      action: git ls-files | wc -l        # a command; or {{type: python | agent | manual}}

    - id: {todos[1]}
      plan: {plan}
      task: Count the tracked files
      repo: {second}
      estimated_hours: 0.1
      action: git ls-files | wc -l

    - id: {todos[2]}
      plan: {plan}
      task: Show the git status
      repo: {first}
      estimated_hours: 0.1
      blocked_by: [{todos[0]}, {todos[1]}]    # todos, issues or plans that come first
      action: git status --short --branch
"""


LINE_OF_ID = "add a line to the section `coordination` of all copies of the file: id: {}"
"""What to do with a file that has no id; takes a new one."""


def new_id() -> str:
    """Return a random ecosystem id; its prefix keeps YAML from reading it as a number."""
    return f"eco-{secrets.token_hex(8)}"


def first_file(repos: Sequence[Repo], plan: str, todos: Sequence[str]) -> str:
    """Return the text of the file: valid without warnings, with a plan that can be swept, unless there are no
    repositories. `plan`, `todos`: the ids of the plan and of its three todos.
    """
    head = _HEAD.format(plan=plan)
    if not repos:
        return head + _NO_REPOS + _ID.format(id=new_id())
    first, second = repos[0].name, repos[min(1, len(repos) - 1)].name
    names = dict.fromkeys((scalar(first, flow=True), scalar(second, flow=True)))
    example = _PLAN.format(
        plan=plan,
        todos=todos,
        repos=", ".join(names),
        first=scalar(first, flow=True),
        second=scalar(second, flow=True),
    )
    return head + _REPOS + "".join(map(_repo, repos)) + _ID.format(id=new_id()) + example


def write_first(path: Path, text: str) -> None:
    """Write the file, and record in its journal who did. Raises UsageError if it exists, and never overwrites
    it.
    """
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError as error:
        raise UsageError(
            f"{path} exists already and was not changed", "edit it, or move it away and try again"
        ) from error
    except OSError as error:
        raise CoordinationError(
            f"{path} cannot be written: {error.strerror}", "make its folder writable and try again"
        ) from error
    with (
        suppress(OSError, CoordinationError),
        exclusive(path),
    ):  # without it the actor in the history is `file`
        Journal(path).catch_up(text.encode(), datetime.now(UTC), actor())


def _repo(repo: Repo) -> str:
    fields = {"name": repo.name, "path": repo.path, "url": repo.url, "branch": repo.branch}
    lines = [f"{name}: {scalar(value, flow=True)}" for name, value in fields.items() if value]
    return "  - " + "\n    ".join(lines) + "\n"


DEPTH = 3
"""Levels of folders that are searched: `group/subgroup/repo` is found."""

NOT_ENTERED = frozenset(
    {"node_modules", "venv", "__pycache__", "site-packages", "vendor", "build", "dist", "target"}
)


def find_repos(folder: Path, depth: int = DEPTH) -> list[Repo]:
    """Return every checkout below `folder` by path, relative to it; if there is none, `folder` itself.

    Checkouts inside a checkout (submodules, vendored sources) are skipped, and only the first of several
    worktrees of one repository is returned. Raises GitRefused if git is not installed.
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
    except OSError:  # not readable, or removed meanwhile
        return []
    return sorted(
        c for c in children if not c.name.startswith(".") and c.name not in NOT_ENTERED and _is_text(c.name)
    )


def _is_text(name: str) -> bool:
    """Return whether the name can be written into the file: printable, and valid Unicode."""
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
    """Return the folder's name in allowed characters, prefixed with parent folders if the name is taken."""
    parts = [_plain(part) for part in relative.parts]
    names = ["-".join(parts[-n:]) for n in range(1, len(parts) + 1)]
    numbered = (f"{names[-1]}-{n}" for n in range(2, len(taken) + 3))
    return next(name for name in (*names, *numbered) if name not in taken)


def _plain(part: str) -> str:
    ascii_part = unicodedata.normalize("NFKD", part).encode("ascii", "ignore").decode()
    return re.sub(r"[^A-Za-z0-9._-]+", "-", ascii_part).strip("-.")[:60] or "repo"


def _branch(checkout: Path) -> str:
    """Return origin's default branch if it exists locally, else the branch that is checked out."""
    default = ask_git(checkout, "symbolic-ref", "--short", "refs/remotes/origin/HEAD").removeprefix("origin/")
    if default and ask_git(checkout, "rev-parse", "--verify", "--quiet", f"refs/heads/{default}"):
        return default
    current = ask_git(checkout, "symbolic-ref", "--short", "HEAD")
    return (
        current
        or ask_git(checkout, "for-each-ref", "--count=1", "--format=%(refname:short)", "refs/heads")
        or "main"
    )


def without_credentials(url: str) -> str:
    """Return the URL without passwords and tokens, because the file is shared.
    `git@host:path` contains none.
    """
    if "://" not in url:
        return url
    parts = urlsplit(url)
    user, _, host = parts.netloc.rpartition("@")
    keep = user.partition(":")[0] if parts.scheme in ("ssh", "git+ssh") else ""
    return urlunsplit((parts.scheme, f"{keep}@{host}" if keep else host, parts.path, "", ""))
