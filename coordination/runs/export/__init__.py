"""A run as one JSON document: to move it to another Redis, to keep it when Redis forgets it, or to look at it.

    {
    "coord_run": 1,                 the format's version
    "run_id": …, "plan_id": …, "status": …, "graph": …
    "coord": …, "exported_at": …    by which version, and when
    "capacities": {"gpu": 1}        of the resources that its todos need
    "keys": {
    "meta": {"hash": {field: value}},
    "ready": {"zset": {member: score}},
    "owed": {"set": {member: true}},
    "events": {"stream": {id: {field: value}}},
    "log:T1": …, "bundle:r1": …
    },
    "shared": {"timers": {todo: ms}, "holders": {todo: fence}},
    "checksum": …
    }

`keys` are the run's own (backend/keys.py), without the head that they share; `shared` is what keys of all runs say of its todos.
Text stands as it is, other bytes as `{"base64": …}`. The checksum is the SHA-256 of the entries in their order, each as
compact JSON on a line of its own: the document may be formatted anew, and must not be changed.

What belongs to the Redis that it came from does not go along: leases, seats, requests for resources, Celery's messages. So a
run can be imported when nothing of it runs: ended, or paused and come to rest. A document of any other run is to look at.

| file | |
|---|---|
| `document.py` | Redis → the document, piece by piece |
| `received.py` | a document, checked |
| `adoption.py` | a checked one → Redis |
| `file.py` | as a file |
| `shelf.py` | ended runs as files, before Redis forgets them |
"""
