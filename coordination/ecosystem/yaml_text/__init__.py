"""YAML text: nodes with positions, their values, and edits that change only the characters that must change.

| module | content |
|---|---|
| `tree.py` | nodes with their positions, and their plain values; messages for syntax errors |
| `lines.py` | ends of nodes and lines; replacements of text |
| `rendering.py` | values as YAML text in a given style |
| `lists.py` | edits of lists: items below each other, elements in brackets |
| `fields.py` | edits of a record: a field set or removed, in the style of its neighbours |
| `records.py` | records added or removed; missing sections created |

The round trip of ruamel.yaml is not used, because it writes the whole file anew. Where one status is changed,
coord changes that line alone in each of 204 files (`python -m benchmarks.edit --fidelity`). The round trip
changes other lines in 17 of 63 files of the tests and the documentation, and in all 141 drawn files: 70 lose
comments, within brackets and braces, and 17 are no longer valid. It takes 66 times as long for 10,000 todos.

All functions are pure: they take the text and its nodes, and return text edits. The caller verifies that the
result has the intended values (`ecosystem/changes.py`).
"""
