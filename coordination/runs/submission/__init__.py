"""Starts runs: a decided graph of todos becomes an immutable run in Redis.

| module | content |
|---|---|
| `order.py` | decides how a run is executed, and refuses what can never be |
| `agents.py` | refuses todos that no agent can execute; what all agents of a run may use |
| `beginning.py` | where a run begins: the results that it carries over, and the commits |
| `writes.py` | the change set of a run, and what the run writes of it |
| `specs.py` | what a worker needs to execute a todo |
| `submit.py` | writes and seals a decided run |
| `draft.py` | a run while it is being written, with its signed order |
| `structure.py` | the graph of a run: its hash, and its differences to the file of today |
| `dry_run.py` | the preview of a sweep. Pure |
| `other_plan.py` | refuses a change set that another plan of the same id has made |
| `refusals.py` | refuses todos whose predecessors' results are not merged, or that another run executes |
"""
