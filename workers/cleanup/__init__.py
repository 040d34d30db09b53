"""Removes what ended runs have left, and looks for results in the base branches.

| module | content |
|---|---|
| `jobs.py` | clean-up by command of all workers, and by itself after a run |
| `artifacts.py` | worktrees and files of runs |
| `branches.py` | branches of runs, and of change sets that have landed or are discarded |
| `rollback.py` | a run that is rolled back: out of its change set; its worktree and branch |
| `landed.py` `reverted.py` | results in a base branch; results that it had and lost |
"""
