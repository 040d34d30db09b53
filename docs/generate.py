"""Write the reference chapters from the program: commands, settings, library, MCP tools, kinds of events.

`make docs` runs it. With `--pictures` it also executes `coord demo` and draws what that printed, and its
Gantt chart.
"""

from __future__ import annotations

import ast
import asyncio
import dataclasses
import inspect
import io
import itertools
import os
import re
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from datetime import timedelta
from enum import Enum
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

import click
from pydantic import BaseModel

from coordination.api.access import EcosystemAccess
from coordination.api.texts import PARTS

HERE = Path(__file__).parent
WIDTH = 108
NOTE = "<!-- Written by `make docs`; do not edit. -->\n\n"

COMMON_OPTIONS = ("ecosystem", "redis", "verbose", "quiet", "no_pager", "help")
MODULES = (
    "coordination",
    "coordination.locks",
    "coordination.messages",
    "coordination.client",
)
"""Modules whose exported names the library reference lists."""
CONSTRUCTED = ("Client", "Coord", "LockManager", "MessageBus", "Policy", "Selectors")
"""Classes that users construct; of the others the reference shows no constructor."""

OTHER_VARIABLES = {
    "`COORD_ECOSYSTEM`": "the file to use, as `--ecosystem`",
    "`COORD_IDENTITY`": "the key that signs, for agents and services: a file, `agent`, or `agent:SHA256:…`",
    "`COORD_TRUST_FILE`": "the trust file (default: `~/.config/coord/trust.yaml`)",
    "`COORD_DEBUG`": "1 prints tracebacks",
    "`COORD_PAGER`, `PAGER`": (
        "the pager for long output on a terminal (default: `less -FRX`); empty or `cat`: none"
    ),
    "`NO_COLOR`, `FORCE_COLOR`": "no colours at all, or colours also in a pipe",
    "`XDG_CONFIG_HOME`": "the folder of `coord/` with keys, trust and credentials (default: `~/.config`)",
    "`XDG_CACHE_HOME`": "the folder in which `coord` caches parsed files (default: `~/.cache`)",
}


# Commands


def commands() -> str:
    from coordination.cli.app import coord
    from coordination.cli.command_table import COMMANDS

    root = click.Context(coord, info_name="coord", **coord.context_settings)
    lines = [
        "# Commands\n\n",
        NOTE,
        *_wrapped(
            "Each command also takes `--ecosystem FILE` (default: `ecosystem.yaml` here or in a folder "
            "above), `--redis URL`, `--verbose`, `--quiet`, `--no-pager` and `--help`. Some have two "
            "spellings: `list-issues` is also `issue list`. A RUN is an id, the beginning or the end of one, "
            "or `last`. Options that show a comma take several values, by commas or by repetition. Data goes "
            "to standard output, messages to standard error. [Exit codes](exit-codes.md) are the same for "
            "all commands."
        ),
    ]
    for family, names in COMMANDS.items():
        lines.append(f"## {family}\n\n")
        for name in names:
            command = coord.resolve_command(root, [name])[1]
            lines.extend(_command(root, name, command, coord.entries[name].noun_verb))
    for noun, verbs in coord.nouns.items():
        if declared := [verb for verb, entry in verbs.items() if entry.has_one_spelling]:
            lines.append(f"## {coord.about[noun].capitalize()}\n\n")
            group = coord.resolve_command(root, [noun, declared[0]])[1]
            here = click.Context(group, info_name=noun, parent=root)
            for verb in declared:
                lines.extend(_command(here, verb, group.resolve_command(here, [verb])[1], ""))
    return "".join(lines)


def _command(parent: click.Context, name: str, command: Any, also: str) -> Iterator[str]:
    here = click.Context(command, info_name=name, parent=parent)
    path = here.command_path.removeprefix("coord ")
    usage = " ".join(command.collect_usage_pieces(here))
    yield f"### {path}\n\n```text\n{here.command_path} {usage}\n```\n\n"
    if also:
        yield f"Also: `coord {also}`.\n\n"
    yield from _docstring(command.help or "")
    options = [
        p for p in command.get_params(here) if p.param_type_name == "option" and p.name not in COMMON_OPTIONS
    ]
    records = [record for option in options if (record := option.get_help_record(here))]
    yield from _items((f"`{usage}`", help_) for usage, help_ in records)
    for sub, child in getattr(command, "commands", {}).items():
        yield from _command(here, sub, child, f"{also} {sub}" if also else "")


