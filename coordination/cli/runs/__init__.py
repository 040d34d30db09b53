"""Commands on runs.

| module | content |
|---|---|
| `sweep.py` `retry.py` | start a run, follow it, write it back; checkpoints |
| `dry_run.py` `forecast.py` | preview of a sweep; graph and forecast of a plan |
| `live_progress.py` `progress_text.py` `summary.py` `advice.py` | output during and after a run |
| `inspection.py` `control.py` | list, show, watch, logs, sync; pause, resume, cancel, approve, reject |
| `changes.py` | `changes`, `diff`, `adopt` and `resolve` |
| `requests.py` | `pr`: the pull requests of change sets |
| `qa.py` `ci.py` | quality checks of repositories, and their results; the same in a CI job |
| `campaign.py` `templates.py` `exec.py` | one plan, or one command, for many repositories; templates |
| `land.py` `waves.py` | `land` and `revert`; the waves of a landing |
| `services.py` | start, stop, restart, list and show services |
| `rollback.py` `export.py` `clean.py` | undo; move to another Redis; remove what runs have left |
"""
