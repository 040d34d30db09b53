"""One execution of a todo, under a lease with a fence.

| module | content |
|---|---|
| `attempt.py` | enters the workspace, runs the command, keeps the result |
| `environment.py` | brief, folders, services and commits for an attempt, made from the worker's services |
| `actions.py` | running a todo, compensating a todo: where they differ |
| `checks.py` | running a quality check; its verdict, from its exit code and its JUnit report |
| `commands.py` `call.py` | from an action to a command under the guard; the caller of a python function |
| `agent_rounds.py` `prompt.py` | an agent's rounds: prompt, program, paths, verify commands, feedback |
| `changes.py` | the changes of predecessors, for a prompt |
| `usage.py` | what the agent of an attempt has used so far, and its budgets |
| `in_process.py` | services and landings, which need no command |
| `context.py` `context_socket.py` | COORD_CONTEXT; shared values that a todo reads and sets |
| `reads.py` | the other repositories that an agent sees |
| `output.py` | the log, COORD_OUTPUT, and checkpoints |
| `attempt_cache.py` `result_cache.py` | reuse of earlier results in an attempt; their keys and storage |
"""
