"""Health of repositories and services, and their recovery.

| module | content |
|---|---|
| `records.py` | the health of a subject; the state of all together |
| `timetable.py` | when a subject is looked at, what the looks come to, when recovery begins; pure |
"""
