"""YAML text as a tree of nodes with positions, with readable messages for syntax errors.

The tree comes from PyYAML's C composer. It takes 0.35 s for 10,000 todos (250,000 nodes), a quarter of
`yaml.load`, because unquoted scalars are resolved later, once per distinct text (`read_values`).
"""

from __future__ import annotations

import gc
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import yaml
from yaml.constructor import SafeConstructor
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from coordination.errors import InvalidFile, Problem

MAX_DEPTH = 100
"""Limit of nesting: the C composer recurses on the C stack, and 100,000 open brackets crash
the interpreter.
"""

PLAIN = "plain"
"""Tag of an unquoted scalar, whose type is not decided yet."""
TEXT = "tag:yaml.org,2002:str"
COLLECTION = "collection"

Location = tuple[str | int, ...]
"""Names and positions from the top of the file, like ("coordination", "todos", 3, "repo")."""

BOM = "\N{ZERO WIDTH NO-BREAK SPACE}"


@contextmanager
def gc_paused() -> Iterator[None]:
    """Pause garbage collection while many live objects are created: 1.5 s instead of 4 s."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


@dataclass(frozen=True, kw_only=True)
class Tree:
    """A composed file.

    `text` has no byte order mark, and the marks of the nodes count its characters.
    `root` is None for an empty file.
    """

    text: str
    bom: bool
    root: Node | None
    size: int

    def encode(self, text: str) -> bytes:
        return ((BOM if self.bom else "") + text).encode()


class _Composer(yaml.CSafeLoader):
    """The C composer with unresolved types and limited depth. Its three methods are hooks that are called per
    node.
    """

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.depth = 0
        self.size = 0

    def resolve(self, kind: type[Node], value: object, implicit: object) -> str:
        if kind is not ScalarNode:
            return COLLECTION
        return PLAIN if implicit[0] else TEXT  # type: ignore[index]

    def descend_resolver(self, parent: object, index: object) -> None:
        self.depth += 1
        self.size += 1
        if self.depth > MAX_DEPTH:
            raise _TooDeep

    def ascend_resolver(self) -> None:
        self.depth -= 1


class _TooDeep(Exception):
    pass


def read_tree(raw: bytes, file: str) -> Tree:
    """Compose a file's bytes. Raises InvalidFile with the one place where reading stopped."""
    text = _decode(raw, file)
    bom = text.startswith(BOM)
    if bom:
        text = text[1:]
    composer = _Composer(text)
    try:
        root = composer.get_single_node()
    except _TooDeep as error:
        message = f"lists and mappings are nested more than {MAX_DEPTH} levels deep"
        raise InvalidFile([Problem(file=file, line=0, where="YAML", message=message)]) from error
    except yaml.MarkedYAMLError as error:
        raise InvalidFile([_syntax_problem(error, file)]) from error
    except yaml.reader.ReaderError as error:
        raise InvalidFile([_character_problem(error, text, file)]) from error
    finally:
        composer.dispose()
    return Tree(text=text, bom=bom, root=root, size=composer.size)


def _decode(raw: bytes, file: str) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        if raw[:2] in (b"\xff\xfe", b"\xfe\xff"):
            line, message = 0, "the file is UTF-16; save it as UTF-8"
        else:
            line = raw.count(b"\n", 0, error.start) + 1
            message = f"the file is not UTF-8 (byte 0x{raw[error.start]:02x} here); save it as UTF-8"
        raise InvalidFile([Problem(file=file, line=line, where="encoding", message=message)]) from error


def _character_problem(error: yaml.reader.ReaderError, text: str, file: str) -> Problem:
    before = text.encode()[: error.position].decode(errors="replace")
    message = f"the control character 0x{error.character:02x} is not allowed in YAML; delete it"
    return Problem(file=file, line=before.count("\n") + 1, where="YAML", message=message)


