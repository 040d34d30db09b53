"""Land a change set in one repository, or take it out again.

Attempts of the todos of a landing run:

| module | content |
|---|---|
| `attempt.py` `job.py` | what all attempts share; what they may use |
| `land.py` | one attempt that pushes to the base branch |
| `forge_attempt.py` | what attempts that ask a forge share; how they look at a pull request |
| `land_request.py` `revert_request.py` | one attempt that lands, or reverts, by a pull request |
| `checks.py` | the checks of a landing: whether a green result still counts |

Calls of git, which decide nothing about a plan and keep no state. Each asks the repository or its remote for
what is true now, so a call that was cut off anywhere is simply made again: what is already there is success.
Nothing is ever forced.

| module | content |
|---|---|
| `records.py` | the repository and branch to land in; outcomes; the reason of a refusal by git or a remote |
| `remote.py` | the base branch at the remote: look, begin a run there, push, try the right to push |
| `local.py` | the base branch of a checkout on this machine: look, push |
| `commits.py` | makes the commits that land, revert and reopen; tells from git which work has landed |
"""
