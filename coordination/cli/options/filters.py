"""The options that narrow a list: several values of one are any of them, different ones intersect."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Any

import click

from coordination.cli import completing
from coordination.cli.completing import Complete, listed
from coordination.cli.options.choices import one_of

Command = Callable[..., Any]


def by_word(option: str, kind: type[StrEnum]) -> Callable[[Command], Command]:
    """A field that has one of a few words."""
    return _filter(option, "WORD,…", f"Any of {one_of(kind)}", completing.words(kind))


def by_name(option: str, help_: str) -> Callable[[Command], Command]:
    """A field that names somebody or something."""
    return _filter(option, f"{option.removeprefix('--').upper()},…", help_, NAMES[option])


NAMES: dict[str, Complete] = {
    "--repo": completing.repo_names,
    "--consumer": completing.repo_names,
    "--provider": completing.repo_names,
    "--assignee": completing.assignees,
    "--label": completing.labels,
    "--plan": completing.plan_ids,
    "--dep": completing.dependency_ids,
    "--tag": completing.tags,
    "--role": completing.roles,
}


def _filter(option: str, metavar: str, help_: str, complete: Complete) -> Callable[[Command], Command]:
    return click.option(
        option,
        metavar=metavar,
        multiple=True,
        callback=_several,
        help=help_,
        shell_complete=listed(complete),
    )


def _several(ctx: click.Context, parameter: click.Parameter, given: tuple[str, ...]) -> tuple[str, ...] | None:
    """None where nothing was said; an empty value is most likely an empty variable, and would pass as no filter."""
    values = tuple(part.strip() for text in given for part in text.split(","))
    if "" in values:
        raise click.BadParameter("an empty value matches nothing; leave the option out", ctx, parameter)
    return values or None
