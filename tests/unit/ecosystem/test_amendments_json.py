"""A file that is JSON stays JSON, in its own indentation."""

from __future__ import annotations

import json
import re
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from test_amendments_anywhere import FEW, TODOS, read, same, section
from written_files import ORDER, records, values

from coordination.ecosystem.yaml_text.fields import set_field
from coordination.ecosystem.yaml_text.lines import apply, item
from coordination.ecosystem.yaml_text.records import add_items, remove_item

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
def test_a_field_is_set(before: list[Any], style: dict[str, Any], number: int, field: str, value: Any):
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
def test_a_record_is_added_and_taken_out_again(
    before: list[Any], style: dict[str, Any], record: dict[str, Any]
):
    text = as_json(before, style)
    tree, data = read(text)

    after = apply(text, add_items(text, tree.root, TODOS, [{"id": "NEW", **record}], ORDER))

    data["coordination"]["todos"].append({"id": "NEW", **record})
    assert same(read(after)[1], data)
    assert json.loads(after) == data
    assert apply(after, remove_item(after, section(after), "todos", len(before))) == text
