"""Carries out todos on the machine where the repositories are.

__main__ → pool (the process) → app (its parts; restricted: of one that asks keepers for its steps) → tasks (Celery's two)
attempts   a delivery: claim → attempt → the step that it came to;  leases, presence and logs beside it;  mail (what cannot wait)
attempt    workspace → command → what its deed keeps of it: a conclusion
deeds      doing (commits what the todo left) | undoing (its compensation; with the last of a repository the run's worktree and branch go: removal)
freight    commits from and for other hosts: sending, publishing (fenced), arrivals, parcels (on their way);  context, whereabouts (what a todo is told)
workspace  worktree | in_place;  occupancy (who is in it), beginning (of a retry), prepared, commit, repository, git, git_dir (that no git looks elsewhere)
executors  an action → a command
child      a command under its guard;  leftovers (of an attempt that was killed)
janitor    what runs that succeeded have left;  errands (of `coord clean`), remains (what there is of a run), run_branches
repeats    the log says a thing once
"""
