"""Execute todos on the machine where the repositories are.

`command` reads the arguments and starts a `WorkerProcess`, which takes the services of a `Container` and
serves Celery's two tasks. Each message is a *delivery*: the worker claims its todo, executes an attempt, and
takes the one step in Redis that the outcome asks for.

| module | |
|---|---|
| `command` `worker_process` `celery_worker` | arguments; the process; consumer, threads, tasks |
| `container` `restricted` | its services; those of a worker that asks a maintenance leader for its steps |
| `config` | what it serves: from the start, and now |
| `delivery` `outcome_steps` | one message: claim and attempt; the step that its outcome asks for |
| `attempt/` | runs a todo or compensates one: workspace, command, result; its input, progress and output |
| `outcome` | the outcome of an attempt, from its end to the step that settles it |
| `leases` | heartbeats of the worker and of its attempts |
| `waits` | continues todos that wait for a service, or for news of a request at a forge |
| `sandbox` `credentials` | the sandboxes of todos' commands; secrets for todos and for git |
| `workspace/` | a git worktree of the run, or the checkout itself |
| `process/` | a command under its guard, and the processes that an attempt left |
| `transfer/` | commits from and for other hosts |
| `landing/` | a change set onto the base branch of one repository, and out of it again |
| `trust/` | keys that the worker trusts; orders checked; results signed and checked |
| `cleanup/` | artifacts of ended runs; results that are in the base branches, or not |
| `background/` | dead local workers, wake-ups, results into the file, the history, expiry |
| `health` | the health monitor, looks at remotes, recoveries as runs |
"""
