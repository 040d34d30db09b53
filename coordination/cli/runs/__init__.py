"""The commands about runs.

| file | |
|---|---|
| `outlook.py` `dry_run.py` | looking ahead |
| `sweep.py` `retry.py` | runs begun |
| `following.py` `waits.py` `summary.py` `advice.py` | what is said while they go on, and when they have ended |
| `looking.py` `steering.py` `approving.py` | runs that exist: shown, paused, cancelled; todos approved |
| `rollback.py` `checkpoints.py` `moving.py` `clean.py` | runs undone, restored, moved to another Redis; what they have left removed |
"""
