"""Remove the artifacts of ended runs, and look for results in the base branches.

| module | content |
|---|---|
| `jobs.py` `execution.py` | cleanup that a command orders from all workers: its jobs, and one job |
| `automatic.py` | cleanup after a run |
| `artifacts.py` | worktrees and files of runs |
| `branches.py` | branches of runs, and of change sets that have landed or are discarded |
| `change_set_rollback.py` | takes a run that is rolled back out of its change set |
| `rollback.py` | worktrees and branches of a run that is rolled back |
| `completed.py` | the answer where results of completed todos are; for a landing, their commits |
| `landed.py` | results in a base branch |
| `reverted.py` | results that a base branch had and lost |
"""
