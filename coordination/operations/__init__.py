"""Processes of this machine, and tools for operators.

| module | content |
|---|---|
| `local.py` `users.py` `folder.py` | embedded server, worker and Flower, started and stopped by need |
| `joining.py` | starting a process of this machine, or joining one that runs |
| `supervision.py` `supervisor.py` | restarting local processes that have died |
| `doctor.py` `checkup.py` | problems of an installation with remedies; the underlying facts |
| `machine_check.py` | the part of doctor on the machine where it runs |
| `executable.py` | checks of whether plans of a valid file can be executed |
| `quick_queries.py` | queries about runs that do not wait for Redis |
| `acl.py` | permissions of Redis users |
| `flower.py` `flower_app.py` `dashboard.py` | starting Flower; its process; starting the dashboard |
| `metrics.py` `listening.py` | metrics for Prometheus; listening sockets and limits of HTTP servers |
| `tls.py` | certificates of these servers, also when they are renewed |
"""