def _syntax_problem(error: yaml.MarkedYAMLError, file: str) -> Problem:
    mark = error.problem_mark or error.context_mark
    line, column = (mark.line + 1, mark.column + 1) if mark else (0, 0)
    opened = error.context_mark.line + 1 if error.context_mark else line
    message = _describe(error.problem or "", error.context or "", opened)
    return Problem(file=file, line=line, where=f"YAML, column {column}", message=message)


def _describe(problem: str, context: str, opened: int) -> str:
    for problem_part, context_part, explanation in _EXPLANATIONS:
        if problem_part in problem and context_part in context:
            return explanation.format(opened=opened)
    return f"{problem} {context}".strip() if problem else "this is not YAML"


_EXPLANATIONS = (
    ("end of stream", "quoted scalar", "the quote that opens on line {opened} is never closed"),
    (
        "expected ',' or ']'",
        "",
        "the '[' on line {opened} is not closed, or a comma is missing before this place",
    ),
    (
        "expected ',' or '}'",
        "",
        "the '{{' on line {opened} is not closed, or a comma is missing before this place",
    ),
    (
        "mapping values are not allowed",
        "",
        "a ':' with a space after it is not allowed here; put the text in quotes, or correct the indentation",
    ),
    (
        "cannot start any token",
        "",
        (
            "this character cannot begin a value: YAML indents with spaces, never tabs, "
            "and text that begins with %, @ or ` needs quotes"
        ),
    ),
    ("found a tab character", "", "there is a tab where YAML requires spaces"),
    (
        "did not find expected key",
        "",
        (
            "this does not fit the mapping that begins on line {opened}: wrong indentation, "
            "or quotes that end too early"
        ),
    ),
    (
        "did not find expected '-'",
        "",
        (
            "this does not fit the list that begins on line {opened}: a '- ' is missing, "
            "or the indentation is wrong"
        ),
    ),
    ("sequence entries are not allowed", "", "a list cannot begin here; begin it on the next line"),
    ("could not find expected ':'", "", "a ':' is missing after the name on line {opened}"),
    (
        "undefined alias",
        "",
        "a '*' refers to an '&' name that does not exist; text that begins with * needs quotes",
    ),
    ("second occurrence", "duplicate anchor", "the '&' name on line {opened} is given a second time here"),
    (
        "unknown escape character",
        "",
        "a backslash in double quotes means an escape; use single quotes or write \\\\",
    ),
    (
        "invalid Unicode character escape",
        "",
        "this escape is no character of its own, such as half of a pair in JSON; write the character itself",
    ),
    ("found another document", "", "a second document begins here with '---'; the file holds exactly one"),
)


Plain = Any
"""JSON values: text, numbers, true, false and null, lists, mappings. Dates are ISO text."""

_FLOAT_WITH_EXPONENT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)[eE][-+]?[0-9]+$")
"""A number in YAML 1.2 and JSON that PyYAML reads as text: `8e-05`."""


class _Resolver(yaml.resolver.Resolver):
    """YAML 1.1 with the exponents of YAML 1.2."""


_Resolver.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT_WITH_EXPONENT, list("-+.0123456789"))
_RESOLVER = _Resolver()
_CONSTRUCTOR = SafeConstructor()
_TAG = "tag:yaml.org,2002:"
_CONSTRUCT = {
    _TAG + "int": _CONSTRUCTOR.construct_yaml_int,
    _TAG + "float": _CONSTRUCTOR.construct_yaml_float,
    _TAG + "bool": _CONSTRUCTOR.construct_yaml_bool,
    _TAG + "null": _CONSTRUCTOR.construct_yaml_null,
    _TAG + "timestamp": _CONSTRUCTOR.construct_yaml_timestamp,
}
MERGE = "<<"
"""The name under which a mapping takes over the values of others."""
_COLLECTION_TAGS = {COLLECTION, _TAG + "map", _TAG + "seq"}


