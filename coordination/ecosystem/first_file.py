"""The first ecosystem.yaml of a folder: its repositories, and a small plan to begin with."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Sequence
from pathlib import Path

from coordination.ecosystem.yaml_text.values import plain_value
from coordination.errors import CoordinationError, UsageError
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
