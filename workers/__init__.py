"""Execute todos on the machine where the repositories are.

`worker_process` takes the services of a `Container`, and serves Celery's two tasks. Each message is a
*delivery*: the worker claims its todo, executes an attempt, and takes the one step in Redis that the outcome
asks for.

| module | |
|---|---|
| `worker_process` `celery_worker` | command line and process; consumer, threads, tasks |
| `config` | its arguments; the repositories that it serves, from the start and now |
| `container` `core` | its services and when each starts; what they are made of |
| `execution` `leader_services` | made for the first todo; made while the worker leads the maintenance |
| `restricted` | the services of a worker that asks a maintenance leader for its steps |
| `delivery` | one message: the claim, the attempt, and the step that its outcome asks for |
| `attempt/` | runs a todo or compensates one: workspace, command, result; its input, progress and output |
| `agents/` | programs of agents: command lines, the meaning of their output |
| `outcome` `task_result` | the outcome of an attempt, up to the step that settles it; what Celery shows |
| `leases` | heartbeats of the worker and of its attempts; recovery after dead workers of this machine |
| `notifications` | the worker's inbox |
| `waits` | fires parked todos early: services, news of a forge |
| `sandbox` `credentials` | the sandboxes of todos' commands; secrets for todos and for git |
| `workspace/` | a git worktree of the run, or the checkout itself |
| `process/` | a command under its guard, and the processes that an attempt left |
| `transfer/` | commits from and for other hosts |
| `landing/` | a change set onto the base branch of one repository, and out of it again |
| `trust/` | keys that the worker trusts; orders checked; results signed and checked |
| `cleanup/` | artifacts of ended runs; results that are in the base branches, or not |
| `file_services` | edits of the file into the history; results of runs into the file; the health monitor |
"""
