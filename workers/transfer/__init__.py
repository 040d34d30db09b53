"""Carries commits between hosts: bundles in Redis, or a branch of the remote repository.

| module | content |
|---|---|
| `commits.py` | a delivery's commits: fetch, send, withdraw |
| `fetcher.py` | a commit from another host |
| `bundles.py` `publishing.py` | where commits are stored: in Redis; on a branch of the remote |
"""
