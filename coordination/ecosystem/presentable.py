"""The text of the file as it may be shown: without secrets."""

from __future__ import annotations

from collections.abc import Iterator

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from coordination.backend.address import hide_password
from coordination.models import HIDDEN, SECRET, presentable_url
from coordination.settings import Settings

_HIDDEN = f'"{HIDDEN}"'
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def presentable_text(text: str) -> str:
    """Return the text of the file with secrets hidden: values of `env` with a secret's name, secret
    settings, the password of `redis_url`. Raises YAMLError.
    """
    root = yaml.compose(text, Loader=LOADER)
    # Aliases of a node share its position, so a dict keeps each once.
    places = {(node.start_mark.index, node.end_mark.index): words for node, words in _secrets(root)}
    shown, at = [], 0
    for (start, end), words in sorted(places.items()):
        shown += [text[at:start], words]
        at = start + len(text[start:end].rstrip())  # the end mark of a block is after its last line break
    return "".join([*shown, text[at:]])


def _secrets(root: Node | None) -> Iterator[tuple[Node, str]]:
    settings = _under(root, "settings")
    for name, value in _pairs(settings):
        if name == "redis_url" and isinstance(value, ScalarNode):
            if (hidden := hide_password(value.value)) != value.value:
                yield value, hidden
        elif name in Settings.model_fields and not Settings.model_fields[name].repr:
            yield value, _HIDDEN
    repos = _under(root, "repos")
    for repo in repos.value if isinstance(repos, SequenceNode) else ():
        url = _under(repo, "url")
        if isinstance(url, ScalarNode) and (hidden := presentable_url(url.value)) != url.value:
            yield url, hidden
    todos = _under(_under(root, "coordination"), "todos")
    for todo in todos.value if isinstance(todos, SequenceNode) else ():
        for name, value in _pairs(_under(todo, "env")):
            if SECRET.search(name):
                yield value, _HIDDEN


def _under(node: Node | None, name: str) -> Node | None:
    return next((value for found, value in _pairs(node) if found == name), None)


def _pairs(node: Node | None) -> Iterator[tuple[str, Node]]:
    for key, value in node.value if isinstance(node, MappingNode) else ():
        if key.value == "<<":  # a merge key
            for merged in value.value if isinstance(value, SequenceNode) else (value,):
                yield from _pairs(merged)
        yield str(key.value), value
