"""Attempts that land a change set, or take it back.

| module | content |
|---|---|
| `land_attempt.py` `land_job.py` | what attempts to land or to revert share; what they may use |
| `land.py` | one attempt that pushes to the base branch |
| `forge_attempt.py` | what attempts that ask a forge share; how they look at a pull request |
| `land_request.py` `revert_request.py` | one attempt that lands, or reverts, by a pull request |
| `land_checks.py` | the checks of a landing: whether a green result still counts |
| `landed_commits.py` | what git tells of the commits of landings and of pull requests |
"""
