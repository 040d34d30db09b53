"""Carries commits between hosts: by bundles in Redis, or by a branch of the remote repository.

| module | content |
|---|---|
| `commits.py` | fetches, sends and withdraws the commits of a delivery |
| `fetcher.py` | brings a commit of another host into a folder or a checkout |
| `routes.py` | bundles in Redis; branches of the remote |
"""
