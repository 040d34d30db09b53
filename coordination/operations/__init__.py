"""Processes of this machine, and tools for operators.

| module | content |
|---|---|
| `local.py` | embedded server, worker, Flower and dashboard, started and stopped by need |
| `state.py` | the state folder, and the users of these processes |
| `pages.py` `flower_app.py` | starting or joining Flower and the dashboard; Flower's process |
| `supervision.py` `supervisor.py` | restarting local processes that have died |
| `doctor.py` `checkup.py` | problems of an installation with remedies; the underlying facts |
| `executable.py` | reasons why plans and todos cannot be executed |
| `agent_check.py` | the agents of the settings on this machine: program, version, login |
| `machine_check.py` | the part of doctor on the machine where it runs |
| `quick_queries.py` | queries about runs that do not wait for Redis |
| `used_ids.py` | ids that records have or had, which no new record gets |
| `acl.py` | permissions of Redis users |
| `metrics.py` | metrics for Prometheus |
| `listening.py` `http_limits.py` | listening sockets of servers and their TLS; limits of HTTP connections |
"""
