"""Land a change set in one repository, or take it out again.

Attempts of the todos of a landing run:

| module | content |
|---|---|
| `attempt.py` `job.py` | the base of all attempts; the functions that they call, and their checks |
| `land.py` | one attempt that pushes to the base branch |
| `forge_attempt.py` | the base of attempts that ask a forge; how they look at a pull request |
| `land_request.py` `revert_request.py` | one attempt that lands, or reverts, by a pull request |

Functions that call git. They decide nothing about a plan and keep no state. Each asks the repository or its
remote for the present state, so an interrupted call can be repeated: a step that is done already succeeds.
No push is forced.

| module | content |
|---|---|
| `records.py` | the repository and branch to land in; outcomes; the reason of a refusal by git or a remote |
| `remote.py` | the base branch at the remote: look, begin a run there, push, try the right to push |
| `local.py` | the base branch of a checkout on this machine: look, push |
| `commits.py` | makes commits that land, revert and reopen; finds out from git which work has landed |
"""
