"""The options that narrow a plan to a part of it, said once for every command that has them."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import click

from coordination.cli.completing import repo_names, roles, tags, todo_ids
from coordination.planner.selection import Selectors

OPTIONS = (
    click.option(
        "--repo",
        "repos",
        multiple=True,
        metavar="NAME",
        help="Only todos of this repository.",
        shell_complete=repo_names,
    ),
    click.option(
        "--tag",
        "tags",
        multiple=True,
        metavar="TAG",
        help="Only todos of repositories with this tag.",
        shell_complete=tags,
    ),
    click.option(
        "--role",
        "roles",
        multiple=True,
        metavar="ROLE",
        help="Only todos of repositories with this role.",
        shell_complete=roles,
    ),
    click.option("--todo", "todos", multiple=True, metavar="TODO", help="Only this todo.", shell_complete=todo_ids),
)


def narrowed(command: Callable[..., Any]) -> Callable[..., Any]:
    """The command gets `wanted`. An option may be repeated, which widens; different ones intersect."""

    @wraps(command)
    def with_selectors(
        *args: Any,
        repos: tuple[str, ...],
        tags: tuple[str, ...],
        roles: tuple[str, ...],
        todos: tuple[str, ...],
        **rest: Any,
    ) -> Any:
        return command(*args, wanted=Selectors(repos=repos, tags=tags, roles=roles, todos=todos), **rest)

    narrowed_command: Callable[..., Any] = with_selectors
    for option in reversed(OPTIONS):
        narrowed_command = option(narrowed_command)
    return narrowed_command
