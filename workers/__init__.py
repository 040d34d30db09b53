"""Execute todos on the machine where the repositories are.

`command` reads the arguments and starts `pool` (the process), which takes the services of a `Container`
(`app`;
`restricted`: for a worker that asks a maintenance leader for its steps) and serves Celery's two tasks
(`tasks`).

| module | |
|---|---|
| `delivery` `outcome_steps` | one message: claim and attempt; the step that its outcome asks for |
| `attempt/` | runs a todo or compensates one: workspace, command, result; its input, progress and output |
| `outcome` | the outcome of an attempt, from its end to the step that settles it |
| `leases` | heartbeats of the worker and of its attempts |
| `background/` | dead local workers, wake-ups, results into the file, the history, expiry |
| `trust/` | keys that the worker trusts; orders checked; results signed and checked |
| `waits` | continues todos that wait for a service, or for news of a request at a forge |
| `health/` | the health monitor, looks at remotes, recoveries as runs |
| `config` `served` `file_watch` | start configuration; repositories served now; changes of ecosystem.yaml |
| `sandbox` `credentials` | the sandboxes of todos' commands; secrets for todos and for git |
| `consumer` | Celery's consumer and thread pool |
| `workspace/` | a git worktree of the run, or the checkout itself |
| `process/` | a command under its guard, and the processes that an attempt left |
| `executors/` | attempts to land a change set, or to take it back |
| `transfer/` | commits from and for other hosts |
| `landing/` | a change set onto the base branch of one repository |
| `result_cache/` | results of earlier todos |
| `cleanup/` | artifacts of ended runs; results that are in the base branches, or not |
"""
