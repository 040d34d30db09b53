"""A change to the file as the few characters that must change. All is pure: text and nodes in, splices out.

| file | |
|---|---|
| `amendments.py` | a field set or taken out |
| `records.py` | a record added or taken out; the section that gets its first one |
| `neighbours.py` `writing.py` | in whose hand: a record's as its neighbour's, a value's as the old one's |
| `rendering.py` | how YAML says a value |
| `flow.py` | elements between brackets: commas, spaces, rows |
| `regions.py` | what goes with what is taken out: comments, and one of two gaps |

Whether the result means what was meant is proved by those who ask for it (`ecosystem/revision.py`).
"""
