"""Declarations: an operation, the options that it takes, and how its records are shown, each written once.

    class PullRequests:
        @operation("pr.list", Effect.LOOKS_OUTSIDE)
        def list(
            self,
            plan: Annotated[str | None, Option("Only those of this plan.", completes="change_sets")] = None,
            *,
            failing: Annotated[bool, Option("Select requests with a red check.")] = False,
        ) -> tuple[RequestView, ...]:
            \"\"\"List the pull requests of plans.\"\"\"

The name is noun and verb: `coord pr list`, `coord.pr.list()`, the tool `coord_pr_list`. Positional parameters
of the method are arguments of the command, keyword-only ones and those with a flag its options. A parameter
whose type is a record with options is that many options; one without an Option is for scripts only. The
docstring is the text, up to the paragraph on parameters, result or errors. A record says in `shown` which
columns a list of it has.
"""

from __future__ import annotations

import builtins
import inspect
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, MISSING, dataclass, field, fields, is_dataclass
from enum import Enum
from functools import cached_property
from importlib import import_module
from types import NoneType, UnionType
from typing import Annotated, Any, NamedTuple, Self, TypeVar, Union, get_args, get_origin, get_type_hints

from coordination.states import Tone

T = TypeVar("T")
Method = TypeVar("Method", bound=Callable[..., Any])

CONFIRM = "confirm"
"""The parameter of an operation that asks: a function that is called with a question and the record that it
is about, once the operation knows what it will do and before it does anything. It returns if a person agrees;
an exception ends the operation. Commands ask on the terminal; tools and scripts have agreed by their call.
"""
Confirm = Callable[[str, Any], object]


def agreed(question: str, about: object) -> None:
    """Ask nothing."""


class Effect(Enum):
    """The effect of an operation on records and repositories, as agents are told it."""

    READS = "reads"
    LOOKS_OUTSIDE = "looks outside"
    """Reads only, and asks a server outside of this machine."""
    ADDS = "adds"
    """Adds a record or advances a state; overwrites nothing."""
    CHANGES = "changes"
    """Overwrites existing values."""
    CHECKS = "checks"
    """Executes commands that check external state, and records the results."""
    EXECUTES = "executes"
    """Executes commands and agents that change repositories; tells servers outside of this machine."""
    UNDOES = "undoes"
    """Undoes an operation; repeated calls undo it once."""
    SYNCHRONISES = "synchronises"
    """Brings the file and a server outside in line; a repeated call changes nothing."""

    PRIVATE = "private"
    """Changes files of this user alone, for which the permissions of the operating system are enough."""

    @property
    def writes(self) -> bool:
        """Return whether it changes what others have, so that it needs a right."""
        return self not in (Effect.READS, Effect.LOOKS_OUTSIDE, Effect.PRIVATE)


@dataclass(frozen=True)
class Option:
    """The declaration of a parameter: `Annotated[str, Option("Only those of this plan.")]`."""

    text: str
    """The effect of the parameter, with its default where that is not obvious."""
    _: KW_ONLY
    flag: str = ""
    """Its spelling on the command line, where it is not the name: `--reviewer`, `--draft/--ready`."""
    argument: bool = False
    """On the command line, the field of a record is an argument."""
    short: str = ""
    """Its spelling with one letter: `-f`."""
    metavar: str = ""
    """The name of its value in help."""
    completes: str = ""
    """The function of `cli.completion` that knows its values."""
    file: bool = False
    """On the command line, the name of a file with the text, or `-` for standard input."""
    longest: int | None = None
    """Largest number of bytes of the text."""
    least: int | None = None
    """Smallest value of a number; a duration that has one is more than zero."""
    most: int | None = None
    """Largest value of a number."""
    ahead: bool = False
    """On the command line, a duration in place of the time counts from now on."""
    filters: bool = False
    """Values of a filter: on the command line also with commas in between, and never empty."""
    stdin: bool = False
    """On the command line, `-` is standard input."""
    json: bool = False
    """On the command line, JSON, or else text."""
    single: bool = False
    """One text on the command line and for agents, where scripts may also give a sequence."""
    reads: str = ""
    """On the command line, the function of `cli.options.values` that reads its text."""
    tool: bool = True
    """False where agents cannot give it."""
    for_agents: str = ""
    """Text that agents get in addition."""


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """A parameter of an operation, as front ends show it."""

    name: str
    option: Option
    type: Any
    """The type of the value, of each value where there are `several`; without `None`."""
    optional: bool
    """None is a value of its own."""
    several: bool
    default: Any
    """`inspect.Parameter.empty` where it is required."""
    positional: bool
    record: str = ""
    """The parameter of the method whose record has this one as a field."""

    @property
    def required(self) -> bool:
        return self.default is inspect.Parameter.empty


