"""Queries and edits of the records in ecosystem.yaml.

| module | content |
|---|---|
| `manager.py` | `CoordinationManager`: all operations; each operation is one edit of the file |
| `reading.py` | `Reader`: its read-only half |
| `kinds.py` `records.py` | kinds of records and their status transitions; results of operations |
| `queries.py` | filters and order |
| `validation.py` `references.py` | checks of values, and of the names of other records |
| `relations.py` | dependencies between records, in both directions |
| `transaction.py` `mutations.py` `milestones.py` `deletion.py` | creating, changing and deleting records |
| `readiness.py` | after each change: no cycle, and the records that became ready |
| `executing.py` | todos that runs execute at present, joined with the file |
| `dependency_checks.py` | checks of dependencies, and the statuses that they change |
| `status.py` `completion.py` | status of repositories and of the ecosystem; completion of plans |
"""
