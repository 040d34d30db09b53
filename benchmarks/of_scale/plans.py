"""Plans of any size on 500 repositories: each todo stands after up to three others, in other repositories."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

REPOS = 500
BACK = (501, 733, 977)
NOOP = {"type": "noop"}


def repos(n: int = REPOS) -> list[str]:
    return [f"repo-{i:03d}" for i in range(n)]


def todos(n: int, names: Sequence[str], action: Any = NOOP) -> list[Mapping[str, Any]]:
    return [
        {
            "id": f"TODO-{i:05d}",
            "task": f"nothing, for the {i}th time",
            "repo": names[i % len(names)],
            "blocked_by": [f"TODO-{i - back:05d}" for back in BACK if i >= back],
            "action": action,
        }
        for i in range(n)
    ]