RUN_OPTION = Option("A run's id, its beginning or end, or `last`.", completes="run_ids")
THE_RUN = Parameter(
    name="run",
    option=RUN_OPTION,
    type=str,
    optional=False,
    several=False,
    default="last",
    positional=True,
)
"""The first parameter of each operation on a run."""


class Listing(tuple[T, ...]):
    """Records, with a note on them that people read below the list."""

    note: str = ""

    @classmethod
    def of(cls, records: Iterable[T], note: str = "") -> Self:
        made = cls(records)
        made.note = note
        return made


def data_of(result: Any) -> Any:
    """Return a result as programs get it: what its method `data` returns, else the result itself."""
    return result.data() if hasattr(result, "data") else result


class Cell(NamedTuple):
    """A value in a table, with its tone."""

    text: object
    tone: Tone = Tone.NEUTRAL


@dataclass(frozen=True)
class Column:
    """A column of a table."""

    name: str
    _: KW_ONLY
    of: str | Callable[[Any], object] = ""
    """The field that it shows, or a function of the record; empty: the field of this name."""
    flexible: bool = False
    """True if it shrinks first in a narrow terminal."""
    folds: bool = False
    """True if a long cell continues in the next line; else it is cut with `…`."""
    wide: bool = False
    """True if only `--wide` shows it; the command then has that option."""
    leaves: int = 0
    """Rank in which it leaves a table that is too wide for the terminal, the highest first; 0: it stays."""

    def value(self, record: Any) -> object:
        """Return what the column shows of a record: text, or a Cell."""
        if callable(self.of):
            return self.of(record)
        return getattr(record, self.of or self.name.lower())


@dataclass(frozen=True, kw_only=True)
class Table:
    """How a list of records is shown: `shown: ClassVar = Table(…)` of the record."""

    columns: tuple[Column, ...] = ()
    """Empty where the command draws the records without these columns."""
    none: str = ""
    """The sentence in place of an empty table."""
    no_match: str = ""
    """The same where the list was filtered."""
    next_step: str = ""
    """The command that fills an empty table."""


