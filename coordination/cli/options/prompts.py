"""Asks for confirmation and missing fields on a terminal; refuses elsewhere, so that no script waits for an
answer.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

import click

from coordination.cli.context import CliContext, despite_quiet
from coordination.cli.options.fields import Field
from coordination.errors import UsageError
from coordination.text import did_you_mean, listed


def on_a_terminal() -> bool:
    """Tell whether a person can read the questions and answer."""
    with despite_quiet():
        return all(stream is not None and stream.isatty() for stream in (sys.stdin, sys.stderr))


yes_option = click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
"""The option of every command that removes what cannot be computed again."""


def confirm(question: str, *, yes: bool) -> None:
    """Return if the user agrees, or has given --yes; else end the command with exit code 1.

    Raises UsageError, with the call to make, where nobody can be asked.
    """
    if yes:
        return
    if not on_a_terminal():
        context = click.get_current_context()
        rehearsed = any(parameter.name == "dry_run" for parameter in context.command.params)
        look = f"look first: {_call_with('--dry-run')}\n  " if rehearsed else ""
        raise UsageError(
            f"there is no terminal to ask for confirmation: {question}",
            f"{look}do it without asking: {_call_with('--yes')}",
        )
    with despite_quiet():
        if not click.confirm(question, err=True):
            click.echo("nothing was changed", err=True)
            click.get_current_context().exit(1)


def _call_with(option: str) -> str:
    """Return this call of coord with one more option, before a `--` that ends the options."""
    call = click.get_current_context().find_object(CliContext)
    words = list(call.arguments) if call else []
    end = words.index("--") if "--" in words else len(words)
    return shlex.join(["coord", *words[:end], option, *words[end:]])


def ask_for_missing(record: dict[str, Any], fields: Iterable[Field]) -> None:
    """Fill in the required fields. Raises UsageError with the options where nobody can be asked."""
    missing = [field for field in fields if field.required and field.field not in record]
    if missing and not on_a_terminal():
        options = " and ".join(field.option for field in missing)
        raise UsageError(f"{options} {'is' if len(missing) == 1 else 'are'} missing", _example(missing))
    for field in missing:
        known = _known(field)
        question = f"{field.key.capitalize()} ({listed(known)})" if known else field.key.capitalize()
        with despite_quiet():
            record[field.field] = click.prompt(question, value_proc=partial(_answer, known), err=True)


def _known(field: Field) -> list[str]:
    """Return the names that the file declares, if the field is one of those."""
    ctx = click.get_current_context()
    return [item.value for item in field.complete(ctx, ctx.command.params[0], "")] if field.complete else []


def _answer(known: Sequence[str], said: str) -> str:
    """Read a value; click asks again if it is wrong."""
    said = said.strip()
    if not said:
        raise click.UsageError("it cannot be empty")
    if known and said not in known:
        raise click.UsageError(f"there is no {said!r}{did_you_mean(said, known)}")
    return said


def _example(missing: Iterable[Field]) -> str:
    text = " ".join(f"{field.option} {field.metavar}" for field in missing)
    return f"{click.get_current_context().command_path} {text}; or --from-file FILE"
