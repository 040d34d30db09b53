"""The commands about what the file declares.

| file | |
|---|---|
| `issues.py` `todos.py` `plans.py` `deps.py` `repos.py` | a kind of record each: listed, created, changed, deleted |
| `breakers.py` | the circuit breakers beside a repository's status |
| `changing.py` `happened.py` | how all of them change something, and what they say of it |
| `done.py` | a todo that somebody has done |
| `listing.py` `showing.py` | records as tables; one record as a page |
| `status.py` | where things stand |
| `validating.py` `check_deps.py` | whether a plan is complete, and dependencies are met |
| `export.py` | records for other programs |
"""
