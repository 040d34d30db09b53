"""YAML text: nodes with positions, their values, and small edits, independent of coord's records.

| module | content |
|---|---|
| `tree.py` | nodes with their positions; messages for syntax errors |
| `values.py` | plain values of the nodes; problems that YAML ignores silently |
| `places.py` | from a location in the values to a line and a readable name |
| `lines.py` | ends of nodes and lines; replacements of text |
"""
