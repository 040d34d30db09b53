"""Commands on runs.

| module | content |
|---|---|
| `sweep.py` `retry.py` | start a run; retries and checkpoints |
| `dry_run.py` `forecast.py` | preview of a sweep; graph and forecast of a plan |
| `inspection.py` `control.py` | list, show, watch, logs, sync; pause, resume, cancel, approve, reject |
| `campaign.py` `templates.py` `exec.py` | one plan, or one command, for many repositories; templates |
| `rollback.py` `export.py` `clean.py` | undo; move to another Redis; remove what runs have left |
"""
