"""YAML text: nodes with positions, their values, and edits that change only the characters that must change.

| module | content |
|---|---|
| `tree.py` | nodes with their positions, and their plain values; messages for syntax errors |
| `lines.py` | ends of nodes and lines; replacements of text |
| `rendering.py` | values as YAML text in a given style |
| `lists.py` | edits of lists: items below each other, elements in brackets |
| `fields.py` | edits of a record: a field set or removed, in the style of its neighbours |
| `records.py` | records added or removed; missing sections created |

All functions are pure: they take the text and its nodes, and return text edits. The caller verifies that the
result has the intended values (`ecosystem/changes.py`).
"""
