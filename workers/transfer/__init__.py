"""Carries commits between hosts: bundles in Redis, or a branch of the remote repository.

| module | content |
|---|---|
| `commits.py` | a delivery's commits: fetch, send, withdraw |
| `fetcher.py` `sender.py` | a commit from another host; a commit for other hosts |
| `bundles.py` `publishing.py` | where they are stored: in Redis; on a branch of the remote |
"""
