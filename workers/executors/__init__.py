"""Attempts that land a change set, or take it back.

| module | content |
|---|---|
| `land_attempt.py` `land_job.py` | what attempts to land or to revert share; what they may use |
| `land.py` | one attempt that pushes to the base branch |
| `forge_attempt.py` `request_look.py` | attempts that ask a forge; how they look at a request |
| `land_request.py` `revert_request.py` | one attempt that lands, or reverts, by a pull request |
| `request_commits.py` | what git tells of a pull request and its merge |
| `land_checks.py` | the checks of a landing: whether a green result still counts |
| `landed_commits.py` | what the commits of a landing tell |
"""
