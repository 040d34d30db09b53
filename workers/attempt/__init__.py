"""One execution of a todo, under a lease with a fence.

| module | content |
|---|---|
| `attempt.py` | enters the workspace, runs the command, keeps the result |
| `actions.py` | the differences between running a todo and compensating it |
| `check.py` | a quality check: changes nothing, and is judged |
| `landing.py` | a todo of a landing; a check that runs again within it |
| `choice.py` | the action of an attempt, with what it needs; the style of its commits |
| `commands.py` | runs commands under the guard, stops them, commits with git's hooks |
| `environment.py` | brief, folders, services and commits for an attempt |
| `context.py` `context_socket.py` | predecessors' outputs, and shared values that a todo reads and sets |
| `secrets.py` | secrets that a todo names, as files of the attempt |
| `checkpoints.py` `logs.py` | a todo's progress and output |
"""
