"""Retries an ended run: a new run of the todos that did not succeed.

| module | content |
|---|---|
| `ended.py` | an ended run as it is read back; refuses one that cannot be retried |
| `retry_plan.py` | decides which todos the new run executes, and which it carries over |
| `retry_run.py` | plans a retry from the records, and starts it |
"""