# Settings


def settings() -> str:
    from coordination.environment import ENV_PREFIX
    from coordination.settings import Settings

    described = attribute_docstrings(Settings)
    lines = [
        "# Settings\n\n",
        NOTE,
        *_wrapped(
            "A setting is taken from the first of these places that has it: the option of a command, the "
            f"environment variable `{ENV_PREFIX}<NAME>` in capitals, `settings` in `ecosystem.yaml`, the "
            "default. Durations are written as `90s`, `10m`, `1h`, `7d`, or a number of seconds."
        ),
    ]
    for name, field in Settings.model_fields.items():
        default, variable = _default(field.default), f"{ENV_PREFIX}{name.upper()}"
        lines += [f"## {name}\n\n", *_wrapped(f"Default: {default}. Environment: `{variable}`.")]
        lines.extend(_docstring(described[name]))
    return "".join([*lines, "## Other variables\n\n", *_items(OTHER_VARIABLES.items())])


def attribute_docstrings(model: type) -> dict[str, str]:
    """Return the text that stands below each field, or enum member, of a class."""
    (body,) = (node.body for node in ast.parse(textwrap.dedent(inspect.getsource(model))).body)
    found: dict[str, str] = {}
    for field, text in itertools.pairwise(body):
        if isinstance(field, ast.Assign | ast.AnnAssign) and isinstance(text, ast.Expr):
            target = field.targets[0] if isinstance(field, ast.Assign) else field.target
            found[target.id] = inspect.cleandoc(text.value.value)
    return found


def _default(value: object) -> str:
    if isinstance(value, timedelta):
        return f"`{value.total_seconds():g}s`"
    if isinstance(value, Enum):
        return f"`{value.value}`"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return "none" if value in (None, ()) else f"`{value}`"


# Library


def library() -> str:
    exported = {
        module: {name: getattr(import_module(module), name) for name in sorted(import_module(module).__all__)}
        for module in MODULES
    }
    known = {thing: name for things in exported.values() for name, thing in things.items()}
    home = {thing: module for module in reversed(MODULES) for thing in exported[module].values()}
    parts = {name: kind for name, kind in coord_parts().items() if kind not in known}
    lines = [
        "# Library reference\n\n",
        NOTE,
        "The chapter [Scripting](scripting.md) introduces the library by example.\n\n",
    ]
    for module, things in exported.items():
        lines.append(f"## {module}\n\n")
        for name, thing in things.items():
            if home[thing] != module:
                lines.append(f"### {module}.{name}\n\nThe class of `{home[thing]}`.\n\n")
            else:
                lines.extend(_exported(name, thing, known, omitted=parts if name == "Coord" else ()))
    lines.append("## Reached through Coord\n\n")
    texts = {name: _text_of(member) for name, member in _public(import_module("coordination").Coord)}
    for name, kind in parts.items():
        lines.extend(_exported(f"coord.{name}", kind, known, texts[name]))
    for name, kind in reached_through_parts().items():
        lines.extend(_exported(name, kind, known))
    return "".join(lines)


def coord_parts() -> dict[str, type]:
    """Return the attributes of a `Coord` that are objects of coord, with their classes."""
    from coordination.api.coord import Coord

    properties = {name: _property(member) for name, member in _public(Coord)}
    kinds = {name: _type_of(function) for name, function in properties.items() if function}
    return {
        name: kind
        for name, kind in kinds.items()
        if inspect.isclass(kind) and kind.__module__.startswith("coordination.")
    }


def reached_through_parts() -> dict[str, type]:
    from coordination.breakers.records import Policy
    from coordination.cache.contexts import Context
    from coordination.locks.resources import Resources

    return {"Policy": Policy, 'coord.context(plan="P")': Context, "coord.locks.resources": Resources}


