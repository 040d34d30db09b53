"""The command `coord`: its options, and how a call begins and ends."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import tempfile
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn, TextIO

import click
from click.exceptions import NoArgsIsHelpError

from coordination.cli.command_table import ADVANCED, COMMANDS, EVERYDAY, NOUNS
from coordination.cli.context import CliContext
from coordination.cli.groups import HELP_OPTIONS, CommandTable, paged_on_terminal
from coordination.errors import CoordinationError, ExitCode
from coordination.terminal import protect, spelled
from coordination.text import is_utf8

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def store_option(ctx: click.Context, parameter: click.Parameter, value: str | None) -> None:
    if value is not None and parameter.name:
        setattr(ctx.find_object(CliContext), parameter.name, value)


@click.group(
    cls=CommandTable,
    families=COMMANDS,
    about=NOUNS,
    everyday=EVERYDAY,
    advanced=ADVANCED,
    context_settings={"help_option_names": list(HELP_OPTIONS)},
    no_args_is_help=True,
    subcommand_metavar="COMMAND [ARGS]... | coord NOUN VERB [ARGS]...",
)
@click.option(
    "--ecosystem",
    metavar="FILE",
    expose_value=False,
    callback=store_option,
    help="The ecosystem file (default: ecosystem.yaml here or above).",
)
@click.option(
    "--redis",
    metavar="URL",
    expose_value=False,
    callback=store_option,
    help="The Redis (default: redis_url of the settings, else the embedded server).",
)
@click.option(
    "-v",
    "--verbose",
    count=True,
    metavar="",
    expose_value=False,
    callback=lambda ctx, _, more: more and ctx.find_object(CliContext).log(more),
    help="Print log lines of coord to standard error; -vv prints more.",
)
@click.option(
    "-q",
    "--quiet",
    is_flag=True,
    expose_value=False,
    callback=lambda ctx, _, given: given and ctx.find_object(CliContext).be_quiet(),
    help="Print results, warnings and errors only: no progress, no advice.",
)
@click.option(
    "--no-pager",
    is_flag=True,
    default=None,
    expose_value=False,
    callback=store_option,
    help="Do not send long output to the pager (COORD_PAGER, PAGER, else less).",
)
@click.version_option(package_name="coord", message="%(version)s")
@click.pass_context
def coord(ctx: click.Context) -> None:
    """Run plans of todos across many git repositories, with recovery and undo.

    The file is ecosystem.yaml, here or in a folder above; without a configured Redis, coord brings its own.
    """
    from coordination.environment import (
        colour_from_environment,
        hide_process,
        refuse_in_todo,
        secret_in_environment,
    )

    _refuse_without_folder()
    if secret_in_environment():
        hide_process()
    if ctx.invoked_subcommand != "context":
        refuse_in_todo(f"coord {ctx.invoked_subcommand}")
    ctx.color = colour_from_environment()


def _refuse_without_folder() -> None:
    """Refuse to run in a folder that was deleted meanwhile, in which no path has a meaning."""
    try:
        os.getcwd()  # noqa: PTH109
    except OSError as error:
        why = error.strerror or error
        raise CoordinationError(
            f"the current folder cannot be used: {why}", "change to another one: cd"
        ) from error


def run(argv: Sequence[str] | None = None) -> NoReturn:
    """Execute one call: every error becomes an exit code and a message on standard error."""
    _open_closed_streams()
    protect()
    call = CliContext(sys.argv[1:] if argv is None else argv)
    try:
        code = _execute(call, argv)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader of our output has enough
        code = _discard_output(sys.stdout)
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        with contextlib.suppress(OSError):  # standard error may be what is full
            click.echo(_disk_full(error), err=True)
        code = _discard_output(sys.stdout, sys.stderr)
    sys.exit(code)


def _open_closed_streams() -> None:
    """Replace output streams that the caller closed (`>&-`). Commands that read standard input check it
    themselves.
    """
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open("w"))  # noqa: SIM115 (to the end of the process)


def _discard_output(*streams: TextIO) -> int:
    """Discard what the streams still hold: the interpreter would end with exit code 120 at its last flush."""
    for stream in streams:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    return 1


def _execute(call: CliContext, argv: Sequence[str] | None) -> int:
    try:
        with contextlib.closing(call):
            ended: Any = coord.main(args=argv, prog_name="coord", standalone_mode=False, obj=call)
            return ended if isinstance(ended, int) else 0
    except CoordinationError as error:
        from coordination.cli.times import with_local_times

        click.echo(f"error: {spelled(with_local_times(str(error)))}", err=True)
        return error.exit_code
    except NoArgsIsHelpError as error:
        _print_usage(error)
        return error.exit_code
    except click.ClickException as error:
        click.echo(f"error: {spelled(_usage_error(error))}", err=True)
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        return ExitCode.INTERRUPTED
    except Exception as error:
        if refused := _unusable_argument(error, sys.argv[1:] if argv is None else argv):
            click.echo(f"error: {spelled(refused)}", err=True)
            return ExitCode.USAGE
        if isinstance(error, BrokenPipeError) or (isinstance(error, OSError) and error.errno in NO_ROOM):
            raise
        click.echo(_fault(error), err=True)
        return 1


def _print_usage(error: NoArgsIsHelpError) -> None:
    """Print the help on standard error: without a command the call is wrong."""
    assert error.ctx is not None
    with error.ctx.scope(cleanup=False), paged_on_terminal():
        click.echo(error.format_message(), err=True)


def _usage_error(error: click.ClickException) -> str:
    context = error.ctx if isinstance(error, click.UsageError) else None
    if context is None:
        return error.format_message()
    return f"{error.format_message()}\n  see: {context.command_path} --help"


def _disk_full(error: OSError) -> str:
    what = (
        f"{error.filename} cannot be written" if error.filename else "not all of the answer could be written"
    )
    return f"error: {what}: {error.strerror}\n  make room; then check whether the change was made"


def _unusable_argument(error: Exception, argv: Sequence[str]) -> str:
    """Return what is wrong with an argument that no file and no record can have as a name."""
    if isinstance(error, UnicodeEncodeError) and not all(map(is_utf8, argv)):
        return "an argument is not UTF-8\n  write it anew, as the file has it"
    if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:
        return f"{error.filename or 'a name'}: {error.strerror}\n  choose a shorter name"
    return ""


def _fault(error: Exception) -> str:
    from coordination.environment import debug_from_environment

    words = f"error: coord has a fault: {type(error).__name__}: {error}"
    if debug_from_environment():
        return f"{traceback.format_exc()}{words}"
    try:
        with tempfile.NamedTemporaryFile("w", prefix="coord-fault-", suffix=".txt", delete=False) as file:
            file.write(traceback.format_exc())
    except OSError:
        return f"{words}\n  see where: COORD_DEBUG=1 coord …"
    return f"{words}\n  please report it with {file.name}; or see where: COORD_DEBUG=1 coord …"
