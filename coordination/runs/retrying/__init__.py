"""Retries an ended run: a new run of the todos that did not succeed.

| module | content |
|---|---|
| `ended.py` | an ended run as it is read back; succeeded todos that are executed again |
| `retry_plan.py` | the todos that the new run executes, and those that it carries over |
| `retry_run.py` | the new run; writes and seals it |
| `named_checkpoints.py` | the states that people named, to which a run can be taken back |
"""