def _property(member: Any) -> Callable[..., Any] | None:
    """Return the function of a property; None for anything else."""
    if isinstance(member, property):
        return member.fget
    return member.func if isinstance(member, cached_property) else None


def _type_of(function: Callable[..., Any]) -> Any:
    """Return the type of a property; its module may import it for type checkers only."""
    name, module = function.__annotations__["return"], sys.modules[function.__module__]
    if hasattr(module, name):
        return getattr(module, name)
    nodes = ast.walk(ast.parse(inspect.getsource(module)))
    imports = (one for one in nodes if isinstance(one, ast.ImportFrom))
    homes = (one.module or "" for one in imports if name in {alias.name for alias in one.names})
    return next((getattr(import_module(home), name) for home in homes), None)


def _exported(
    name: str, thing: Any, known: Mapping[Any, str], text: str = "", omitted: Collection[str] = ()
) -> Iterator[str]:
    """Yield a class and its members, but for those that have a place of their own. `text`: that of the
    property that has it.
    """
    yield f"### {name}\n\n"
    if name == "Settings":
        yield "The chapter [Settings](settings.md) lists its fields.\n\n"
        return
    if name in CONSTRUCTED:
        yield from _signature(name, thing)
    yield from _docstring(text)
    yield from _docstring(_own_docstring(thing).removeprefix(f"`{name}`.").lstrip())
    if issubclass(thing, BaseException):
        yield f"Exit code: {thing.exit_code}.\n\n"
        return
    yield from _items(_fields(thing))
    if issubclass(thing, BaseModel | Enum):
        return
    for method, member in _public(thing):
        if method in omitted:
            continue
        called = method == "__call__"
        yield f"#### {name}()\n\n" if called else f"#### {name}.{method}\n\n"
        if function := _property(member):
            kind = known.get(_type_of(function), "")
            yield f"A property: [{kind}](#{kind.lower()}).\n\n" if kind else "A property.\n\n"
        else:
            yield from _signature(name if called else method, getattr(thing, method))
        yield from _docstring(_text_of(member))


def _text_of(member: Any) -> str:
    return inspect.cleandoc(getattr(_property(member) or member, "__doc__", "") or "")


def _fields(thing: type) -> Iterator[tuple[str, str]]:
    if issubclass(thing, Enum):
        names = [(member.name, f"`{member.value}`") for member in thing]
    elif issubclass(thing, BaseModel):
        names = [(field, f"`{field}`") for field in thing.model_fields]
    elif dataclasses.is_dataclass(thing):
        names = [
            (field.name, f"`{field.name}`") for field in dataclasses.fields(thing) if field.name[0] != "_"
        ]
    else:
        return
    described = attribute_docstrings(thing)
    yield from ((shown, described.get(name, "")) for name, shown in names)


def _public(thing: type) -> Iterator[tuple[str, Any]]:
    """Yield the members of a class that its users have: its public names, and its call where that is an
    operation. The names of EcosystemAccess are for the parts of the facade.
    """
    found: dict[str, Any] = {}
    for base in reversed(thing.__mro__[:-1]):
        if base.__module__.startswith("coordination") and base is not EcosystemAccess:
            found.update(vars(base))
    kinds = (property, cached_property, classmethod, staticmethod)
    for name, value in found.items():
        if (isinstance(value, kinds) or inspect.isfunction(value)) and (
            not name.startswith("_") or name == "__call__"
        ):
            yield name, value


def _own_docstring(thing: type) -> str:
    text = thing.__dict__.get("__doc__") or ""
    return (
        "" if text.startswith(f"{thing.__name__}(") else inspect.cleandoc(text)
    )  # dataclasses write their signature


