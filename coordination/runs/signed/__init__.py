"""The contents of runs by their verified signatures.

| module | content |
|---|---|
| `orders.py` | the signed order of a run, as its readers verify it |
| `results.py` | decides by signed results what may be written into the file, and what may be undone |
"""
