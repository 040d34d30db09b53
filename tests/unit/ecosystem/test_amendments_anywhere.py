"""In any file an edit changes the intended values and nothing else; a file that is JSON stays JSON."""

from __future__ import annotations

import json
import re
from datetime import date
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from written_files import ORDER, files, records, values
from yaml.nodes import MappingNode

from coordination.ecosystem.yaml_text.fields import set_field
from coordination.ecosystem.yaml_text.lines import (
    TextEdit,
    apply,
    content_end,
    entry,
    item,
    line_start,
    next_line,
)
from coordination.ecosystem.yaml_text.records import add_items, remove_item
from coordination.ecosystem.yaml_text.rendering import DATES
from coordination.ecosystem.yaml_text.tree import Tree, read_tree, read_values
from coordination.errors import EditConflict, InvalidFile
from tests.examples import examples

TODOS = ("coordination", "todos")
FEW = settings(max_examples=examples(60), suppress_health_check=[HealthCheck.too_slow])


def read(text: str) -> tuple[Tree, Any]:
    tree = read_tree(text.encode(), "ecosystem.yaml")
    return tree, read_values(tree)[0]


def same(found: Any, wanted: Any, name: str = "") -> bool:
    """Equal values of equal kinds; a date may be text where a date is wanted, and 2.0 may be written as 2."""
    if isinstance(wanted, dict) and isinstance(found, dict):
        return wanted.keys() == found.keys() and all(same(found[k], v, k) for k, v in wanted.items())
    if isinstance(wanted, list) and isinstance(found, list):
        return len(wanted) == len(found) and all(map(same, found, wanted))
    if isinstance(found, date) and isinstance(wanted, str):
        return name in DATES and str(found) == wanted
    return type(found) in (type(wanted), *([int] if isinstance(wanted, float) else [])) and bool(
        found == wanted
    )


def comments(text: str) -> set[str]:
    return set(re.findall(r"# c(\d+)", text))


def removed(text: str, splices: list[TextEdit]) -> str:
    return "".join(text[splice.start : splice.end] for splice in splices)


def lines_of_entry(text: str, mapping: MappingNode, field: str) -> tuple[int, int, int]:
    """Where the entry's first line begins, where its last one ends, and where the next thing begins."""
    keys = [key for key, _ in mapping.value]
    at = next(i for i, key in enumerate(keys) if key.value == field)
    limit = keys[at + 1].start_mark.index if at + 1 < len(keys) else mapping.end_mark.index
    end = max(content_end(text, mapping.value[at][1]), keys[at].end_mark.index)
    return line_start(text, keys[at].start_mark.index), next_line(text, end), max(limit, end)


@FEW
@given(files(), st.integers(0, 2), st.sampled_from(ORDER[1:]), st.none() | values)
def test_a_field_is_set_or_taken_out(text: str, number: int, field: str, value: Any):
    tree, data = read(text)
    todos = data["coordination"]["todos"]
    todo = item(tree.root, *TODOS, number % len(todos))

    splices = set_field(text, todo, field, value, ORDER)

    after = apply(text, splices)
    was_there = field in todos[number % len(todos)]
    todos[number % len(todos)].update({field: value})
    if value is None:
        del todos[number % len(todos)][field]
    assert same(read(after)[1], data)
    if was_there:
        start, end, limit = lines_of_entry(text, todo, field)
        outside = "".join(text[splice.start : min(splice.end, start)] for splice in splices)
        assert outside.strip() in ("", ",")  # the text before the last one in braces
        assert all(splice.end <= limit for splice in splices)
        assert comments(text) - comments(after) <= comments(text[start:end])
    else:
        assert comments(text) <= comments(after)
        assert re.fullmatch(r"([|>][0-9]?\+?)?", removed(text, splices))  # at the end of a file


@FEW
@given(files(), records)
def test_a_record_is_added_and_taken_out_again(text: str, record: dict[str, Any]):
    record = {"id": "NEW", **record}
    tree, data = read(text)

    splices = add_items(text, tree.root, TODOS, [record], ORDER)

    after = apply(text, splices)
    assert same(
        read(after)[1],
        data | {"coordination": {**data["coordination"], "todos": [*data["coordination"]["todos"], record]}},
    )
    assert comments(text) <= comments(after)
    assert re.fullmatch(r"([|>][0-9]?\+?)?", removed(text, splices))
    back = apply(after, remove_item(after, section(after), "todos", len(data["coordination"]["todos"])))
    assert back == text or not text.endswith("\n")


