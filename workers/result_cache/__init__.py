"""Reuse results of todos: one with a `cache` that would repeat an earlier success gets its result instead.

Two attempts are the same if their keys are (`key.py`): the action as it would run, the git tree that it
starts from, the files that its `inputs` name, and the outputs and commits of its predecessors. A result
(`results.py`) is an output, and the change from that tree to another, as a patch. It is kept in the cache's
store on Redis, so for all hosts and runs, until its ttl is over or it is evicted. `recall.py` looks up and
keeps the result of an attempt.

    enter the workspace ──► look ──hit──► apply, check the tree, commit ──► settled with the run of the result
                             │ miss
                             ├─ another attempt computes the same ──► parked without a slot, looks again
                             └─ none does ──► lock, look again ──► prepare, run, settle ──► keep ──► unlock

Promises, and what happens when something fails

1. Only accepted results are kept: one is written after the settle was accepted, by its own worker. A worker
   that is killed before keeps nothing; one value is written whole or not at all.
2. A result is used only if it leads to exactly its recorded tree. One that does not (damaged, or applied by a
   git with other filters) is dropped, the workspace is set back, and the todo runs.
3. An attempt that computes holds the lock `cache:<key>` until its result is kept, has failed, or its worker
   has died (5 s). A lock that is lost meanwhile costs a command that runs twice, no wrong result.
4. The cache fails no todo: where Redis, the disk or git refuse, the todo runs, and its log says so.

Not part of a key, so to be handed over as output, or named among `inputs`, where it matters: files that git
ignores, also in the `path` of a predecessor; the effects of a predecessor in place, or of a person by hand;
the machine.

Not restored, so irrelevant to todos with `cache`: files that git ignores, and effects of a command outside of
its repository, also in the shared context. Therefore `cache` and `compensate` exclude each other (models),
and the rollback of a todo with a cached result needs no command: its branch goes. A folder without git has no
tree to start from; the todo runs there.

A todo with `inputs` is looked up after `prepare`, which may make some of them; one without is looked up
before, and needs none.
"""

from workers.result_cache.recall import Recall
from workers.result_cache.results import Results

__all__ = ["Recall", "Results"]
