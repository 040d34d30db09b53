"""Health of repositories and services, and their recovery.

| module | content |
|---|---|
| `records.py` | the health of a subject; the state of all together |
| `timetable.py` | when a subject is looked at, which state follows, when recovery begins; pure |
| `facts.py` | facts and their sources, the subjects that follow from them, and one look at each |
| `remotes.py` | looks at the remotes of a worker's repositories |
| `store.py` | the records, and the disconnected repositories, in Redis |
| `recovery.py` | recoveries as runs |
| `monitor.py` | the background service of the worker that leads: looks, records, recoveries |
"""
