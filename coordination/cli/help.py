"""`help`: the help of a command or noun, and the chapters of the documentation."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

import coordination
from coordination.cli.command import command
from coordination.cli.completion import Items, matching
from coordination.cli.screen.pager import paged
from coordination.cli.screen.tables import READABLE, colourful, print_page, rows, section, terminal_width
from coordination.errors import CoordinationError, NotFound
from coordination.terminal import Lets, letting
from coordination.text import nearest

if TYPE_CHECKING:
    from coordination.cli.groups import CommandTable

ADVANCED = "advanced"
_COMMENT = re.compile(r"^<!--.*?-->\n+", re.MULTILINE | re.DOTALL)
_TITLE = re.compile(r"^# (.+)$", re.MULTILINE)


def _complete(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> Items:
    table, given = _table(ctx), ctx.params.get("topic") or ()
    if not given:
        return matching([*table.nouns, *table.entries, ADVANCED, *_chapters()], incomplete)
    verbs = table.nouns.get(given[0], {}) if len(given) == 1 else {}
    return matching({verb: entry.help for verb, entry in verbs.items()}, incomplete)


@command()
@click.argument("topic", nargs=-1, shell_complete=_complete)
@click.option("--all", "every", is_flag=True, help="List all commands.")
@click.pass_context
def help(ctx: click.Context, topic: tuple[str, ...], every: bool) -> None:
    """Explain a command, a noun, or a chapter of the documentation.

    TOPIC is a command (`issue list`), a noun (`issue`), or a chapter (`running`, or
    `running.md` if a command has this name), or `advanced`. Without TOPIC, list the topics.
    """
    root = ctx.find_root()
    if every:
        with paged():
            click.echo(_table(ctx).help_on_all())
    elif not topic:
        print_page([_table(ctx).get_help(root)], section("Chapters: coord help CHAPTER", rows(_titles())))
    elif topic == (ADVANCED,):
        print_page(section("Advanced commands and nouns", rows(_table(ctx).advanced(), folds=True)))
    elif (found := _help_on(root, topic)) is not None:
        with paged():
            click.echo(found)
            if topic[-1] in _chapters():
                click.echo(f"The chapter of this name: coord help {topic[-1]}.md")
    elif len(topic) == 1 and (chapter := _chapters().get(topic[0].removesuffix(".md"))):
        _print_chapter(chapter)
    else:
        raise _unknown(_table(ctx), topic)


def _table(ctx: click.Context) -> CommandTable:
    from coordination.cli.groups import CommandTable

    table = ctx.find_root().command
    assert isinstance(table, CommandTable)
    return table


def _help_on(root: click.Context, words: Sequence[str]) -> str | None:
    """Return the help of a command or noun; None if there is none of this name."""
    here = root
    for position, word in enumerate(words):
        group = here.command
        if not isinstance(group, click.Group):
            return None
        try:
            _, found, _ = group.resolve_command(here, list(words[position:]))
        except click.UsageError:
            return None
        if found is None:
            return None
        here = type(root)(found, info_name=word, parent=here)
    return here.command.get_help(here)


def _titles() -> list[tuple[str, str]]:
    return [(name, _title(path)) for name, path in _chapters().items()]


def _chapters() -> Mapping[str, Path]:
    """Return the chapters of the documentation: those of the installed package, else of the clone."""
    package = Path(coordination.__file__).parent
    folder = next((f for f in (package / "chapters", package.parent / "docs") if f.is_dir()), package)
    return {path.stem: path for path in sorted(folder.glob("*.md"))}


def _title(chapter: Path) -> str:
    found = _TITLE.search(chapter.read_text(encoding="utf-8"))
    return found[1] if found else ""


def _print_chapter(path: Path) -> None:
    """Print a chapter: formatted on a terminal, else as it is written."""
    try:
        text = _COMMENT.sub("", path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CoordinationError(f"{path} cannot be read: {error.strerror}", "install coord again") from error
    if not sys.stdout.isatty():
        click.echo(text, nl=False)
        return
    from rich.console import Console
    from rich.markdown import Markdown

    with paged(), letting(sys.stdout, Lets.COLOURS if colourful() else Lets.NOTHING):
        console = Console(
            file=sys.stdout,
            width=min(terminal_width() or READABLE, READABLE),
            color_system="standard" if colourful() else None,
        )
        console.print(Markdown(text, code_theme="ansi_dark", hyperlinks=False))


def _unknown(table: CommandTable, topic: Sequence[str]) -> NotFound:
    word = " ".join(topic)
    known = [*table.nouns, *table.entries, *_chapters(), *(e.noun_verb for e in table.entries.values())]
    near = nearest(word, known)
    meant = f"did you mean: coord help {near}; " if near else ""
    return NotFound(
        f"there is no help on {word!r}: it is not a command, noun or chapter",
        f"{meant}list the topics: coord help",
    )
