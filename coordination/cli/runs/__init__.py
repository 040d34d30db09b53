"""The commands about runs.

| file | |
|---|---|
| `outlook.py` `dry_run.py` | looking ahead |
| `sweep.py` `retry.py` | runs begun |
| `following.py` `waits.py` `summary.py` `advice.py` | what is said while they go on, and when they have ended |
| `looking.py` `steering.py` `clean.py` | runs that are there: looked at, steered, cleaned up after |
"""
