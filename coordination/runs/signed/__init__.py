"""The contents of runs by their verified signatures.

| module | content |
|---|---|
| `orders.py` | the signed order of a run, as its readers verify it |
| `outcome.py` | what of a run may be written into the file |
| `undo.py` | what of a run may be undone |
"""
