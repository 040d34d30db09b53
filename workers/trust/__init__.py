"""Signatures on a worker's machine: keys that it trusts, orders before they are executed, results.

| module | content |
|---|---|
| `worker_trust.py` | the worker's key, the keys that it trusts, the check of orders, expiry |
| `server_memory.py` | the id of each Redis server that this machine's workers serve |
| `order_memory.py` | orders that have ended, and the order that has landed last |
| `signed_results.py` | signed results, and the check of those that a todo builds on |
"""