@dataclass(frozen=True, kw_only=True)
class Operation:
    """A declared operation."""

    name: str
    """Noun and verb: `pr.list`."""
    effect: Effect
    function: Callable[..., Any] = field(repr=False)
    right: str = "read"
    """The right that it needs, a word of `trust.rights.Right`."""
    event: str | bool = False
    """It leaves the event `command.NAME`; a text is NAME, where that is not its own."""
    on: Any = None
    """The runs among which `last` is the newest, for an operation on a run: a method of its handle."""
    command: bool = True
    """False where an option of another command does it, such as `--dry-run`."""
    tool: bool | str = True
    """False where agents cannot use it, because it reads or writes files or keys, or their tool is made by
    hand. A text is the name of the tool, where that is not `noun_verb`.
    """
    for_agents: str = ""
    """Text that agents get in addition."""

    @property
    def order(self) -> str:
        """Return its name in events, checks of rights and signed orders."""
        return self.event if isinstance(self.event, str) else self.name

    @property
    def asks(self) -> bool:
        """Return whether it asks before it does what cannot be undone."""
        return CONFIRM in inspect.signature(self.function).parameters

    @property
    def noun(self) -> str:
        return self.name.rpartition(".")[0]

    @property
    def verb(self) -> str:
        return self.name.rpartition(".")[2]

    @property
    def text(self) -> str:
        """Return the text for the users of all front ends."""
        return text_of(self.function)

    @property
    def title(self) -> str:
        """Return the first sentence, without its full stop."""
        return first_sentence(self.text)

    @cached_property
    def parameters(self) -> tuple[Parameter, ...]:
        return tuple(self._parameters())

    @cached_property
    def result(self) -> Any:
        """Return the type of the result, of each one where it is a sequence."""
        returned = _resolved(self.function)["return"]
        kind, several = _item(_without_none(returned)[0])
        return kind if several else returned

    @property
    def record(self) -> Any:
        """Return the type whose fields a template may name: that of the results of a list, or the type that
        the result says in `of`.
        """
        return self.result if self.lists else getattr(self.result, "of", None)

    @property
    def lists(self) -> bool:
        """Return whether the result is a sequence."""
        return _item(_without_none(_resolved(self.function)["return"])[0])[1]

    def call(self, part: object, values: Mapping[str, Any], confirm: Confirm = agreed) -> Any:
        """Execute it with the values of its parameters by name; absent ones have their defaults. `part`: the
        object that has the method; of an operation on a run, the one whose `get` returns it.
        """
        if self.on is not None:
            part = part.get(values.get(THE_RUN.name, THE_RUN.default), self.on)  # type: ignore[attr-defined]
        asking = {CONFIRM: confirm} if self.asks else {}
        return self.function(part, **self.arguments(values), **asking)

    def arguments(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return the arguments of the method; those of a record are gathered in one."""
        found: dict[str, Any] = {}
        gathered: dict[str, dict[str, Any]] = {}
        for one in self.parameters:
            if one is THE_RUN or one.name not in values:
                continue
            value = values[one.name]
            if one.several and value is not None:
                value = tuple(value)
            (gathered.setdefault(one.record, {}) if one.record else found)[one.name] = value
        for name, record in gathered.items():
            found[name] = _without_none(_resolved(self.function)[name])[0](**record)
        return found

    def _parameters(self) -> Iterator[Parameter]:
        hints = _resolved(self.function)
        if self.on is not None:
            yield THE_RUN
        for one in [*inspect.signature(self.function).parameters.values()][1:]:  # without self
            if one.name == CONFIRM:
                continue
            kind = _without_none(hints[one.name])[0]
            if fields_of(kind):
                yield from parameters_of(kind, one.name)
            else:
                if (option := option_of(hints[one.name])) is None:
                    continue  # for scripts only
                positional = one.kind is not inspect.Parameter.KEYWORD_ONLY and not option.flag
                yield _parameter(one.name, hints[one.name], one.default, positional=positional)


def operation(
    name: str,
    effect: Effect,
    *,
    right: str = "read",
    event: str | bool = False,
    on: Any = None,
    command: bool = True,
    tool: bool | str = True,
    for_agents: str = "",
) -> Callable[[Method], Method]:
    """Declare a method as an operation; see Operation."""

    def declare(function: Method) -> Method:
        function.operation = Operation(  # type: ignore[attr-defined]
            name=name,
            effect=effect,
            function=function,
            right=right,
            event=event,
            on=on,
            command=command,
            tool=tool,
            for_agents=for_agents,
        )
        return function

    return declare


def operations_of(part: type) -> Iterator[Operation]:
    """Yield the operations that a class has, in the order of their declarations."""
    members = {name: one for base in reversed(part.__mro__) for name, one in vars(base).items()}
    for member in members.values():
        if isinstance(declared := getattr(member, "operation", None), Operation):
            yield declared


def find(part: str, name: str) -> Operation:
    """Return an operation of a class, `module:Class`. Raises LookupError."""
    module, _, owner = part.partition(":")
    for one in operations_of(getattr(import_module(module), owner)):
        if one.name == name:
            return one
    raise LookupError(name)


def text_of(function: Callable[..., Any]) -> str:
    """Return the docstring up to the paragraph on parameters, result or errors, which begins with a backtick,
    "Return" or "Raises".
    """
    paragraphs = (inspect.getdoc(function) or "").split("\n\n")
    ends = (i for i, one in enumerate(paragraphs) if one.startswith(("`", "Return", "Raises")))
    return "\n\n".join(paragraphs[: next(ends, len(paragraphs))])


def first_sentence(text: str) -> str:
    """Return the first sentence of a text on one line, without its full stop."""
    return " ".join(text.split()).partition(". ")[0].removesuffix(".")


def _resolved(function: Callable[..., Any]) -> dict[str, Any]:
    hints: dict[str, Any] = get_type_hints(function, localns=_Exports(function), include_extras=True)
    return hints


class _Exports(dict[str, Any]):
    """Names in the types of a function that its module imports for type checkers only: its package exports
    them. A command then imports the records of its own operation, not those of all operations of the class.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self._module = sys.modules[function.__module__]

    def __missing__(self, name: str) -> Any:
        if hasattr(self._module, name) or hasattr(builtins, name):
            raise KeyError(name)
        package = import_module(self._module.__package__ or "")
        try:
            return getattr(package, name)
        except AttributeError:
            raise KeyError(name) from None


def _parameter(
    name: str, hint: Any, default: Any, *, positional: bool = False, record: str = ""
) -> Parameter:
    option = option_of(hint) or Option("")
    kind, optional = _without_none(hint)
    kind, several = (str, False) if option.single else _item(kind)
    return Parameter(
        name=name,
        option=option,
        type=kind,
        optional=optional,
        several=several,
        default=default,
        positional=positional or option.argument,
        record=record,
    )


def option_of(hint: Any) -> Any:
    """Return the Option in a type, if it has one."""
    return next((one for one in getattr(hint, "__metadata__", ()) if isinstance(one, Option)), None)


def fields_of(kind: Any) -> dict[str, Any]:
    """Return the fields of a record that are declared as options, with their types."""
    if not (isinstance(kind, type) and is_dataclass(kind)):
        return {}
    hints = get_type_hints(kind, include_extras=True)
    return {name: hint for name, hint in hints.items() if option_of(hint)}


def parameters_of(kind: type, record: str) -> Iterator[Parameter]:
    """Yield the fields of a record as parameters. `record`: the parameter that is the record."""
    defaults = {one.name: one for one in fields(kind)}
    for name, hint in fields_of(kind).items():
        yield _parameter(name, hint, _default(defaults[name]), record=record)


def _default(one: Any) -> Any:
    return inspect.Parameter.empty if one.default is MISSING else one.default


def _without_none(hint: Any) -> tuple[Any, bool]:
    """Return a type without metadata and `None`, and whether it had `None`."""
    if get_origin(hint) is Annotated:
        hint = get_args(hint)[0]
    if get_origin(hint) not in (Union, UnionType):
        return hint, False
    kept = [one for one in get_args(hint) if one is not NoneType]
    return (kept[0] if len(kept) == 1 else Union[tuple(kept)]), NoneType in get_args(hint)  # noqa: UP007


def _item(kind: Any) -> tuple[Any, bool]:
    """Return the type of the items of a sequence, or of one item or several, and True; for another type, it
    and False.
    """
    if get_origin(kind) in (Union, UnionType):
        found = [one for one in get_args(kind) if _item(one)[1]]
        kind = found[0] if found else kind
    if get_origin(kind) in (tuple, list, Sequence, Collection, Listing):
        return get_args(kind)[0], True
    return kind, False
