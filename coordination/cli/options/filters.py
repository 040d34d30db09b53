"""Options that several commands have: filters of lists, the selection of a part of a plan, and an address to
listen on.

Several values of one filter are alternatives; different filters all apply.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from enum import StrEnum
from functools import wraps
from typing import Any

import click

from coordination.api import Selectors, texts
from coordination.cli import completion
from coordination.cli.completion import Complete, listed, repo_names, roles, tags, todo_ids
from coordination.cli.options.values import one_of
from coordination.errors import UsageError

Command = Callable[..., Any]


def by_word(option: str, kind: Iterable[StrEnum]) -> Callable[[Command], Command]:
    """Filter by a field with few values."""
    return _filter(option, "WORD,…", f"Any of {one_of(kind)}", completion.enum_values(kind))


def by_name(option: str, help_: str) -> Callable[[Command], Command]:
    """Filter by a field that names a record, a person or a label."""
    return _filter(option, f"{option.removeprefix('--').upper()},…", help_, NAMES[option])


NAMES: dict[str, Complete] = {
    "--repo": completion.repo_names,
    "--consumer": completion.repo_names,
    "--provider": completion.repo_names,
    "--assignee": completion.assignees,
    "--label": completion.labels,
    "--plan": completion.plan_ids,
    "--dep": completion.dependency_ids,
    "--tag": completion.tags,
    "--role": completion.roles,
}


of_repo = click.option(
    "--repo",
    metavar="REPO",
    shell_complete=completion.repo_names,
    help="Events that concern this repository.",
)


def _filter(option: str, metavar: str, help_: str, complete: Complete) -> Callable[[Command], Command]:
    return click.option(
        option,
        metavar=metavar,
        multiple=True,
        callback=_several,
        help=help_,
        shell_complete=listed(complete),
    )


def _several(
    ctx: click.Context, parameter: click.Parameter, given: tuple[str, ...]
) -> tuple[str, ...] | None:
    """Return None without the option. An empty value is most likely an empty variable, so it is refused."""
    values = tuple(part.strip() for text in given for part in text.split(","))
    if "" in values:
        raise click.BadParameter("an empty value matches nothing; leave the option out", ctx, parameter)
    return values or None


OPTIONS = (
    click.option(
        "--repo",
        "repos",
        multiple=True,
        metavar="NAME",
        help=texts.TODOS_OF_REPOS,
        shell_complete=repo_names,
    ),
    click.option(
        "--tag",
        "tags",
        multiple=True,
        metavar="TAG",
        help="Select todos of repositories with this tag.",
        shell_complete=tags,
    ),
    click.option(
        "--role",
        "roles",
        multiple=True,
        metavar="ROLE",
        help="Select todos of repositories with this role.",
        shell_complete=roles,
    ),
    click.option("--todo", "todos", multiple=True, metavar="TODO", help=texts.TODOS, shell_complete=todo_ids),
)


def narrowed(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that select a part of a plan. An option that is repeated widens; different options
    intersect.
    """

    @wraps(command)
    def with_selectors(
        *args: Any,
        repos: tuple[str, ...],
        tags: tuple[str, ...],
        roles: tuple[str, ...],
        todos: tuple[str, ...],
        **rest: Any,
    ) -> Any:
        return command(*args, selectors=Selectors(repos=repos, tags=tags, roles=roles, todos=todos), **rest)

    narrowed_command: Callable[..., Any] = with_selectors
    for option in reversed(OPTIONS):
        narrowed_command = option(narrowed_command)
    return narrowed_command


REPO_OPTIONS = (
    click.option(
        "--repo", "repos", multiple=True, metavar="REPO", help=texts.SOME_REPOS,
        shell_complete=repo_names,
    ),
    click.option(
        "--tag", "tags", multiple=True, metavar="TAG", help=texts.TAGS,
        shell_complete=tags,
    ),
    click.option(
        "--role", "roles", multiple=True, metavar="ROLE", help=texts.ROLES,
        shell_complete=roles,
    ),
    click.option("--all", "all_repos", is_flag=True, help=texts.ALL_REPOS),
)  # fmt: skip


def selects_repos(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that select repositories. An option that is repeated widens; different options
    intersect.
    """

    @wraps(command)
    def with_repos(
        *args: Any, repos: tuple[str, ...], tags: tuple[str, ...], roles: tuple[str, ...], **rest: Any
    ) -> Any:
        return command(*args, selectors=Selectors(repos=repos, tags=tags, roles=roles), **rest)

    selecting: Callable[..., Any] = with_repos
    for option in reversed(REPO_OPTIONS):
        selecting = option(selecting)
    return selecting


LOOPBACK = "127.0.0.1"


def listen_option(port: int) -> Callable[..., Any]:
    return click.option(
        "--listen",
        metavar="[HOST:]PORT",
        default=f"{LOOPBACK}:{port}",
        show_default=True,
        help="Listen at this address.",
    )


def parse(option: str, words: str) -> tuple[str, int]:
    """Return host and port. Raises UsageError."""
    found = re.fullmatch(r"(?:\[?(?P<host>[^\]]+)\]?:)?(?P<port>\d{1,5})", words)
    if found is None or not 0 < int(found["port"]) < 65536:
        raise UsageError(f"{option} {words}: no address to listen on", "write a port, or HOST:PORT")
    return found["host"] or LOOPBACK, int(found["port"])
