"""Land a change set in one repository, or take it out again.

An attempt of a todo of a landing run looks at the true state, takes the next step, and records it before
anything changes. `land.py` and `revert.py` have the order of the steps, which is the same for all ways. A way
is a `LandWay` and a `RevertWay`: the steps in which it differs.

| step | local | push | pull request |
|---|---|---|---|
| look | at the checkout | at the remote | at the remote, and at the request |
| check | the checkout is clean | the right to push, Git LFS | the request is opened and ready |
| bring | a push into the checkout | a push to the remote | the forge merges the request at the seen head |
| revert | a push into the checkout | a push to the remote | the forge merges a request of the revert |
| undo | the commit of the record | the commit of the record | the merge of the record, or out of the queue |

| module | content |
|---|---|
| `carry_out.py` | carries a todo out in the way that its action names |
| `land.py` `revert.py` | the protocols of a landing and of a revert |
| `direct.py` | the ways local and push |
| `requests/` | the way by pull request |
| `attempt.py` | what both protocols share: the base branch, records, waits and ends |
| `checks.py` | whether the results of quality checks hold for the tree that lands |
| `todo.py` | the todo: what the engine knows of its change set, and what it is told |
| `approvals.py` | the commits at which approvals were seen first |

Functions that call git. They decide nothing about a plan and keep no state. Each asks the repository or its
remote for the present state, so an interrupted call can be repeated: a step that is done already succeeds.
No push is forced.

| module | content |
|---|---|
| `remote.py` | the base branch at the remote: look, begin a run there, push, try the right to push |
| `local.py` | the base branch of a checkout on this machine: look, push |
| `commits.py` | makes commits that land, revert and reopen |
| `history.py` | finds out which work has landed, and by which commits |
| `records.py` | what a step has found or made, or why it was refused |
| `refusals.py` | reads the reason of a refusal in the messages of git and of a remote |
"""
