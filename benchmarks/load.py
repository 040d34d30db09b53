"""How long an ecosystem.yaml with 10,000 todos takes to load, beside plain `yaml.safe_load`.

    python -m benchmarks.load [TODOS]

Loading is reading, validating and checking every reference, without the cache; safe_load only reads. The best
of three counts for ours, one run for the other.
"""

from __future__ import annotations

import sys
from pathlib import Path

import yaml

from benchmarks.clock import best, seconds
from coordination.ecosystem.document import parse

REPOS = 97
HEAD = "coordination:\n  plans:\n    - {id: PLAN-001, title: One large plan}\n  todos:\n"
TODO = """\
    - id: TODO-{i:05}
      task: Raise the minimum version in package {i}
      description: "What is to be done for number {i}, in a sentence of some length"
      repo: repo-{repo}
      plan: PLAN-001
      status: pending      # by hand
      priority: high
      created: 2026-01-{day:02}
      updated: "2026-01-{day:02}"
      estimated_hours: {hours}
      blocked_by: [{blocker}]
      assignee: someone
      labels: [maintenance, python]
      acceptance_criteria:
        - tests pass
        - reviewed by {i}
      action: python -m pytest -q
      timeout: 10m
"""


def ecosystem(todos: int) -> str:
    repos = "".join(f"  - {{name: repo-{i}, path: ../repo-{i}, tags: [python]}}\n" for i in range(REPOS))
    items = (
        TODO.format(
            i=i,
            repo=i % REPOS,
            day=1 + i % 28,
            hours=1 + i % 7 / 4,
            blocker=f"TODO-{i - REPOS:05}" if i >= REPOS else "",
        )
        for i in range(todos)
    )
    return f"repos:\n{repos}{HEAD}{''.join(items)}"


def main(todos: int) -> None:
    text = ecosystem(todos)
    raw = text.encode()
    ours = best(lambda: parse(raw, Path("ecosystem.yaml")), 3)
    plain = seconds(lambda: yaml.safe_load(text))
    print(f"{todos} todos, {len(text) / 1e6:.1f} MB")
    print(f"load and validate  {ours:6.2f} s")
    print(f"yaml.safe_load     {plain:6.2f} s   {plain / ours:.0f} times as long as load")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000)
