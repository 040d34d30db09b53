"""The tools: functions of a session, each over one operation of the facade.

| module | tools on |
|---|---|
| `runs.py` | runs, logs, checkpoints, approvals |
| `changes.py` | change sets: landing, quality checks, pull requests; issues at forges |
| `generators.py` | many repositories: a command in each |
| `coordination.py` | services, events of topics |
"""
