"""Signatures on a worker's machine: keys that it trusts, orders before they are executed, results.

| module | content |
|---|---|
| `worker_trust.py` | the worker's key, the keys that it trusts, and how strictly it does |
| `order_check.py` | whether what is to be executed was ordered by somebody who may |
| `signed_results.py` | signed results, and the check of those that a todo builds on |
"""
