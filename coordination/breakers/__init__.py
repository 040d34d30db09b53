"""Circuit breakers on Redis: calls that keep failing are blocked for a while and then tried by one probe.

Usable on its own: `manager.BreakerManager(redis, namespace)`.

States. A breaker is named by what it protects: `repo:<name>` (its worker), `resource:<name>`, `agent:<name>`
(the account of a preset), or `action:<name>` (a call in a script)::

    closed ──► open ──────► half-open ──► closed      N failures in the window; the open time ends;
       ▲         ▲              │                     its probe succeeds, and the failures are deleted
       │         └──────────────┘                     its probe fails: open again
       └── open, half-open                            a person resets it, which is recorded

closed: all calls are allowed, and failures are counted. open: no call is allowed until the open time ends.
half-open: the first caller is the probe, and no other is allowed until the probe reports or its time ends.

Invariants. Each change of state is one Lua step by the server's clock (backend/lua/breaker); runs use the
same steps.

1. A breaker opens when the N-th last failure is younger than the window: the times of the last N are kept, so
   the window slides exactly.
2. There is at most one probe among all processes. Only the probe's result changes a breaker that is not
   closed, because calls that started before it opened say nothing about the present.
3. A probe has a time limit: its ttl, or the lease of the todo that it is, as long as that is renewed. After
   that the next caller is the probe, and the former one's result is ignored. On the host of the probe's
   process, the next caller after its end is the probe.
4. A todo becomes the probe in the same step in which it is granted everything else that it needs, or not at
   all. Behind several breakers it probes all that are due, or none.
5. A todo behind a breaker is parked with the reason and the time of the probe, and holds nothing: no lock,
   slot or repository. When the state changes (closed, open again, the probe gave up), the parked todos are
   notified in the same step.
6. A breaker at rest (closed, without a failure in its window) has no data in Redis: checking it is one EXISTS
   of one key.

Counted failures. For `repo:x`, failures of its worker: a lost lease, an unusable workspace (disk full, git
refused, `prepare` failed). A todo's own failure shows that the worker did its work. For `resource:x`, own
failures (exit code, timeout) of todos that hold it, unless the file sets `breaker: false` for the resource.
Todos that were handed back, cancelled or parked do not count. Compensations check and count like other todos.

The breaker of an agent counts nothing. A todo that its program reports as limited opens it until the limit
ends; then it closes without a probe, and all that wait go on. A later end replaces an earlier one, and an end
more than 35 days away counts as a clock that jumped. No compensation waits for it.

Failures:

* The probe's process dies: callers and lists on its host see that at once, and if the sweeper is active there
  (locks/sweeper.py), it ends the probe within half a minute. Else the ttl or lease expires, and the next
  caller is the probe; a lost lease is a failure of the repository's worker, and so of a probe of its breaker.
* The probe is stopped (SIGSTOP) for longer: as above; its late result is refused, a todo's by its fence.
* A process dies before it has sent messages to parked todos: their timers are in Redis, and the maintenance
  leader fires them.
* No further calls: the breaker stays open and is shown as open; the next caller is the probe.
* A command is sent twice (its answer was lost): it counts once, because the caller's id is stored with each
  failure.
* Redis loses its data: all breakers are closed.
* The server's clock jumps: a breaker is open for longer or shorter by the jump, until it is reset.
* A run was submitted with another policy: each failure is judged by the policy of its run.

Sources. M. Nygard, "Release It!" (2007), chapter "Stability Patterns": Circuit Breaker. There is one probe at
a time instead of a share of the calls, because a failing call may take a worker with it.
"""
