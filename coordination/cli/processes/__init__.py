"""Commands that start workers and servers, and prepare Redis for them.

| module | commands |
|---|---|
| `machine.py` | `up`, `down`, `worker`, `keeper`, `flower`, `metrics`, `open` |
| `services.py` | `service`: start, stop, restart, list and show the services of the file |
| `servers.py` | `mcp`, `gateway`, `dashboard` |
| `access.py` | `acl`; output of `steps` and `credential` |
"""