@FEW
@given(files(), st.integers(0, 2))
def test_a_record_is_taken_out(text: str, number: int):
    _, data = read(text)
    todos = data["coordination"]["todos"]
    number %= len(todos)

    splices = remove_item(text, section(text), "todos", number)

    after = apply(text, splices)
    del todos[number]
    assert same(read(after)[1], data)
    assert comments(text) - comments(after) <= comments(removed(text, splices))
    assert len(re.findall(r"\n[ \t\r]*(?=\n)", after)) <= len(re.findall(r"\n[ \t\r]*(?=\n)", text))


@FEW
@given(files(shares=True), st.integers(0, 2), st.sampled_from(ORDER[1:]), st.none() | values)
def test_where_values_are_shared_an_amendment_is_right_or_refused(
    text: str, number: int, field: str, value: Any
):
    tree, data = read(text)
    todos = data["coordination"]["todos"]
    number %= len(todos)
    try:
        found = read(apply(text, set_field(text, item(tree.root, *TODOS, number), field, value, ORDER)))[1]
    except (EditConflict, InvalidFile):  # refused here, or whoever proves it finds an alias left of what went
        return

    todos[number].update({field: value})
    if value is None:
        del todos[number][field]
    assert same(found, data)


@FEW
@given(files(shares=True), records)
def test_a_record_is_added_below_shared_values(text: str, record: dict[str, Any]):
    record = {"id": "NEW", **record}
    tree, data = read(text)

    after = apply(text, add_items(text, tree.root, TODOS, [record], ORDER))

    data["coordination"]["todos"].append(record)
    assert same(read(after)[1], data)
    assert comments(text) <= comments(after)


def section(text: str) -> MappingNode:
    found = entry(read(text)[0].root, "coordination")
    assert found is not None
    assert isinstance(found.value, MappingNode)
    return found.value


fields = values.filter(lambda value: value is not None)
todos = st.dictionaries(st.sampled_from(ORDER[1:]), fields, max_size=4).flatmap(
    lambda todo: st.permutations([("id", "T"), *todo.items()]).map(dict)
)
styles: st.SearchStrategy[dict[str, Any]] = st.sampled_from(
    [{}, {"indent": 2}, {"indent": "\t"}, {"separators": (",", ":")}, {"indent": 4}]
)


def as_json(todos: list[dict[str, Any]], style: dict[str, Any]) -> str:
    """Numbers and characters that JSON has and YAML 1.1 has not are written so that both have them."""
    text = json.dumps(
        {"repos": [], "coordination": {"todos": todos, "plans": []}}, ensure_ascii=False, **style
    )
    text = re.sub(r"(?<=[\s:,\[])(-?\d+)(e[+-]\d+)", r"\1.0\2", text)
    return re.sub("[\x7f-\x9f]", lambda found: f"\\u{ord(found[0]):04x}", text)


@FEW
@given(st.lists(todos, min_size=1, max_size=3), styles, st.integers(0, 2), st.sampled_from(ORDER[1:]), fields)
def test_a_field_is_set_in_json(
    before: list[Any], style: dict[str, Any], number: int, field: str, value: Any
):
    text = as_json(before, style)
    tree, data = read(text)
    number %= len(before)

    after = apply(text, set_field(text, item(tree.root, *TODOS, number), field, value, ORDER))

    data["coordination"]["todos"][number][field] = value
    assert same(read(after)[1], data)
    assert json.loads(after) == data
    assert ("\n" in after) == ("\n" in text)


@FEW
@given(st.lists(todos, max_size=3), styles, records)
def test_a_record_is_added_to_json_and_taken_out_again(
    before: list[Any], style: dict[str, Any], record: dict[str, Any]
):
    text = as_json(before, style)
    tree, data = read(text)

    after = apply(text, add_items(text, tree.root, TODOS, [{"id": "NEW", **record}], ORDER))

    data["coordination"]["todos"].append({"id": "NEW", **record})
    assert same(read(after)[1], data)
    assert json.loads(after) == data
    assert apply(after, remove_item(after, section(after), "todos", len(before))) == text
