"""Health of repositories and services, as far as a worker looks after it.

| module | content |
|---|---|
| `parts.py` | the threads of a worker that looks after health |
| `remotes.py` | looks at the remotes of the repositories that it serves |
| `recovery.py` | recoveries as runs |
"""
