"""Quality checks of repositories as runs of their own, against the changed versions of what they need.

A run of checks has a todo for each check (`planner/checks.py`) and writes nothing into the file. Its todos
begin at the tips of a change set, at the commits of a run, or at the base branches, and commit nothing. A
check that is not green fails its todo, so those that need its repository are skipped. Results are the outputs
of the todos (`runs/change_sets/records.py`); green ones are reused by the result cache, for the trees
of the repository and of those that it needs.
"""
