"""Services: programs of repositories that stay up on the machines where the repositories live.

| module | content |
|---|---|
| `graph.py` | the order and the phases of services; pure |
| `transition.py` | the run that starts, stops or restarts services, and its outcome |
| `view.py` | services with their states on all hosts, which workers publish in Redis |
| `host.py` | the services of one machine: which are desired, their states and logs |
| `confined.py` | the sandbox of a service and of its probe |
| `probe.py` | one look at a service: whether it works |
| `runner.py` | the thread of one service |
| `unit.py` | the thread of a service that is a systemd unit |
| `supervisor.py` | the process that keeps them up |
"""
