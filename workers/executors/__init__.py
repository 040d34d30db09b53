"""From an action to a command.

| module | content |
|---|---|
| `commands.py` | one executor for each kind of action |
| `checks.py` `junit.py` | the verdict of a quality check; its report |
| `job.py` | the records of an executor |
| `land_attempt.py` `land_job.py` | what attempts to land or to revert share; what they may use |
| `land.py` | one attempt that pushes to the base branch |
| `forge_attempt.py` `request_look.py` | attempts that ask a forge; how they look at a request |
| `land_request.py` `revert_request.py` | one attempt that lands, or reverts, by a pull request |
| `request_commits.py` | what git tells of a pull request and its merge |
| `services.py` | a transition of a service |
| `land_checks.py` | the checks of a landing: whether a green result still counts |
| `landed_commits.py` | what the commits of a landing tell |
| `call.py` | the program that calls a function for a python action; runs in the todo's process |
"""
