"""Maintenance of runs: due timers, expired leases, lost messages, records that have expired.

| module | content |
|---|---|
| `leader.py` | the loop of the one process that holds the leader's lock |
| `clock_watch.py` | detects that the server's clock was set |
| `stuck.py` | detects runs that nothing will move on |
| `notices.py`, `notifier.py` | what people must know; tells it through `notify_command` |
| `program_service.py` | the base of these two services |
| `progress_feed.py` | gives the progress of runs to `progress_command` |
| `cleaning.py` | surveys and removes what runs have left on the workers' machines |
| `expiry.py` | removes ended runs after `keep_runs` |
"""
