"""Write the man page from the program: every command with its options, on the one page coord(1).

click-man writes a page for each command of one spelling, leaves lines that begin with a dot or hold a
backslash as they are, and dates each page with the day of the build.
"""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from typing import Any

import click

LAST_SECTIONS = {
    "ENVIRONMENT": (
        "A setting NAME of ecosystem.yaml is also read from COORD_NAME, in capitals: coord help settings."
    ),
    "EXIT STATUS": "0 for success; the others are listed by: coord help exit-codes.",
    "SEE ALSO": "coord help, coord help CHAPTER, git(1), less(1)",
}


def page() -> str:
    """Return the page in the macros of man(7)."""
    from coordination.cli.app import coord
    from coordination.cli.command_table import COMMANDS

    root = click.Context(coord, info_name="coord", **coord.context_settings)
    return "\n".join([*_head(coord, root), *_commands(COMMANDS, coord, root), *_end()]) + "\n"


def _head(coord: Any, root: click.Context) -> Iterator[str]:
    yield '.\\" Written by `make docs`; do not edit.'
    yield f'.TH COORD 1 "" "coord {version("coord")}" "User Commands"'
    yield from (".SH NAME", r"coord \- execute plans of dependent todos across many git repositories")
    yield from (".SH SYNOPSIS", ".B coord", escaped("[OPTIONS] COMMAND [ARGUMENTS]"), ".br")
    yield from (".B coord", escaped("[OPTIONS] NOUN VERB [ARGUMENTS]"), ".SH DESCRIPTION")
    yield from _paragraphs(coord.help)
    yield ".PP"
    yield escaped("The options of coord are accepted before and behind a command.")
    yield ".SH OPTIONS"
    yield from _options(coord, root, ())


def _commands(families: Any, coord: Any, root: click.Context) -> Iterator[str]:
    shared = [parameter.name for parameter in coord.get_params(root)]
    for family, names in families.items():
        yield f".SH {escaped(family.upper())}"
        for name in names:
            also = coord.entries[name].noun_verb
            command = coord.resolve_command(root, [name])[1]
            yield from _command(root, name, command, f"coord {also}" if also else "", shared)


def _command(
    parent: click.Context, name: str, command: Any, also: str, shared: Sequence[str]
) -> Iterator[str]:
    here = click.Context(command, info_name=name, parent=parent)
    usage = " ".join([here.command_path, *command.collect_usage_pieces(here)])
    yield f".SS {escaped(usage)}"
    if also:
        yield f"Also: {escaped(also)}"
        yield ".PP"
    yield from _paragraphs(command.help or "")
    yield from _options(command, here, shared)
    for sub, child in getattr(command, "commands", {}).items():
        yield from _command(here, sub, child, f"{also} {sub}" if also else "", shared)


def _options(command: Any, here: click.Context, left_out: Sequence[str]) -> Iterator[str]:
    for parameter in command.get_params(here):
        listed = parameter.param_type_name == "option" and parameter.name not in left_out
        if listed and (record := parameter.get_help_record(here)):
            yield from (".TP", rf"\fB{escaped(record[0])}\fR", escaped(" ".join(record[1].split())))


def _end() -> Iterator[str]:
    for heading, text in LAST_SECTIONS.items():
        yield from (f".SH {heading}", escaped(text))


def _paragraphs(text: str) -> Iterator[str]:
    """Paragraphs; indented ones are shown as they are written."""
    for number, paragraph in enumerate(re.split(r"\n[ \t]*\n", inspect.cleandoc(text).replace("\b\n", ""))):
        if number:
            yield ".PP"
        if paragraph.startswith("    "):
            yield from (".nf", *map(escaped, textwrap.dedent(paragraph).splitlines()), ".fi")
        else:
            yield escaped(" ".join(paragraph.split()))


def escaped(text: str) -> str:
    r"""Return text that roff prints as it is: a backslash, a hyphen that people copy, quotes that groff would
    turn into typographic ones, and a dot or quote at the beginning of a line, which would be a request.
    """
    for plain, written in (
        ("\\", r"\e"),
        ("-", r"\-"),
        ("'", r"\(aq"),
        ('"', r"\(dq"),
        ("`", r"\(ga"),
        ("^", r"\(ha"),
        ("~", r"\(ti"),
    ):
        text = text.replace(plain, written)
    text = "".join(c if c.isascii() else f"\\[u{ord(c):04X}]" for c in text)
    return f"\\&{text}" if text.startswith(".") else text
