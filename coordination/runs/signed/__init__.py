"""The contents of runs by their verified signatures.

| module | content |
|---|---|
| `orders.py` | the signed order of a run, as its readers verify it |
| `results.py` | what signed results and decisions allow to be written into the file, and to be undone |
"""
