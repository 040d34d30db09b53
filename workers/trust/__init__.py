"""Signatures on a worker's machine: keys that it trusts, orders before they are executed, results.

| module | content |
|---|---|
| `worker_trust.py` | the worker's key, the keys that it trusts, the setting `signatures`, expiry |
| `order_check.py` | checks that somebody who may has ordered what is to be executed |
| `signed_results.py` | signed results, and the check of those that a todo builds on |
"""
