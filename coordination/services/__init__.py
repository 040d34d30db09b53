"""Services: programs of repositories that stay up on the machines where the repositories live.

| module | content |
|---|---|
| `graph.py` | the order and the phases of services; pure |
| `transition.py` `outcome.py` | the run that starts, stops or restarts services; its result |
| `view.py` | a service with its state, for people and programs |
| `host.py` | the services of one machine: which are wanted, and their states |
| `published.py` | the states of all hosts, which workers publish in Redis |
| `supervisor.py` `runner.py` | the process that keeps them up; the thread of each |
| `units.py` | services that are systemd units |
| `logs.py` | the end of a service's log |
| `probes.py` | one look at a service |
"""
