"""Change sets as people see and handle them: shown, compared, adopted, resolved, discarded.

| module | content |
|---|---|
| `view.py` | a change set in one repository as front ends show it, and why it waits; reads all without git |
| `checkout.py` | by git on this machine: the difference to the base; the work on a branch |
| `adoption.py` | a branch that a person takes as the tip; a change set that Redis has lost |
| `resolve.py` | where a conflict with the base branch is resolved |
| `requests/` | pull requests: opened and brought up to date, listed, closed |
| `issues/` | issues of the file at the forges of their repositories |
| `discard.py` | a change set that is given up: branches, todos, records |

The records are those of `runs/change_sets/store.py`; landing them is in `landing`.
"""
