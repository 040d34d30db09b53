"""Pull requests of change sets: opened and brought up to date, listed, closed.

| module | content |
|---|---|
| `records.py` | options, and the records that commands and tools show |
| `proposal.py` | which repositories of a change set get a request, in which order, and its text |
| `push.py` | the branch of a change set to the forge, never over a commit of somebody else |
| `access.py` | the forge of a repository, with token and budget; whether a change set may be proposed |
| `create.py` | opens and updates the requests of a plan |
| `before_landing.py` | asks remotes and forges, without a change, what would refuse a landing |
| `repair.py` | what requests lack that an agent may repair; the answers to their reviewers |
| `existing.py` | reads requests with their checks and reviews; closes them; adopts one of somebody else |

A request is recorded in its change set (`runs/change_sets/store.py`) as soon as the forge has it. After a
crash the next `create` finds it by its branch, so nothing is opened twice.
"""