@dataclass(frozen=True, kw_only=True)
class Finding:
    """A problem at a node; `see` is a related node."""

    node: Node
    message: str
    see: Node | None = None


class AliasBomb(Exception):
    """Aliases expand to far more values than the file contains."""


def read_values(tree: Tree) -> tuple[Any, list[Finding]]:
    """Return the values and the problems in them. Raises AliasBomb."""
    reader = _Reader(limit=10 * tree.size + 100_000)
    value = None if tree.root is None else reader.value(tree.root, 0)
    return value, reader.findings


def value_of(node: Node) -> Any:
    """Return the value of a part of a tree that was read before without findings."""
    return _Reader(limit=1_000_000).value(node, 0)


def plain_value(text: str) -> Any:
    """Return the value that YAML reads for this text without quotes."""
    tag = _RESOLVER.resolve(ScalarNode, text, (True, False))  # type: ignore[no-untyped-call]
    return _CONSTRUCT[tag](ScalarNode(tag, text)) if tag in _CONSTRUCT else text


class _Reader:
    """Reads the values of one tree, each distinct unquoted text once."""

    def __init__(self, limit: int) -> None:
        self.findings: list[Finding] = []
        self._left = limit
        self._plain: dict[str, Any] = {}

    def value(self, node: Node, depth: int) -> Any:
        self._left -= 1
        if self._left < 0 or depth > MAX_DEPTH:
            raise AliasBomb
        if isinstance(node, ScalarNode):
            return self._scalar(node)
        if node.tag not in _COLLECTION_TAGS:
            self._report(node, f"the tag {node.tag} is not understood; remove it")
        if isinstance(node, SequenceNode):
            return [self.value(item, depth + 1) for item in node.value]
        return self._mapping(node, depth + 1)

    def _mapping(self, node: Node, depth: int) -> dict[str, Any]:
        own: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        for key, value in node.value:
            name = key.value
            if not isinstance(key, ScalarNode):
                self._report(key, "a name cannot be a list or a mapping")
            elif name == MERGE and key.tag == PLAIN:
                merged |= self._merge(value, depth)
            elif name in own:
                first = next(k for k, _ in node.value if k.value == name)
                self.findings.append(Finding(node=key, message=f"{name!r} is written twice", see=first))
            else:
                own[name] = self.value(value, depth)
        return {**merged, **own} if merged else own

    def _merge(self, node: Node, depth: int) -> dict[str, Any]:
        sources = node.value if isinstance(node, SequenceNode) else [node]
        merged: dict[str, Any] = {}
        for source in reversed(sources):  # the first one takes precedence
            if isinstance(source, MappingNode):
                merged |= self.value(source, depth)
            else:
                self._report(source, "'<<' takes a mapping, or a list of mappings")
        return merged

    def _scalar(self, node: Node) -> Any:
        tag, text = node.tag, node.value
        if tag == PLAIN:
            if text in self._plain:
                return self._plain[text]
            tag = _RESOLVER.resolve(ScalarNode, text, (True, False))  # type: ignore[no-untyped-call]
            value = self._construct(tag, text, node) if tag in _CONSTRUCT else text
            self._plain[text] = value
            return value
        if tag == TEXT:
            return text
        if tag in _CONSTRUCT:
            return self._construct(tag, text, node)
        self._report(node, f"the tag {tag} is not understood; remove it")
        return text

    def _construct(self, tag: str, text: str, node: Node) -> Any:
        try:
            return _CONSTRUCT[tag](ScalarNode(tag, text))
        except (
            ValueError,
            KeyError,
            AttributeError,
        ):  # int(), date() and others raise these, and PyYAML does not catch them
            kind = tag.removeprefix(_TAG).replace("timestamp", "date").replace("int", "number")
            self._report(node, f"there is no such {kind}; correct it, or put it in quotes if it is text")
            return text

    def _report(self, node: Node, message: str) -> None:
        self.findings.append(Finding(node=node, message=message))
