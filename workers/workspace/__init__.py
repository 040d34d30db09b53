"""Where a todo works: a git worktree of its run, or the checkout itself."""
