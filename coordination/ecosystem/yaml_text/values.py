"""Plain Python values of a tree of nodes, with findings for problems that YAML ignores silently.

Such problems are repeated names in a mapping, tags for other types, and dates that do not exist. Names are
always text as written, so `on:` and `1:` are ordinary names.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import yaml
from yaml.constructor import SafeConstructor
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from coordination.ecosystem.yaml_text.tree import COLLECTION, MAX_DEPTH, PLAIN, TEXT, Tree

Plain = Any
"""JSON values: text, numbers, true, false and null, lists, mappings. Dates are ISO text."""

_FLOAT_WITH_EXPONENT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)[eE][-+]?[0-9]+$")
"""A number in YAML 1.2 and JSON that PyYAML reads as text: `8e-05`."""


class _Resolver(yaml.resolver.Resolver):
    """YAML 1.1 with the exponents of YAML 1.2."""


_Resolver.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT_WITH_EXPONENT, list("-+.0123456789"))
_RESOLVER = _Resolver()
_MAKE = SafeConstructor()
_TAG = "tag:yaml.org,2002:"
_CONSTRUCT = {
    _TAG + "int": _MAKE.construct_yaml_int,
    _TAG + "float": _MAKE.construct_yaml_float,
    _TAG + "bool": _MAKE.construct_yaml_bool,
    _TAG + "null": _MAKE.construct_yaml_null,
    _TAG + "timestamp": _MAKE.construct_yaml_timestamp,
}
_MERGE = "<<"
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
            elif name == _MERGE and key.tag == PLAIN:
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
