"""Land a change set in one repository: git calls that decide nothing about a plan and keep no state.

Each function asks the repository or its remote for what is true now, so a call that was cut off anywhere is
simply made again: what is already there is success. Nothing is ever forced.

| module | content |
|---|---|
| `records.py` | the repository and branch to land in; outcomes, and the reasons for refusals |
| `remote.py` | the base branch at the remote: look, begin a run there, push, try the right to push |
| `local.py` | the base branch of a checkout on this machine: look, push |
| `prepare.py` | the commits: to land (merge, squash, ff), to take back, to open again; whether one landed |
| `refusals.py` | from the words of git and of a remote to a reason |
"""
