"""Circuit breakers on Redis: what keeps failing is left alone for a while, then tried by one. Useful alone: `manager.BreakerManager(redis, namespace)`.

States. A breaker is named by what stands behind it, `repo:<name>` (its worker), `resource:<name>`,
or `action:<name>` (what a script does)::

    closed ──► open ──────► half-open ──► closed      N failures within the window; then its time is over and somebody asks;
       ▲         ▲              │                     then its probe succeeds, and the failures are forgotten
       │         └──────────────┘                     its probe fails: open for another while
       └── open, half-open                            somebody resets it, which is noted with who did

closed: everybody gets through; failures are counted. open: nobody gets through until its time is over. half-open: the first who
asks is the probe, and nobody else gets through until it has said what came of it, or its time is over.

Invariants. Each change of state is one Lua step by the server's clock; backend/lua/breaker has them, and runs take the same.
1.  It opens when the N-th last failure is younger than the window: the times of the last N are kept, so the window slides exactly.
2.  Among all processes there is at most one probe. Only the probe's word changes a breaker that is not closed: what began before
    it opened says nothing of how things are now.
3.  A probe has a time: its ttl, or the lease of the todo that it is, for as long as that is renewed. After it the next one who
    asks takes its place, and what the former one says no longer counts.
4.  A todo takes the place of a probe in the same step in which it is granted all else that it needs, or not at all. Behind
    several breakers it probes all that are due, or none.
5.  A todo behind a breaker is parked with the reason and the time of the probe, and holds nothing: no lock, no slot, no
    repository. Whenever the answer changes (closed, open again, the probe gave up) those behind are told in the same step.
6.  A breaker at rest, closed with no failure in its window, leaves nothing in Redis: asking is one EXISTS of one key.

What counts. For `repo:x` what its worker could not do for reasons of its own: a lease that was lost, a workspace that is of no use
(disk full, git refused, `prepare` failed). A todo's own failure says that the worker did its work. For `resource:x` the own
failures (exit code, timeout) of todos that hold it, unless the file says `breaker: false` of the resource. Handed back, cancelled,
parked: nothing. A todo that undoes another asks and counts like any other.

What happens when
*   the probe's process dies: its ttl or lease runs out, and the next one who asks is the probe; a lost lease is a failure of
    the repository's worker, hence of a probe of its breaker.
*   the probe is stopped (SIGSTOP) for longer: as above; its word afterwards is refused, a todo's by its fence.
*   who told those behind dies before it has sent their messages: their timers stand in Redis, and the keeper fires them.
*   nobody asks any more: it stays open, and is shown so; the next one who asks is the probe.
*   a command is sent twice (its answer was lost): it counts once; the caller's id is kept with each failure.
*   Redis loses its data: all breakers are closed.
*   the server's clock jumps: a breaker is open for as much longer or shorter, until it is reset.
*   a run was submitted under another policy: each failure is judged by the policy of the run that it happened in.

Sources. M. Nygard, "Release It!" (2007), chapter "Stability Patterns": Circuit Breaker. One probe at a time rather than a share of the
calls: a failing call may take a worker with it.

| file | |
|---|---|
| `manager.py` | what users have in hand: a call through a breaker; look, reset |
| `policy.py` | when one opens, and for how long |
| `records.py` | a breaker as people and programs read it |
"""
