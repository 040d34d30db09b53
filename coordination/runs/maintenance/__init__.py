"""Maintenance of runs: due timers, expired leases, lost messages, records that have expired.

| module | content |
|---|---|
| `leader.py` | the leader's lock, and what runs only in the process that holds it |
| `rounds.py` | a round of the leader: timers, lost workers and messages, overdue levels |
| `clock.py` | detects that the server's clock was set, and corrects leases and timers |
| `lease_trust.py` | whether an expired lease means that its worker has died |
| `stuck.py` | finds runs that nothing will move on |
| `mending.py` | sets keys of a wrong type apart |
| `notifier.py` | the events that people must know; calls `notify_command` with them |
| `progress_feed.py` | gives the progress of runs to `progress_command` |
| `program_service.py` | the base of these two services |
| `cleaning.py` | surveys and removes what runs have left on the workers' machines |
| `expiry.py` | removes ended runs after `keep_runs` |
"""
