"""Land a change set in one repository, or take it out again.

An attempt of a todo of a landing run: one protocol, which looks at the true state, takes the next step, and
records it before anything changes. The three ways differ in these points:

| step | local | push | pull request |
|---|---|---|---|
| look | at the checkout | at the remote | at the remote, and at the request |
| check | the checkout is clean | the right to push, Git LFS | the request is opened and ready |
| land | a push into the checkout | a push to the remote | the forge merges the request at the seen head |
| revert | a push into the checkout | a push to the remote | the forge merges a request of the revert |
| undo | the commit of the record | the commit of the record | the merge of the record, or out of the queue |

| module | content |
|---|---|
| `attempt.py` | the base of all attempts: the base branch, records, waits and ends |
| `land.py` | the protocol of a landing; the ways local and push |
| `revert.py` | the protocol of a revert; the ways local and push |
| `forge_attempt.py` | the base of attempts that ask a forge; how they look at a pull request |
| `land_request.py` `revert_request.py` | the way by pull request |
| `approvals.py` | the commits at which approvals were seen first |
| `job.py` | the functions of the worker that attempts call, and their quality checks |

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
