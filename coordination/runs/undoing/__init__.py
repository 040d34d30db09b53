"""Undoing runs.

| module | content |
|---|---|
| `preview.py` | the preview of a rollback; which runs must not be undone |
| `operations.py` | roll back, restore, accept |
"""
