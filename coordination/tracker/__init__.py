"""Queries and edits of the records in ecosystem.yaml.

| module | content |
|---|---|
| `manager.py` | `CoordinationManager`: all operations; each change is one edit of the file |
| `kinds.py` `records.py` | kinds of records and their status transitions; results of operations |
| `queries.py` | filters and order; records joined with the todos that runs execute |
| `relations.py` | references between records: checks, both directions, chains |
| `status.py` | status of one repository and of the ecosystem; the issues that block work |
| `transaction.py` | one operation: validated records, new ids, and the edit that it makes |
| `mutations.py` `milestones.py` | creating, changing and deleting records; milestones of plans |
| `completion.py` | whether a plan is complete; refusal of edits that complete an incomplete one |
| `brief.py` | the facts that somebody needs to plan a change |
| `proposals.py` | plans that agents propose: created, with warnings and the difference of the file |
| `templates.py` | plan templates: plans and todos made for many repositories |
"""
