"""Retries an ended run: a new run of the todos that did not succeed.

| module | content |
|---|---|
| `ended.py` | an ended run as it is read back |
| `retry_plan.py` | the todos that the new run executes, and those that it carries over |
| `retry_run.py` | the new run; writes and seals it |
| `rerun_selection.py` | succeeded todos that are executed again |
| `named_checkpoints.py` | the states that people named, to which a run can be taken back |
"""
