r"""Landing: a plan's change set reaches the base branches by a run of todos, and leaves them by another.

| module | content |
|---|---|
| `records.py` | the options of a landing; what lands or is reverted, where and how |
| `ways.py` | push, local or pull request: what each supports, and the refusal of what it does not |
| `rules.py` | decides what lands, and refuses a landing that is not allowed; pure |
| `revert.py` | decides what is reverted; pure |
| `order.py` | what must land before each repository, and in which wave; pure |
| `plan_waves.py` | several plans, joined into one landing in waves; pure |
| `completed.py` | compares completed todos with what lands and with the base branches; its rule is pure |
| `readiness.py` | whether a pull request may merge, and what is missing; pure |
| `graph.py` | the todos of a landing or revert, and the graph of its run; pure |
| `start.py` | reads the change set, and submits the run |
| `preview.py` | what `--dry-run` shows: base, tip, method and outcome by repository |

A landing run consists of todos that only coord makes:

    check <repo> … check <repo>      look at the base, try the merge and the right to push; change nothing
                 \ | /
                 locks               noop: takes the locks `land:<repo>` of all repositories in one request
                 / | \
    land <repo> → land <repo> …      in dependency order; compensation of each: revert

**Locks.** The barrier asks for all its locks at once and for nothing else, and the run holds them until it
ends (`lua/run/_run_end.lua`). Land todos ask for the slot of their repository only. So who holds a slot never
waits for a lock of a landing, and who waits for such a lock holds nothing: two landings cannot block each
other (tests/unit/landing/test_no_deadlock.py tries all interleavings).

**Waves.** A plan with waves lands them in one run, each after the one before:

    check <repo> … → locks → land <repo> … → landed → soak → look <repo> … → checks → done

`landed` gives the locks back (`lua/run/_waves.lua`), so none is held during soak, checks or an approval, and
a run holds those of one wave at a time. `soak` is a gate that its timeout approves; no worker waits there.
`look` states the base branches as they are then, at which the checks of this and all earlier waves begin.
`done` erases the intents of all that ended before it: a rollback takes back no wave that is done. With
`atomic: repo`, `landed` and `done` tolerate failures right before them.

**Attempts.** A land todo has no steps of its own. Each claim looks at the base branch, then does the next
thing or waits with a reason:

| what it sees | what it does |
|---|---|
| the base contains our tip | records that it has landed; succeeds |
| the base contains our recorded commit | the same: an attempt before this one pushed it, and died |
| the base is not reachable, or moved while it pushed | waits (`hold_up`), and fails after `land_patience` |
| a conflict, a refusal, no right | fails: another attempt would change nothing |
| else | makes the commit, records it (checkpoint), pushes it from the seen base only |

**Atomicity.** With `atomic: plan` or `wave` the run has `on_failure: rollback`: the failure of one land todo
reverts those that have landed, the last one first, by the steps of any rollback. What cannot be reverted
leaves the run `rollback_failed`, which is shown until somebody accepts it (`coord rollback RUN --accept`).
A todo whose tip had been merged by people is never reverted by that: only commits that this run pushed are.
"""
