"""Health of repositories and services, and their recovery.

| module | content |
|---|---|
| `records.py` | the health of a subject; the state of all together |
| `timetable.py` | when a subject is looked at, what the looks come to, when recovery begins; pure |
| `facts.py` `sources.py` | facts, the subjects that follow from them, and looks; from where facts come |
| `store.py` | the records in Redis |
| `monitor.py` | the background service of the worker that leads: looks, records, recoveries |
"""
