"""Execute todos on the machine where the repositories are.

`command` reads the arguments and starts `pool` (the process), which takes the services of a `Container` (`app`;
`restricted`: for a worker that asks a maintenance leader for its steps) and serves Celery's two tasks (`tasks`).

| module | |
|---|---|
| `delivery` | one message: claim, attempt, and the step that its outcome asks for |
| `attempt` `actions` `outcome` | run a todo or compensate one: workspace, command, result |
| `leases` `local_liveness` `notifications` | background services: heartbeats, dead local workers, wake-ups |
| `config` `served` `file_watch` | start configuration; repositories served now; changes of ecosystem.yaml |
| `attempt_environment` | brief, folders, services and commits for an attempt |
| `context` `context_socket` `checkpoints` `logs` | a todo's input, shared values, progress and output |
| `consumer` `failpoints` | Celery's consumer and thread pool; where tests make a worker fail |
| `workspace/` | a git worktree of the run, or the checkout itself |
| `process/` | a command under its guard, and the processes that an attempt left |
| `executors/` | from an action to a command |
| `transfer/` | commits from and for other hosts |
| `result_cache/` | results of earlier todos |
| `cleanup/` | artifacts of ended runs; results that are in the base branches, or not |
"""
