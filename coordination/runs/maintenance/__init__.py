"""Maintenance of runs: due timers, expired leases, lost messages, records that have expired.

| module | content |
|---|---|
| `leader.py` | the loop of the one process that holds the leader's lock |
| `faults.py` | detects that the server's clock was set, and runs that nothing will move on |
| `notifier.py` | the events that people must know; calls `notify_command` with them |
| `progress_feed.py` | gives the progress of runs to `progress_command` |
| `program_service.py` | the base of these two services |
| `cleaning.py` | surveys and removes what runs have left on the workers' machines |
| `expiry.py` | removes ended runs after `keep_runs` |
"""
