"""Maintenance of runs: due timers, expired leases, lost messages, records that have expired.

| module | content |
|---|---|
| `leader.py` | the loop of the one process that holds the leader's lock |
| `clock_watch.py` | detects that the server's clock was set |
| `stuck.py` | detects runs that nothing will move on |
| `expiry.py` | removes ended runs after `keep_runs` |
"""
