"""Change sets: their records, read and changed; results of quality checks.

| module | content |
|---|---|
| `records.py` | the records of a change set, and the names of its branches |
| `store.py` | change sets, read and changed |
| `check_results.py` | the result of a quality check, as its todo hands it over |
"""
