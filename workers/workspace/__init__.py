"""The workspace of a todo: a git worktree of its run, or the checkout itself.

| module | content |
|---|---|
| `base.py` | the workspace as an attempt uses it; the one in place |
| `worktree.py` `git_worktree.py` | the worktree of a run in a repository; its folder, brought to a commit |
| `run_start.py` `base_commit.py` | the commit at which a run begins; how it is chosen |
| `change_set.py` | the branch of a change set, and its size, by git processes that stay open |
| `submodules.py` | the submodules of a worktree |
| `environments.py` | the files that `prepare` makes for checkouts of checks |
| `private_git.py` `git_index.py` | the git directory of a todo in a sandbox; its index, read as data |
| `confined_folder.py` | the folder of a todo that ran in a sandbox, made harmless for git |
| `drivers.py` | the filters and merge drivers that our git starts for content of such a todo |
| `commit.py` | commits of todos that succeeded, by git as the user has set it up |
| `hooks.py` `shared_state.py` | hooks of the repository; settings and refs that its code must not change |
| `lock.py` | one attempt in a workspace at a time |
| `git.py` `repository.py` `files.py` | calls of git; facts of a repository; folders removed and made |
"""
