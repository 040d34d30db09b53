"""Edits of YAML text as the few characters that must change. All functions are pure: text and nodes in, text
edits out.

| module | content |
|---|---|
| `amendments.py` | setting or removing a field, with its comments and gaps |
| `records.py` | adding or removing a record; creating a missing section |
| `writing.py` | the style of a value: the old value's, or that of the values beside it |
| `rendering.py` | values as YAML text |
| `flow.py` | elements between brackets: commas, spaces, rows |

The caller verifies that the result has the intended values (`ecosystem/changes.py`).
"""
