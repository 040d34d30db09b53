"""Background services of a worker besides its leases and the health monitor.

| module | content |
|---|---|
| `local_liveness.py` | dead workers of this machine, whose todos run again at once |
| `notifications.py` | messages that wake parked todos |
| `results_writer.py` | results of runs that no command follows, written into ecosystem.yaml |
| `history_service.py` | edits of the file into the stream of events, and the stream into the history |
| `expiry.py` | warnings of keys, credentials and certificates that expire soon |
"""
