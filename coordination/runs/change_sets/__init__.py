"""Change sets: their records, read and changed; results of quality checks.

| module | content |
|---|---|
| `records.py` | the records of a change set, the names of its branches, the result of a quality check |
| `store.py` | change sets, read and changed |
"""