def _signature(name: str, thing: Any) -> Iterator[str]:
    signature = inspect.signature(thing)
    kept = [
        p.replace(
            annotation=p.annotation if p.annotation is p.empty else _Written(_plain(p.annotation, thing)),
            default=p.default if p.default is p.empty else _Shown(p.default),
        )
        for p in signature.parameters.values()
        if p.name != "self"
    ]
    returned = signature.return_annotation
    end = "" if inspect.isclass(thing) or returned is signature.empty else f" -> {returned}"
    text = f"{name}{signature.replace(parameters=kept, return_annotation=signature.empty)}{end}"
    lines = textwrap.wrap(
        text, WIDTH, subsequent_indent="    ", break_long_words=False, break_on_hyphens=False
    )
    yield "```text\n" + "\n".join(lines) + "\n```\n\n"


def _plain(annotation: str, thing: Any) -> str:
    """Return a type without what only front ends read in it: `bool` for `Annotated[bool, Option("…")]`, and
    for the name of such a type.
    """
    here = inspect.unwrap(thing)
    names = vars(sys.modules[here.__module__])

    class Plain(ast.NodeTransformer):
        def visit_Subscript(self, node: ast.Subscript) -> ast.AST:
            if isinstance(node.value, ast.Name) and node.value.id == "Annotated":
                assert isinstance(node.slice, ast.Tuple)
                return self.visit(node.slice.elts[0])
            return self.generic_visit(node)

        def visit_Name(self, node: ast.Name) -> ast.AST:
            if get_origin(meant := names.get(node.id)) is not Annotated:
                return node
            kind = re.sub(r"\b(?:\w+\.)+", "", inspect.formatannotation(get_args(meant)[0]))
            return ast.parse(kind, mode="eval").body

    return ast.unparse(Plain().visit(ast.parse(annotation, mode="eval").body))


class _Written(str):
    """A text that is printed without quotation marks."""

    __repr__ = str.__str__


class _Shown:
    """Print a default value without addresses or whole records."""

    def __init__(self, value: object) -> None:
        self.value = value

    def __repr__(self) -> str:
        value = self.value.value if isinstance(self.value, Enum) else self.value
        if isinstance(value, timedelta):
            return f"{value.total_seconds():g} s"
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            return f"{type(value).__name__}(…)"
        text = repr(value)
        return text if " at 0x" not in text and len(text) <= 60 else "…"


# MCP tools


def tools() -> str:
    from coordination.mcp.server import build
    from coordination.mcp.session import Session

    server = build(Session(Path("ecosystem.yaml")))
    lines = [
        "# MCP tools\n\n",
        NOTE,
        "The chapter [Agents](agents.md) says how a client starts the server. "
        "An asterisk marks required arguments.\n\n",
    ]
    for tool in asyncio.run(server.list_tools()):
        required = tool.parameters.get("required", ())
        lines.append(f"## {tool.name}\n\n")
        lines.extend(_docstring(tool.description or ""))
        lines.extend(
            _items(
                (f"`{name}`{'*' if name in required else ''}", schema.get("description", ""))
                for name, schema in tool.parameters.get("properties", {}).items()
            )
        )
    resources = [*asyncio.run(server.list_resources()), *asyncio.run(server.list_resource_templates())]
    lines.append("## Resources\n\n")
    lines.extend(_items((f"`{_uri(one)}`", one.description or "") for one in resources))
    lines.append("## Prompts\n\n")
    lines.extend(
        _items((f"`{one.name}`", one.description or "") for one in asyncio.run(server.list_prompts()))
    )
    return "".join(lines)


def _uri(resource: Any) -> str:
    return str(getattr(resource, "uri_template", None) or resource.uri)


# Events


def kinds() -> str:
    from coordination.events.kinds import ASKED, COMMANDS, LASTING, OF_A_RUN

    lines = ["# Kinds of events\n\n", NOTE, "The chapter [Events](events.md) says who reads them.\n\n"]
    for heading, table in (
        ("Always written", LASTING),
        ("Commands", COMMANDS),
        ("Written while somebody asks for them by name", ASKED),
        ("Sent only to commands and programs that follow a run", OF_A_RUN),
    ):
        lines.append(f"## {heading}\n\n")
        lines.extend(_items((f"`{kind}`", sentence) for kind, sentence in table.items()))
    return "".join(lines)


# Text


