"""Commands on change sets, from quality checks to the base branches.

| module | commands |
|---|---|
| `changes.py` | `changes`, `diff`, `discard`, `adopt`, `resolve` |
| `checks.py` | `qa run`, `qa ci`, `qa show`: quality checks of repositories, and their results |
| `requests.py` | `pr`: the pull requests of change sets |
| `land.py` | `plan land`, `plan revert` |
"""
