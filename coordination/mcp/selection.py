"""The tools that a server offers: a core that every agent can afford, all, or those of some nouns."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from fastmcp.tools import Tool

from coordination.errors import UsageError
from coordination.text import did_you_mean

CORE_NAME, ALL_NAME = "core", "all"
CORE = frozenset(
    f"coord_{name}"
    for name in (
        *("list_issues", "get_issue", "create_issue", "update_issue", "close_issue", "get_blocking_issues"),
        *("list_todos", "get_todo", "create_todo", "complete_todo", "list_plans", "propose_plan"),
        *("list_dependencies", "check_dependencies", "get_repo_status", "get_ecosystem_status"),
        *("plan_forecast", "run_sweep", "run_list", "run_show", "run_logs", "run_retry", "history_search"),
    )
)
"""The tools of the specification, and those that execute a plan and follow it."""


@dataclass(frozen=True, kw_only=True)
class Selection:
    """`named`: `core`, `all`, or nouns such as `run,service`, whose tools are added to the core."""

    named: str = ALL_NAME
    read_only: bool = False

    def of(self, tools: Iterable[Tool]) -> Iterator[Tool]:
        """Yield the selected tools. Raises UsageError for a noun that no tool has."""
        every = list(tools)
        nouns = {noun.strip() for noun in self.named.split(",")} - {CORE_NAME}
        known = {word for tool in every for word in _words(tool.name)}
        for noun in sorted(nouns - {ALL_NAME} - known):
            raise UsageError(
                f"there are no tools for {noun!r}{did_you_mean(noun, known)}",
                f"name nouns, as in --tools run,service; or --tools {ALL_NAME}",
            )
        for tool in every:
            wanted = ALL_NAME in nouns or tool.name in CORE or nouns & _words(tool.name)
            hints = tool.annotations
            if wanted and not (self.read_only and hints and not hints.read_only_hint):
                yield tool


EVERY = Selection()


def _words(name: str) -> set[str]:
    """Return the words of a tool's name, plural ones also in the singular."""
    words = name.removeprefix("coord_").split("_")
    return {form for word in words for form in (word, re.sub("s$", "", re.sub("ies$", "y", word)))}
