"""Export a run as one JSON document: to move it to another Redis, to archive it, or to inspect it.

    {
    "coord_run": 1,                 the format's version
    "run_id": …, "plan_id": …, "status": …, "graph": …
    "coord": …, "exported_at": …    by which version, and when
    "capacities": {"gpu": 1}        of the resources that its todos need
    "keys": {
    "meta": {"hash": {field: value}},
    "ready": {"zset": {member: score}},
    "unsent": {"set": {member: true}},
    "events": {"stream": {id: {field: value}}},
    "log:T1": …, "bundle:r1": …
    },
    "shared": {"timers": {todo: ms}, "holders": {todo: fence}},
    "checksum": …
    }

`keys` are the run's own keys (backend/key_table.py) without their common prefix; `shared` holds the entries
of its todos in the keys of all runs. Text is stored as it is, other bytes as `{"base64": …}`. The checksum is
the SHA-256 of the entries in their order, each as compact JSON on a line of its own: the document may be
reformatted but not changed.

The document omits what belongs to its Redis: leases, slots, requests for resources, Celery's messages. So
only a run of which nothing is running can be imported: one that has ended, or is paused and idle. A document
of any other run can only be inspected.
"""

LARGEST = 128 * 1024 * 1024
"""Limit of an unpacked document. The check takes up to thirty times as much memory (measured: 26 times for
`{},{},…`); a run with 20,000 todos and their logs has 50 MB.
"""
