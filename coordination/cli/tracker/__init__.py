"""Commands on the records of the file.

| module | content |
|---|---|
| `edits.py` | create, update and delete |
| `plans.py` `dependencies.py` | plans with their milestones; checks of dependencies |
| `lists.py` `pages.py` | records as tables; a record as a page |
| `status.py` | state of a repository or of everything |
| `exchange.py` | issues of forges; records for other programs |
"""
