"""Commands on runs.

| module | content |
|---|---|
| `sweep.py` `forecast.py` | preview or start a run; graph and forecast of a plan |
| `inspection.py` `control.py` | list, show, watch, logs, sync; pause, resume, cancel, approve, reject |
| `recovery.py` | retry, rollback, checkpoints |
| `campaign.py` | one plan, or one command, for many repositories; templates |
| `new_plan.py` `proposals.py` | plans of options, a template, a proposal; a proposal shown and written |
| `storage.py` | export and import; clean-up of worktrees, branches and logs |
"""
