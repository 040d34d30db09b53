"""Starts runs: a plan's graph becomes an immutable run in Redis.

| module | content |
|---|---|
| `submit.py` | the order of a sweep; writes and seals the run |
| `draft.py` | a run while it is being written, with its signed order |
| `structure.py` | the graph of a run: its hash, and its differences to the file of today |
| `dry_run.py` | the preview of a sweep. Pure |
| `writes.py` | the change set of a run, and what the run writes of it |
| `carry.py` | the commits at which a run begins, and the results that it takes over from its change set |
| `lineage.py` | refuses a change set that another plan of the same id has made |
| `refusals.py` | refuses todos whose predecessors' results are not merged, or that another run executes |
"""