def _wrapped(text: str, indent: str = "") -> Iterator[str]:
    whole = " ".join(text.split())
    if whole:
        lines = textwrap.wrap(
            whole, WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
        )
        yield "\n".join(lines) + "\n\n"


def _docstring(text: str) -> Iterator[str]:
    """Paragraphs, wrapped; indented ones stay as they are."""
    for paragraph in re.split(r"\n[ \t]*\n", inspect.cleandoc(text)):
        if paragraph.startswith("    ") or ("\n    " in paragraph and not paragraph.startswith("* ")):
            yield "```text\n" + textwrap.dedent(paragraph).rstrip() + "\n```\n\n"
        else:
            yield from _wrapped(paragraph)


def _items(rows: Iterable[tuple[str, str]]) -> Iterator[str]:
    lines = []
    for head, text in rows:
        line = f"* {head}: {' '.join(text.split())}" if text else f"* {head}"
        lines += textwrap.wrap(
            line, WIDTH, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
        )
    if lines:
        yield "\n".join(lines) + "\n\n"


PAGES: Mapping[str, Callable[[], str]] = {
    "commands.md": commands,
    "settings.md": settings,
    "library.md": library,
    "tools.md": tools,
    "kinds.md": kinds,
}
"""The generated chapters: file name and text."""

# The index of operations


def index() -> str:
    """Return the module `operation_index` with the operations that are declared."""
    from coordination import operation_index
    from coordination.declared import operations_of

    text = inspect.getsource(operation_index)
    lines = [text[: text.index("INDEX: Mapping")], "INDEX: Mapping[str, Indexed] = {\n"]
    for part in dict.fromkeys(PARTS.values()):
        module, _, owner = part.partition(":")
        for one in operations_of(getattr(import_module(module), owner)) if owner else ():
            row = f"{part!r}, {one.title!r}, {one.right!r}, {one.order if one.event else ''!r}, {one.order!r}"
            row += "" if one.command else ", command=False"
            lines.append(f"    {one.name!r}: Indexed({row}),\n")
    return _formatted("".join([*lines, "}\n"]))


def _formatted(code: str) -> str:
    done = subprocess.run(
        ["ruff", "format", "--quiet", "-"],
        input=code,
        capture_output=True,
        text=True,
        check=True,
        cwd=HERE.parent,
        env={**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
    )
    return done.stdout


# Pictures


def draw() -> None:
    """Execute `coord demo`, and write its output and its Gantt chart as SVG."""
    from rich.console import Console
    from rich.text import Text

    coord = Path(sys.executable).with_name("coord")
    environment = {
        **os.environ,
        "FORCE_COLOR": "1",
        "COLUMNS": "100",
        "PATH": f"{coord.parent}:{os.environ['PATH']}",
    }
    with tempfile.TemporaryDirectory() as folder:
        demo = Path(folder, "meter")
        ran = subprocess.run(
            [coord, "demo", "meter"],
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=True,
        )
        gantt = [coord, "show-run", "last", "--gantt", "gantt.svg"]
        subprocess.run(gantt, cwd=demo, env=environment, capture_output=True, check=True)
        (HERE / "gantt.svg").write_bytes((demo / "gantt.svg").read_bytes())
    console = Console(record=True, width=100, file=io.StringIO())
    console.print(Text.from_ansi("\x1b[1m$ coord demo meter\x1b[0m\n" + ran.stdout.rstrip()))
    (HERE / "demo.svg").write_text(console.export_svg(title="coord demo", code_format=_without_fonts()))


def _without_fonts() -> str:
    """Return rich's template without the fonts that it fetches from the web."""
    from rich._export_format import CONSOLE_SVG_FORMAT

    return re.sub(r"@font-face \{\{.*?\}\}\n", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)


if __name__ == "__main__":
    place = HERE.parent / "coordination" / "operation_index.py"
    if (written := index()) != place.read_text():
        place.write_text(written)
        os.execv(sys.executable, [sys.executable, "-m", "docs.generate", *sys.argv[1:]])
    for name, page in PAGES.items():
        (HERE / name).write_text(page().rstrip() + "\n")
    if "--pictures" in sys.argv:
        draw()
