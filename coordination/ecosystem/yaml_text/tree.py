"""YAML text as a tree of nodes with positions, with readable messages for syntax errors.

The tree comes from PyYAML's C composer. It takes 0.35 s for 10,000 todos (250,000 nodes), a quarter of
`yaml.load`, because unquoted scalars are resolved later, once per distinct text (`values.py`).
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import yaml
from yaml.nodes import Node, ScalarNode

from coordination.errors import InvalidFile, Problem

MAX_DEPTH = 100
"""Limit of nesting: the C composer recurses on the C stack, and 100,000 open brackets crash
the interpreter.
"""

PLAIN = "plain"
"""Tag of an unquoted scalar, whose type is not decided yet."""
TEXT = "tag:yaml.org,2002:str"
COLLECTION = "collection"

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
    words = _describe(error.problem or "", error.context or "", opened)
    return Problem(file=file, line=line, where=f"YAML, column {column}", message=words)


def _describe(problem: str, context: str, opened: int) -> str:
    for problem_part, context_part, words in _WORDS:
        if problem_part in problem and context_part in context:
            return words.format(opened=opened)
    return f"{problem} {context}".strip() if problem else "this is not YAML"


_WORDS = (
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
        "a ':' with a space after it cannot stand here; put the text in quotes, or correct the indentation",
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
    ("found another document", "", "a second document begins here with '---'; the file holds exactly one"),
)
