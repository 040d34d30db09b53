"""Commands on the records of the file.

| module | content |
|---|---|
| `records.py` `dependencies.py` | list, create, update, delete; validate a plan; check dependencies |
| `edit_commands.py` | the common shape of create, update and delete |
| `lists.py` `pages.py` | records as tables; a record as a page |
| `status.py` | state of a repository or of everything |
| `issue_sync.py` | issues of the file and of forges |
| `export.py` | records for other programs |
"""
