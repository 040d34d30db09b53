"""Show, compare, adopt, resolve and discard change sets; their pull requests, and issues at a forge.

| module | content |
|---|---|
| `view.py` | a change set in one repository as front ends show it, and why it waits; reads all without git |
| `checkout.py` | by git on this machine: the difference to the base; the work on a branch |
| `adoption.py` | adopts a branch of a person as the tip, or a change set that Redis has lost |
| `absent.py` | completed todos whose work is neither in Redis nor in a base branch of this machine |
| `merge.py` | merges commits without a checkout |
| `resolve.py` | finds the worktree in which a conflict with the base branch is resolved |
| `requests/` | pull requests: opened and brought up to date, listed, closed |
| `issues/` | issues of the file at the forges of their repositories |
| `discard.py` | removes a change set: branches, results of todos, records |

The records are those of `runs/change_sets/store.py`; landing them is in `landing`.
"""
