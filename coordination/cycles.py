"""The shortest way from a name back to itself."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Mapping


def cycle_through(start: str, after: Mapping[str, Collection[str]], limit: int = -1) -> list[str]:
    """`[start, …, start]` in fewer than `limit` steps, nothing if there is none; no limit where it is negative.

    A breadth-first search; of several equally short ways the first by name.
    """
    came_from: dict[str, str] = {}
    steps = {start: 0}
    queue = deque([start])
    while queue:
        name = queue.popleft()
        if 0 <= limit <= steps[name] + 1:
            break
        if start in after[name]:
            return _walk_back(start, name, came_from)
        for other in sorted(set(after[name]) - steps.keys()):
            came_from[other], steps[other] = name, steps[name] + 1
            queue.append(other)
    return []


def _walk_back(start: str, last: str, came_from: Mapping[str, str]) -> list[str]:
    path = [last]
    while path[-1] != start:
        path.append(came_from[path[-1]])
    return [*reversed(path), start]
