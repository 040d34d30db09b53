"""YAML text: its nodes, where each begins and ends, what it says, and small changes to it. Nothing here knows a record.

| file | |
|---|---|
| `tree.py` | nodes that know where they stand; what cannot be read, in words |
| `values.py` | what the nodes say, as plain values, and what YAML would pass over in silence |
| `places.py` | from a place in the values to a line, and to words people find it by |
| `lines.py` | where things and lines end |
| `splices.py` | a change: from here to there, this instead |
"""
