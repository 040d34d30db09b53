"""Options that several commands have, and the conversion of their text: values, filters of lists, a part of a
plan, an address to listen on.

Options with few values name them in the help text, which wraps, instead of the metavar. Several values
of one filter are alternatives; different filters all apply.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar

import click

from coordination.api import POSITION, texts
from coordination.cli.completion import Complete, repo_names
from coordination.cli.context import CliContext
from coordination.errors import UsageError
from coordination.models import DURATION_UNITS_S, parse_duration, parse_size

Command = TypeVar("Command", bound=Callable[..., Any])


def choice(option: str, kind: type[StrEnum], help_: str) -> Callable[[Command], Command]:
    """Add an option with few values; `help_` precedes them in its help."""
    values = [member.value for member in kind]
    return click.option(
        option,
        metavar="WORD",
        type=click.Choice(values, case_sensitive=False),
        help=f"{help_} {one_of(kind)}",
    )


def one_of(kind: Iterable[StrEnum]) -> str:
    """Return the values as the end of a sentence."""
    *values, last = (member.value for member in kind)
    return f"{', '.join(values)} or {last}."


def reading(name: str) -> Callable[..., Any]:
    """Return the callback that reads text with the function of this name."""

    def read(ctx: click.Context, parameter: click.Parameter, text: str | None) -> Any:
        return None if text is None else globals()[name](text)

    return read


_HOURS = re.compile(r"([+-]?\d+(?:\.\d+)?)\s*(m|h|d)?")
_WHOLE = re.compile(r"[+-]?\d{1,18}")


def text_or_stdin(text: str) -> str:
    """Return the text, or standard input for `-`."""
    if text != "-":
        return text
    try:
        return read_stdin().decode().strip()
    except UnicodeDecodeError as error:
        raise click.BadParameter("standard input is not UTF-8") from error


def duration(ctx: click.Context, parameter: click.Parameter, text: str | None) -> timedelta | None:
    """Convert a duration; callback of an optional option."""
    try:
        found = None if text is None else parse_duration(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error
    if text is not None and not isinstance(found, timedelta):
        raise click.BadParameter(f"needs a duration like 90s, 10m or 2h, got {text!r}")
    return found if isinstance(found, timedelta) else None


def output_file(ctx: click.Context, parameter: click.Parameter, path: Path | None) -> Path | None:
    """Return the path of a file that a command may replace. Raises Conflict for an ecosystem file."""
    if path is not None and path.exists():
        ctx.ensure_object(CliContext).coord.refuse_replacing(path)
    return path


output_option = click.option(
    "--output",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    callback=output_file,
    help="Write to a file (default: standard output).",
)


def moment(ctx: click.Context, parameter: click.Parameter, text: str | None) -> datetime | None:
    """Convert a date, a time, or a duration that counts back from now. Without a zone it is local time."""
    if text is None:
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        try:
            ago = duration(ctx, parameter, text)
            return datetime.now(UTC) - (ago or timedelta(0))
        except (click.BadParameter, OverflowError) as error:
            raise click.BadParameter(
                f"needs a date like 2026-01-31, a time, or a duration like 7d, got {text!r}"
            ) from error
    try:
        return found.astimezone(UTC)
    except (OverflowError, ValueError) as error:
        raise click.BadParameter(f"{text} is out of range") from error


def later(ctx: click.Context, parameter: click.Parameter, text: str | None) -> datetime | None:
    """Convert a date, a time, or a duration from now. Without a zone it is local time."""
    if text is None:
        return None
    try:
        datetime.fromisoformat(text)
    except ValueError:
        length = duration(ctx, parameter, text)
        try:
            return datetime.now(UTC) + (length or timedelta(0))
        except OverflowError:
            raise click.BadParameter(f"{text!r} is out of range") from None
    return moment(ctx, parameter, text)


def last_day(_ctx: click.Context, _parameter: click.Parameter, text: str | None) -> date | None:
    """Convert a last day: a date, or a duration from today."""
    if text is None:
        return None
    try:
        day = date.fromisoformat(text)
    except ValueError:
        try:
            after = parse_duration(text)
        except ValueError:
            after = None
        if not isinstance(after, timedelta):
            raise click.BadParameter(
                f"needs a date like 2027-01-31 or a duration like 90d, got {text!r}"
            ) from None
        try:
            day = (datetime.now(UTC) + after).date()
        except OverflowError:
            raise click.BadParameter(f"{text} is out of range") from None
    if day < datetime.now(UTC).date():
        raise click.BadParameter(f"{day} is in the past")
    return day


def moment_or_position(
    ctx: click.Context, parameter: click.Parameter, text: str | None
) -> str | datetime | None:
    """Accept the id of an event, or what `moment` accepts."""
    return text if text is not None and POSITION.fullmatch(text) else moment(ctx, parameter, text)


def more_than_zero(ctx: click.Context, parameter: click.Parameter, text: str | None) -> timedelta | None:
    """Convert a duration that must be more than zero."""
    found = duration(ctx, parameter, text)
    if found is not None and found <= timedelta(0):
        raise click.BadParameter(f"needs a duration of more than 0, like 90s, 10m or 2h, got {text!r}")
    return found


def size(text: str) -> int:
    """Return a size in bytes."""
    found = parse_size(text)
    if not isinstance(found, int):
        raise click.BadParameter(f"needs a size like 512MiB or 2GiB, got {text!r}")
    return found


def read_stdin(at_most: int = -1) -> bytes:
    if sys.stdin is None:  # the program that starts coord may close it
        raise UsageError("standard input is closed", "redirect a file: … < FILE")
    return sys.stdin.buffer.read(at_most)


def read_file_or_stdin(name: str, at_most: int = -1) -> bytes:
    """Return the content of a file, or standard input for `-`. `at_most`: read no more bytes than that; -1 is
    all. Raises UsageError.
    """
    try:
        if name == "-":
            return read_stdin(at_most)
        with Path(name).open("rb") as file:
            return file.read(at_most)
    except OSError as error:
        raise UsageError(
            f"{name} cannot be read: {error.strerror}", "name another file, or - for standard input"
        ) from error


def read_text(name: str, limit: int | None = None) -> str:
    """Return the text of a file, or of standard input for `-`. Raises UsageError, also for more than `limit`
    bytes, of which no more is read.
    """
    content = read_file_or_stdin(name, -1 if limit is None else limit + 1)
    if limit is not None and len(content) > limit:
        raise UsageError(f"the text has more than {limit:,} bytes", "shorten it")
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise UsageError(f"{name} cannot be read: it is not UTF-8", "name a text file in UTF-8") from error


def parse_hours(text: str) -> float:
    """Return hours: `2h`, `90m`, `1d` (24 h); a bare number is hours, as in the file."""
    match = _HOURS.fullmatch(text.strip())
    if not match:
        raise click.BadParameter(f"needs hours like 2h, 90m or 1.5, got {text!r}")
    return round(float(match[1]) * DURATION_UNITS_S[match[2] or "h"] / DURATION_UNITS_S["h"], 6)


def whole(text: str) -> int:
    if not _WHOLE.fullmatch(text.strip()):
        raise click.BadParameter(f"needs a whole number, got {text!r}")
    return int(text)


def yes_or_no(text: str) -> bool:
    if text.strip() not in ("yes", "no"):
        raise click.BadParameter(f"needs yes or no, got {text!r}")
    return text.strip() == "yes"


def gate(text: str) -> bool | dict[str, Any]:
    """Return a gate: `yes`; `24h`, after which it is rejected; `24h:approve`, after which it is approved."""
    if text.strip() == "yes":
        return True
    timeout, colon, verdict = text.partition(":")
    return {"timeout": timeout.strip(), **({"on_timeout": verdict.strip()} if colon else {})}


def need(text: str) -> str | dict[str, Any]:
    """Return a resource need: `gpu`, or `gpu:2` for two units."""
    name, colon, amount = text.partition(":")
    return {"name": name.strip(), "amount": whole(amount)} if colon else name


Function = Callable[..., Any]


def parts(ctx: click.Context, parameter: click.Parameter, texts: tuple[str, ...]) -> tuple[str, ...] | None:
    """Return the values between commas, None without the option. An empty value is refused: most likely it
    is an empty variable.
    """
    values = tuple(part.strip() for text in texts for part in text.split(","))
    if "" in values:
        raise click.BadParameter("an empty value matches nothing; leave the option out", ctx, parameter)
    return values or None


def repeated(
    option: str, parameter: str, help_: str, complete: Complete, metavar: str = ""
) -> Callable[[Function], Function]:
    """Add an option that may be repeated."""
    metavar = metavar or option.removeprefix("--").upper()
    return click.option(
        option, parameter, multiple=True, metavar=metavar, help=help_, shell_complete=complete
    )


def of_repos(help_: str, metavar: str = "") -> Callable[[Function], Function]:
    """Add the option `--repo` of a command for several repositories."""
    return repeated("--repo", "repos", help_, repo_names, metavar)


def jobs_option(help_: str = texts.JOBS) -> Callable[[Function], Function]:
    return click.option("--jobs", type=click.IntRange(min=1), metavar="N", help=help_)


detach_option = click.option("--detach", is_flag=True, help="Return at once; follow it: coord watch last.")


LOOPBACK = "127.0.0.1"


def listen_option(port: int) -> Callable[..., Any]:
    return click.option(
        "--listen",
        metavar="[HOST:]PORT",
        default=f"{LOOPBACK}:{port}",
        show_default=True,
        help="Listen at this address.",
    )


def parse_address(option: str, text: str) -> tuple[str, int]:
    """Return host and port. Raises UsageError."""
    found = re.fullmatch(r"(?:\[?(?P<host>[^\]]+)\]?:)?(?P<port>\d{1,5})", text)
    if found is None or not 0 < int(found["port"]) < 65536:
        raise UsageError(f"{option} {text} is no address to listen on", "write a port, or HOST:PORT")
    return found["host"] or LOOPBACK, int(found["port"])
