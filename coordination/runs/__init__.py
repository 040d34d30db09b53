"""Execute plans: the state machine of a run in Redis.

States of a todo::

    waiting → ready → dispatched → running → succeeded | failed
                ↑          ↓           ↓
                └─ parked ←┴───────────┤        skipped, cancelled: from any state before an end
                └──────── retrying ←───┘

and when a rollback undoes a todo, from any end state::

    ready → dispatched → running → compensated | compensation_failed
                                                (parked and retrying as above; shown as `compensating`)

* waiting: a predecessor has not succeeded.
* ready: it may start as soon as its repository and the run's `max_parallel` allow it.
* dispatched: it may start; a message for a worker is sent.
* running: a worker holds its lease.
* parked: it waits for its repository's slot, for resources, for its turn, for a person, or behind a circuit
  breaker; it holds no worker slot.
* retrying: a timer is set.

States of a run: draft, running, paused, rolling_back; then the end states succeeded, failed, cancelled,
rolled_back, rollback_failed. A run leaves rolling_back only for rolled_back or rollback_failed.

Invariants, each with a test that tries to break it:

1. A todo leaves `waiting` only when its count of unfinished predecessors is 0; only a settle as succeeded
   decreases the count.
2. `holders` has at most one fence per todo. Settle, retry and park compare it; a worker that lost the lease
   changes nothing. On one machine the flock of the worktree also keeps the next attempt out until the last
   process of the former one has ended.
3. Each transition is one Lua step. Only a rollback leaves an end state, so each todo has one outcome, and one
   outcome of its compensation, even if messages are delivered twice or late.
4. Redis, appended to disk, holds the state; Celery's messages are hints. Each step returns the messages that
   it makes necessary. If they are lost with the process that should send them, `sent` lists the todos, and
   the maintenance leader sends them again.
5. A worker's round trips per todo: claim, the outputs of its predecessors, settle.
6. A run has a count `open` and ends at 0. Until then the state or `waits_for` of each todo says why it is not
   running.
7. A claim records the intent before anything begins, and a run is rolled_back only when every intent is
   undone. A todo's dependents are undone before it, and nothing is undone while a todo of the run is running.

Failures:

* A worker dies: another worker of its machine detects it within a second
  (`workers/leases.py`); without one, its lease expires and the maintenance leader requeues
  the todo. Either happens at most `lost_leases` times; then the todo has failed as poison.
* Redis dies, or its clock is set: workers keep their child processes and try again; no worker is declared
  lost until Redis has been back for one lease.
* Everything dies: the first worker that is back does the maintenance.
* The submitting process dies: before the seal the draft's keys expire; after it the maintenance leader sends
  the messages.

| module | content |
|---|---|
| `records.py` | states, results, wait reasons; the brief and specs that workers read |
| `agent_records.py` | the raw records of agents, in files of a worker's host |
| `not_committed.py` | files of a todo that its commit does not contain, with the reasons |
| `overrides.py` | the options by which a person goes on without a safeguard |
| `run_kinds.py` | runs that coord generates: landings, reverts, checks, services |
| `attempt_store.py` | the steps of a worker on its todos; a granted claim, the inputs of a todo |
| `store.py` | the steps of a run on Redis |
| `logs.py` | the output of todos: written in pieces, read, followed |
| `dispatch.py` | builds and sends the Celery messages that a step makes necessary |
| `retry_policy.py` | whether and when a failed todo is tried again. Pure |
| `worker_registry.py` | the living workers, and the repositories that they serve |
| `run_contexts.py` | the shared context of a run or todo |
| `write_back.py` | writes the outcomes of a run into the file, and records which were written |
| `overrides.py` | options by which a person goes on without a safeguard, as they are recorded |
| `cleanup_jobs.py` | asks workers what runs have left on their machines, and orders its removal |
| `landed_results.py` | asks workers whether completed results are in the base branches |
| `connection.py` | the stores and managers of one Redis |
| `control/` | orders of persons: start, retry, pause, cancel, roll back, approve |
| `submission/` | a plan's graph becomes a run; preview; refusals |
| `retrying/` | retries of an ended run |
| `change_sets/` | change sets, and results of quality checks |
| `signed/` | the verified order of a run; what its signed results allow |
| `maintenance/` | timers, expired leases, lost messages, stuck and old runs; notifications |
| `remote_steps/` | steps executed for restricted workers |
| `views/` | runs as people and programs read them; metrics |
| `export/` | a run as one document |
"""

import logging

# These loggers are for processes with a log; commands print messages of their own.
logging.getLogger(__name__).addHandler(logging.NullHandler())
