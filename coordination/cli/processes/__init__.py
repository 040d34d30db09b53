"""Commands that start workers and servers, and prepare Redis for them.

| module | commands |
|---|---|
| `machine.py` | `up`, `down`, `worker`, `keeper`, `flower`, `metrics` |
| `services.py` | `service`: start, stop, restart, list and show the services of the file |
| `servers.py` | `mcp`, `gateway` |
| `dashboard.py` | `dashboard`, `open` |
| `acl.py` | `acl`, `steps` |
| `credentials.py` | `credential` |
"""
