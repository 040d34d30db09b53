"""The workspace of a todo: a git worktree of its run, or the checkout itself."""
