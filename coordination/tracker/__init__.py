"""Queries and edits of the records in ecosystem.yaml.

| module | content |
|---|---|
| `manager.py` | `CoordinationManager`: all operations; each operation is one edit of the file |
| `reading.py` | `Reader`: its read-only half |
| `kinds.py` `records.py` | kinds of records and their status transitions; results of operations |
| `queries.py` | filters and order; records joined with the todos that runs execute |
| `references.py` | checks of the names of other records |
| `edit/` | creating, changing and deleting records |
| `templates.py` | plan templates: plans and todos made for many repositories |
| `relations.py` | dependencies between records, in both directions |
| `status.py` `completion.py` | status of repositories and of the ecosystem; completion of plans |
"""
