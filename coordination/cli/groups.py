"""Commands from a table, imported when they are called, in two spellings: `list-issues`, `issue list`; and
commands that are made from declared operations.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from importlib import import_module
from typing import Any, NamedTuple

import click
from click.exceptions import NoSuchCommand

from coordination.cli.command import HelpfulCommand, HelpfulGroup
from coordination.operation_index import INDEX, Indexed

Families = Mapping[str, Mapping[str, str | tuple[str, ...]]]
"""Heading → command → its declared operation, or (module below this package, line of help). The function has
the name of the command.

A third element is its `noun verb`; without it `list-issues` is also `issue list`, and a command without a
hyphen has no noun.
"""
HELP_OPTIONS = ("-h", "--help")
USUAL = ("list", "show", "create", "add", "update", "close", "delete")
"""Verbs that help lists first, in this order."""
NEAR = 3
"""Largest number of commands that the error about an unknown one names."""


class Entry(NamedTuple):
    """A command of the table."""

    name: str
    module: str
    """Its module below this package; empty for an operation that is declared."""
    help: str
    noun: str
    """Empty for a command that has none."""
    verb: str

    @property
    def noun_verb(self) -> str:
        return f"{self.noun} {self.verb}".strip()

    @property
    def has_one_spelling(self) -> bool:
        """Return whether noun and verb are its only name."""
        return not self.module and self.name == self.noun_verb


def entries(families: Families) -> dict[str, Entry]:
    """Return name → command, in the order of the table."""
    return {name: _entry(name, row) for family in families.values() for name, row in family.items()}


def declared_entries(index: Mapping[str, Indexed]) -> list[Entry]:
    """Return the commands of the declared operations: `pr list`."""
    return [
        Entry(name.replace(".", " "), "", f"{row.line}.", *name.split("."))
        for name, row in index.items()
        if row.command
    ]


def _entry(name: str, row: str | tuple[str, ...]) -> Entry:
    if isinstance(row, str):
        return Entry(name, "", f"{INDEX[row].line}.", *row.split("."))
    return _entry_in_module(name, *row)


def _entry_in_module(name: str, module: str, help_: str, noun_verb: str = "") -> Entry:
    if noun_verb:
        noun, _, verb = noun_verb.partition(" ")
    else:
        verb, _, noun = name.partition("-")
        verb, noun = (verb, noun.removesuffix("s")) if noun else ("", "")
    return Entry(name, module, help_, noun, verb)


class TableGroup(HelpfulGroup):
    """A group of stubs, each with a line of help. Options of `coord` are also accepted after each command,
    so that users need not remember their place.
    """

    shared: Sequence[click.Parameter] = ()
    """The options of `coord` that every command accepts."""

    def add_stubs(self, rows: Iterable[tuple[str, str]]) -> None:
        for name, help_ in rows:
            self.add_command(HelpfulCommand(name=name, help=help_))

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)

    def _load(self, entry: Entry) -> click.Command:
        command = _imported(entry) if entry.module else _declared(entry)
        for one in (command, *getattr(command, "commands", {}).values()):
            _accept(one, self.shared)
        return command


def _imported(entry: Entry) -> click.Command:
    module, function = import_module(f"coordination.cli.{entry.module}"), entry.name.replace("-", "_")
    command: click.Command = getattr(module, function, None) or getattr(module, f"{function}_")
    return command


def _declared(entry: Entry) -> click.Command:
    from coordination.cli.operation_command import command_of
    from coordination.declared import find

    name = f"{entry.noun}.{entry.verb}"
    return command_of(find(INDEX[name].part, name))


def _accept(command: click.Command, options: Iterable[click.Parameter]) -> None:
    taken = {parameter.name for parameter in command.params}
    command.params += [option for option in options if option.name not in taken and not option.is_eager]
    page_help(command)


def page_help(command: click.Command) -> None:
    """Let the help of a command go through the pager where it is longer than the screen."""
    if command.add_help_option:
        command.add_help_option = False
        command.params.append(
            click.Option(
                HELP_OPTIONS,
                is_flag=True,
                is_eager=True,
                expose_value=False,
                callback=_show_help,
                help="Show this message and exit.",
            )
        )


def _show_help(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        with paged_on_terminal():
            sys.stdout.write(f"{ctx.get_help()}\n")  # in the colours that rich has chosen
        ctx.exit()


def paged_on_terminal() -> AbstractContextManager[None]:
    """Return the pager, whose modules only help on a terminal needs: completion and man pages read help,
    too.
    """
    if not sys.stdout.isatty():
        return nullcontext()
    from coordination.cli.screen.pager import paged

    return paged()


class Noun(TableGroup):
    """The verbs of one noun."""

    def __init__(
        self, name: str, about: str, verbs: Mapping[str, Entry], shared: Sequence[click.Parameter]
    ) -> None:
        super().__init__(
            name=name,
            no_args_is_help=True,
            subcommand_metavar="VERB [ARGS]...",
            help=f"Commands for {about}.",
        )
        self.verbs, self.shared = verbs, shared
        self.add_stubs((verb, entry.help) for verb, entry in verbs.items())
        self.panels = {"Verbs": list(verbs)}
        _accept(self, shared)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            name, stub, rest = super().resolve_command(ctx, args)
        except NoSuchCommand as error:
            near = error.possibilities or self.verbs
            text = f"{self.name} has no verb {error.command_name!r}"
            raise click.UsageError(
                f"{text}\n  did you mean: {_commands(f'{self.name} {v}' for v in near)}?", ctx
            ) from None
        return name, self._load(self.verbs[name]) if name else stub, rest


class CommandTable(TableGroup):
    """All commands of the table, and their nouns. `about`: the plural of each noun; `everyday`: the commands
    that its help lists first; `advanced`: the commands and nouns that it only names.
    """

    def __init__(
        self,
        *args: Any,
        families: Families,
        about: Mapping[str, str],
        everyday: Sequence[str],
        advanced: Sequence[str],
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.about = about
        self.entries, self.shared = entries(families), self.params
        found: dict[str, dict[str, Entry]] = {}
        for entry in (*declared_entries(INDEX), *self.entries.values()):
            if entry.noun:
                found.setdefault(entry.noun, {})[entry.verb] = entry
        self.nouns = {noun: _in_order(verbs) for noun, verbs in found.items()}
        nouns = {noun: ", ".join(self.nouns[noun]) for noun in sorted(self.nouns)}
        helps = {entry.name: entry.help for entry in self.entries.values()}
        self.add_stubs({**nouns, **helps}.items())
        page_help(self)
        self._everyday, self._advanced = everyday, advanced
        self._families = families

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            name, stub, rest = super().resolve_command(ctx, args)
        except NoSuchCommand as error:
            raise click.UsageError(self._unknown(error, args[1:]), ctx) from None
        if not name:
            return name, stub, rest
        if verbs := self.nouns.get(name):
            return name, Noun(name, self.about[name], verbs, self.shared), rest
        return name, self._load(self.entries[name]), rest

    def _unknown(self, error: NoSuchCommand, rest: Sequence[str]) -> str:
        verb = error.command_name
        if meant := self._noun_first(verb, rest):
            use = "use" if len(meant) == 1 else "for example"
            return f"there is no command {verb!r}: the noun comes first\n  {use}: {_commands(meant)}"
        options = [option for parameter in self.params for option in parameter.opts]
        near = [f"--{verb}"] if f"--{verb}" in options else error.possibilities or ()
        return f"there is no command {verb!r}" + (f"\n  did you mean: {_commands(near)}?" if near else "")

    def _noun_first(self, word: str, rest: Sequence[str]) -> list[str]:
        """Return the commands that an old spelling may mean: `pr list` for `list-prs`, `service logs` for
        `service-logs`, those with the verb `add` for `add`, `event list` for `events`.
        """
        first, _, last = word.partition("-")
        for noun, verb in ((last, first), (last.removesuffix("s"), first), (first, last)):
            entry = self.nouns.get(noun, {}).get(verb)
            if entry and not entry.module:
                return [entry.noun_verb]
        meant = [f"{noun} {word}" for noun, verbs in self.nouns.items() if word in verbs]
        if rest and (given := f"{rest[0].removesuffix('s')} {word}") in meant:
            return [given]
        noun = word.removesuffix("s")
        return meant or ([f"{noun} list"] if "list" in self.nouns.get(noun, {}) else [])

    def get_help(self, ctx: click.Context) -> str:
        """Return one screen of help."""
        from coordination.cli.screen.tables import colourful, page, page_width, rows, section, wrapped
        from coordination.environment import colour_from_environment

        ctx.color = colour_from_environment()  # the option is read before the call begins
        shown = {*self._everyday, *self._advanced, *self.nouns}
        others = [one.name for one in self.entries.values() if not one.noun and one.name not in shown]
        nouns = sorted({*self.nouns} - {*self._advanced})
        options = ", ".join(max(one.opts, key=len) for one in self.params)
        text = page(
            [f"Usage: {ctx.command_path} {self.subcommand_metavar}"],
            wrapped(" ".join((self.help or "").split()), page_width()),
            section("Everyday", rows([(one, self._line(one)) for one in self._everyday])),
            section("Nouns and their verbs", rows([(one, self._line(one)) for one in nouns], folds=True)),
            section(
                "More",
                rows(
                    [
                        ("commands", ", ".join(others)),
                        ("advanced", f"{', '.join(self._advanced)}: coord help advanced"),
                        ("options", f"{options}: explained by the help of each command"),
                        ("help", "of all commands: coord help --all; chapters: coord help"),
                    ],
                    folds=True,
                ),
            ),
        )
        return text if colourful() else click.unstyle(text)

    def advanced(self) -> list[tuple[str, str]]:
        """Return the commands and nouns that the first screen only names, with their lines of help."""
        return [(one, self._line(one)) for one in self._advanced]

    def _line(self, name: str) -> str:
        """Return the line of help of a command or noun."""
        return self.commands[name].help or ""

    def help_on_all(self) -> str:
        """Return the help that lists every command."""
        from coordination.cli.screen.tables import page, rows, section

        families = [
            section(heading, rows([(name, self._line(name)) for name in names], folds=True))
            for heading, names in self._families.items()
        ]
        verbs = [
            (f"{noun} {verb}", entry.help)
            for noun, verbs in self.nouns.items()
            for verb, entry in verbs.items()
            if entry.has_one_spelling
        ]
        return page(*families, section("Nouns and their verbs", rows(verbs, folds=True)))


def _in_order(verbs: Mapping[str, Entry]) -> dict[str, Entry]:
    """Return the verbs with those first that most nouns have."""
    return {verb: verbs[verb] for verb in sorted(verbs, key=lambda one: (*USUAL, one).index(one))}


def _commands(names: Iterable[str]) -> str:
    return ", ".join(f"coord {name}" for name in list(names)[:NEAR])
