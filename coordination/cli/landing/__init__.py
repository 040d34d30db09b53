"""Commands on change sets, from quality checks to the base branches.

| module | commands |
|---|---|
| `changes.py` | `changes`, `diff`, `adopt`, `resolve` |
| `qa.py` | `qa`: quality checks of repositories, and their results; `ci`: the same in a CI job |
| `requests.py` | `pr`: the pull requests of change sets |
| `land.py` | `land`, `revert` |
"""
