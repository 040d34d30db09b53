"""One execution of a todo, under a lease with a fence.

| module | content |
|---|---|
| `attempt.py` | enters the workspace, runs the command, keeps the result |
| `environment.py` | brief, folders, services and commits for an attempt |
| `actions.py` | running a todo, checking a repository, compensating a todo: where they differ |
| `executors.py` `call.py` | from an action to a command; the program that calls a python function |
| `checks.py` | the verdict of a quality check, from its exit code and its JUnit report |
| `commands.py` | runs commands under the guard, stops them, commits with git's hooks |
| `in_process.py` | services and landings, which need no command |
| `context.py` `context_socket.py` | COORD_CONTEXT; shared values that a todo reads and sets |
| `output.py` `logs.py` | COORD_OUTPUT and checkpoints; the log |
| `result_cache.py` `cache_key.py` | results of earlier todos are reused; the key of a result |
"""
