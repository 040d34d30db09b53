"""A todo with a `cache` that would do what was done before is not run again: it is given the result of the earlier success.

What makes it the same is its key (`key.py`): the action as it would run, the git tree that it starts from, the files that its `inputs`
name, and what its predecessors handed over and committed. A result (`results.py`) is what the earlier one handed over, and what it
changed from that tree to another, as a patch. It is kept in the cache's store on Redis, so for all hosts and runs, until
its ttl is over or it is evicted.

    enter the workspace ──► look ──hit──► apply, check the tree, commit ──► settled with whose result it was
                             │ miss
                             ├─ somebody computes the same ──► parked without a slot, asks again
                             └─ nobody does ──► lock, look again ──► prepare, run, settle ──► keep ──► unlock

What is relied on, and what happens when it fails

1. Only what counted is kept: it is written after the settle was accepted, by whoever it was accepted from. A worker that is killed
   before keeps nothing; one value is written whole or not at all.
2. A result is taken only if it leads to just the tree that it is said to lead to. One that does not (damaged, or applied by a git with
   other filters) is dropped, the workspace is set back, and the todo runs.
3. Who computes holds the lock `cache:<key>` until its result is kept, has failed or is gone with its worker (5 s). A lock that is lost
   meanwhile costs a body that runs twice, no wrong result.
4. The cache is never a reason to fail: where Redis, the disk or git refuse, the todo runs, and its log says so.

What does not count, and must be handed over as output, or named among `inputs`, where it matters: files that git ignores, be it in the
`path` of a predecessor; what a predecessor did in place or a person by hand; the machine.

What is not restored, and hence must not matter to whoever says `cache`: files that git ignores, and whatever a command does outside of
its repository, be it in the shared context. Therefore `cache` and `compensate` exclude each other (models.py), and the rollback of a todo that was given a result
needs no command: its branch goes. In a folder without git nobody knows what it starts from; it runs there.

A todo with `inputs` is looked up after `prepare`, which may make some of them; one without before, and is spared it.
"""

from workers.result_cache.recall import Recall
from workers.result_cache.results import Results

__all__ = ["Recall", "Results"]
