"""Commands on the records of the file.

| module | content |
|---|---|
| `records.py` `dependencies.py` | list, create, update, delete; validate a plan; check dependencies |
| `edit_commands.py` | the common shape of create, update and delete |
| `lists.py` `pages.py` | records as tables; a record as a page |
| `status.py` | state of a repository or of everything |
| `exchange.py` | issues of forges; records for other programs |
"""
