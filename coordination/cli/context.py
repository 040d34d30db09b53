"""The object that every command gets: the options before the command, and the facade that they open; warnings
and questions to the user.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import click

from coordination.errors import UsageError

if TYPE_CHECKING:  # `coord --help` needs none of it
    from logging import Handler, LogRecord

    from coordination.api.facade import Facade

LOG_FORMAT = "%(here)s %(levelname)s %(name)s: %(message)s"


class CliContext:
    """One call of `coord`. `close` closes its connections and restores stderr."""

    def __init__(self, arguments: Sequence[str] = ()) -> None:
        self.arguments = tuple(arguments)
        """The arguments after `coord`, as they were typed."""
        self.ecosystem: str | None = None
        """The value of `--ecosystem`."""
        self.redis: str | None = None
        """The value of `--redis`."""
        self.no_pager = False
        """The value of `--no-pager`."""
        self._verbosity = 0
        self._messages: TextIO | None = None
        """Standard error, while --quiet drops messages."""
        self._log: Handler | None = None

    @cached_property
    def coord(self) -> Facade:
        from coordination.api.facade import Facade
        from coordination.environment import ecosystem_path_from_environment

        named = self.ecosystem or ecosystem_path_from_environment()
        return Facade(named or None, self.redis, warn=warn)

    def note_unknown_runs(self) -> None:
        """Print a note if Redis did not answer: todos that a run executes are then shown as in the file."""
        if not self.coord.manager.runs_known:
            click.echo(
                "Redis gave no answer: todos that a run executes now are shown as the file has them", err=True
            )

    @property
    def is_quiet(self) -> bool:
        return self._messages is not None

    @property
    def is_verbose(self) -> bool:
        return self._verbosity > 0

    def log(self, more: int) -> None:
        """Write log lines of coord to standard error: INFO, then DEBUG. Other libraries log warnings only."""
        import logging

        self._refuse_both(self._messages is not None)
        self._verbosity += more
        ours = logging.getLogger("coordination")
        if self._log is None:
            self._log = logging.StreamHandler(sys.stderr)
            self._log.setFormatter(logging.Formatter(LOG_FORMAT))
            self._log.addFilter(_add_time)
            ours.addHandler(self._log)
        ours.setLevel(logging.INFO if self._verbosity == 1 else logging.DEBUG)

    def be_quiet(self) -> None:
        """Drop messages: what this process writes to standard error until `close`, except `despite_quiet`."""
        self._refuse_both(self._verbosity > 0)
        if self._messages is None:
            self._messages = sys.stderr
            sys.stderr = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 (`close` closes it)

    def _refuse_both(self, both: bool) -> None:
        if both:
            raise click.UsageError("--verbose and --quiet contradict each other; choose one")

    @contextmanager
    def despite_quiet(self) -> Iterator[None]:
        """Print messages inside the block also with --quiet."""
        if self._messages is None:
            yield
            return
        with contextlib.redirect_stderr(self._messages):
            yield

    def close(self) -> None:
        try:
            if "coord" in self.__dict__:
                self.coord.close()
        finally:
            self._restore()

    def _restore(self) -> None:
        if self._messages is not None:
            sys.stderr.close()
            sys.stderr, self._messages = self._messages, None
        if self._log is not None:
            import logging

            ours = logging.getLogger("coordination")
            ours.removeHandler(self._log)
            ours.setLevel(logging.NOTSET)


def this_call() -> CliContext:
    """Return the present call of coord."""
    call = click.get_current_context().find_object(CliContext)
    assert call is not None
    return call


def _add_time(record: LogRecord) -> bool:
    """Add the time in the zone of the reader, which `asctime` does not name."""
    from datetime import UTC, datetime

    from coordination.cli.times import format_time

    record.here = format_time(datetime.fromtimestamp(record.created, UTC), milliseconds=True)
    return True


@contextmanager
def despite_quiet() -> Iterator[None]:
    """Print messages inside the block, or the decorated function, also with --quiet: questions, warnings,
    tokens that are shown once.
    """
    here = click.get_current_context(silent=True)
    call = here.find_object(CliContext) if here else None
    with call.despite_quiet() if call else contextlib.nullcontext():
        yield


def warn(text: str) -> None:
    with despite_quiet():
        click.echo(f"warning: {text}", err=True)


def on_a_terminal() -> bool:
    """Tell whether a person can read the questions and answer."""
    with despite_quiet():
        return all(stream is not None and stream.isatty() for stream in (sys.stdin, sys.stderr))


yes_option = click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
"""The option of every command that removes what cannot be computed again."""


def confirm(question: str, *, yes: bool) -> None:
    """Return if the user agrees, or has given --yes; else end the command with exit code 1.

    Raises UsageError, with the command to run, if there is no terminal to ask on.
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
