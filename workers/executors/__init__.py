"""From an action to a command.

| module | content |
|---|---|
| `commands.py` | one executor for each kind of action |
| `checks.py` `junit.py` | the verdict of a quality check; its report |
| `job.py` | the records of an executor |
| `land.py` `land_job.py` | one attempt of a todo that lands or reverts a change set; what it may use |
| `services.py` | a transition of a service |
| `land_checks.py` | the checks of a landing: whether a green result still counts |
| `landed_commits.py` | what the commits of a landing tell |
| `call.py` | the program that calls a function for a python action; runs in the todo's process |
"""
