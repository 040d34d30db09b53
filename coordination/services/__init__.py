"""Services: programs of repositories that stay up on the machines where the repositories live.

| module | content |
|---|---|
| `graph.py` | the order and the phases of services; pure |
| `stages.py` `outcome.py` | the runs that start, stop or restart services; their result |
| `view.py` | a service with its state, for people and programs |
| `host.py` | the services of one machine: which are wanted, and their states |
| `supervisor.py` `runner.py` | the process that keeps them up; the thread of each |
| `probes.py` | one look at a service |
"""
