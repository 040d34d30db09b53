"""Execute todos on the machine where the repositories are.

`__main__` starts `pool` (the process), which takes the services of a `Container` (`app`; `restricted`: of a worker that asks a
maintenance leader for its steps) and serves Celery's two tasks (`tasks`).

| module | |
|---|---|
| `delivery` | one message: claim, attempt, and the step that records its outcome |
| `attempt` `actions` `outcome` | workspace, command, and what is kept of it: run a todo, or compensate one |
| `leases` `local_liveness` `notifications` | services beside the attempts: renewals, dead neighbours, messages that cannot wait |
| `served` `file_watch` | which repositories this worker serves; changes of ecosystem.yaml |
| `attempt_environment` `rate_limited_log` `failpoints` | what an attempt finds on this machine; a log that repeats nothing; where tests make a worker fail |
| `context` `context_socket` `checkpoints` `logs` | what a todo is told, may ask, and writes |
| `workspace/` | a git worktree of the run, or the checkout itself |
| `process/` | a command under its guard, and the processes that an attempt left behind |
| `executors/` | from an action to a command |
| `transfer/` | commits from and for other hosts |
| `result_cache/` | results of todos that were done before |
| `cleanup/` | what ended runs have left; results that are in the base branches, or not |
"""
