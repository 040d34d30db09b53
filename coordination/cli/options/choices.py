"""Options with a few words to choose from: named in the help's text, which wraps, instead of beside the option, which does not."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])


def choice(option: str, kind: type[StrEnum], help_: str) -> Callable[[Command], Command]:
    """`help_` is what stands before the words."""
    words = [member.value for member in kind]
    return click.option(
        option, metavar="WORD", type=click.Choice(words, case_sensitive=False), help=f"{help_} {one_of(kind)}"
    )


def one_of(kind: type[StrEnum]) -> str:
    """The words as the end of a sentence."""
    *words, last = (member.value for member in kind)
    return f"{', '.join(words)} or {last}."
