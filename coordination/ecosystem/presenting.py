"""The text of the file as it is shown to others: as it stands, without what is secret in it."""

from __future__ import annotations

from collections.abc import Iterator

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from coordination.backend.address import hide_password
from coordination.models import HIDDEN, SECRET
from coordination.settings import Settings

_HIDDEN = f'"{HIDDEN}"'
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def presentable_text(text: str) -> str:
    """Values of a todo's `env` with a secret's name, secret settings, and the password of `redis_url` are hidden. Raises YAMLError."""
    root = yaml.compose(text, Loader=LOADER)
    places = {
        (node.start_mark.index, node.end_mark.index): words for node, words in _secrets(root)
    }  # an alias has one place
    shown, at = [], 0
    for (start, end), words in sorted(places.items()):
        shown += [text[at:start], words]
        at = start + len(text[start:end].rstrip())  # a block ends behind its last line end
    return "".join([*shown, text[at:]])


def _secrets(root: Node | None) -> Iterator[tuple[Node, str]]:
    settings = _under(root, "settings")
    for name, value in _pairs(settings):
        if name == "redis_url" and isinstance(value, ScalarNode):
            if (hidden := hide_password(value.value)) != value.value:
                yield value, hidden
        elif name in Settings.model_fields and not Settings.model_fields[name].repr:
            yield value, _HIDDEN
    todos = _under(_under(root, "coordination"), "todos")
    for todo in todos.value if isinstance(todos, SequenceNode) else ():
        for name, value in _pairs(_under(todo, "env")):
            if SECRET.search(name):
                yield value, _HIDDEN


def _under(node: Node | None, name: str) -> Node | None:
    return next((value for found, value in _pairs(node) if found == name), None)


def _pairs(node: Node | None) -> Iterator[tuple[str, Node]]:
    for key, value in node.value if isinstance(node, MappingNode) else ():
        if key.value == "<<":  # what is merged in
            for merged in value.value if isinstance(value, SequenceNode) else (value,):
                yield from _pairs(merged)
        yield str(key.value), value
