"""A plan in motion.

States of a todo::

    waiting → ready → dispatched → running → succeeded | failed
                ↑          ↓           ↓
                └─ parked ←┴───────────┤        skipped, cancelled: from any state before an end
                └──────── retrying ←───┘

and once a rollback undoes what was begun, from any end::

    ready → dispatched → running → compensated | compensation_failed        (parked, retrying as above; `compensating` to people)

waiting: a predecessor has not succeeded. ready: it may start as soon as its repository and the run's `max_parallel` let it.
dispatched: it may start now, a worker has been told. running: a worker holds its lease. parked: it waits for its seat in the
repository, for resources, for its turn, for a person, behind a circuit breaker; no worker slot is held. retrying: a timer is set.

States of a run: draft, running, paused, rolling_back; then succeeded, failed, cancelled, rolled_back, rollback_failed. Rolling back is a
direction: it is never left but for one of its two ends.

Invariants. Each has a test that tries to break it.

1. A todo leaves `waiting` only when its count of unfinished predecessors is 0; the count goes down only in a settle as succeeded.
2. `holders` has at most one fence per todo. Settle, retry and park compare it; whoever lost the lease changes nothing. On the
   machine itself the worktree's flock keeps the next attempt out until the last process of the former one is gone.
3. Each move is one Lua step. An end state is left for nothing but a rollback, so there is one outcome per todo, and one of what
   undoes it, whatever is delivered twice or late.
4. Redis is the truth, appended to disk; Celery's messages are hints. Each step returns the messages that it makes necessary;
   if they are lost with the process that should have sent them, `sent` still lists the todos and the reaper sends them again.
5. A worker's round trips per todo: claim, the outputs of its predecessors, settle.
6. A run has an `open` count; at 0 it ends. Until then each todo that does not run says in `waits_for`, or by its state, why.
7. A claim records the intent before anything is begun, and a run is rolled_back only when no intent is left that is not undone. What
   stands before a todo is undone after it, and nothing while anything of the run still runs.

What happens on failure. Worker dies: another one of its machine sees that within a second (`workers/local_liveness.py`); where none is left
its lease runs out, and the reaper takes the todo up again; either at most `lost_leases` times. Redis
dies, or its clock is set: workers keep their children and go on asking; nobody is declared lost until Redis has been back for one
lease. A todo that loses its worker too often has failed as poison. Everything dies: the first worker that is back reaps. Submitter dies before the seal: the draft's keys expire; after it: the reaper sends.

| file | |
|---|---|
| `records.py` | the words: states, what a claim gives, what a step returns |
| `draft.py` | a run while it is being written |
| `submit.py` | a plan's graph → an immutable run in Redis |
| `structure.py` | the graph of a run: its hash, and what the file says otherwise by now |
| `ended.py` `retry_plan.py` | a run that has ended → a new one of what it left undone |
| `rerun_selection.py` | what of it is done again though it had succeeded |
| `landed.py` `left_out.py` | what a run would lack: results that are not merged; uncommitted work |
| `named_checkpoints.py` | which todos had succeeded at a moment that a person named |
| `filings.py` | what of a run was written to the file |
| `export/` | a run as one document: moved, kept, looked at |
| `store.py` | the steps |
| `dispatch.py` | messages that a step makes necessary |
| `remote_steps/` | the steps for a worker that may not take them itself |
| `rollback.py` `undoability.py` | what a rollback would undo, and which runs must not be undone |
| `conflicts.py` | todos that runs have in hand |
| `retry.py` | whether and when to try again. Pure |
| `recovery.py` | timers and the reaper: what nobody is there to do |
| `clock_watch.py` | whether the server's clock was set, and what then |
| `stuck.py` | a run that nobody will ever move on: a fault of coord's own |
| `expiry.py` | runs that ended long ago are forgotten |
| `view.py` | a run as people and programs read it |
| `durations.py` | how long todos took in earlier runs |
| `timeline.py` `gantt.py` `pictures.py` | what each todo did when, and what it waited for; as a Gantt chart; the run's graph as a picture |
| `raw_records.py` | what Redis keeps of a run's todos, of all or of some |
| `live.py` | what runs do with a todo of the file |
| `progress.py` | a run followed event by event |
| `log_reader.py` | what todos wrote, read from anywhere |
| `connection.py` `transactions.py` | stores and managers of one Redis; operations that hold the start lock |
| `presence.py` `cleaning.py` `census.py` | which workers there are; what runs have left on their machines; counts for metrics |
| `shared.py` | the context that a todo of a run sees |
| `mail.py` | messages, with the limits that are set |
| `manual.py` `approvals.py` | what waits for a person: in which run; what is decided at a gate |
| `dry_run.py` | what a sweep would do, before it does it. Pure |
"""

import logging

# What this room notes is for a process that keeps a log. A command says it in words of its own.
logging.getLogger(__name__).addHandler(logging.NullHandler())
