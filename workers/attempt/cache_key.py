"""The key of a result: one digest of everything that decides the result of an attempt, as far as coord knows
it.

It covers the action as a worker would run it, in its repository, from a git tree (not a commit: that has a
date); the outputs of all predecessors, by their names, and the git tree at which each left its repository,
because COORD_CONTEXT has them; and the shared context of the todo. Not covered: its own id and text where no
agent gets these, timeouts, retries, resources, gates, the run.

The files that `inputs` name are read as git sees them: tracked, untracked and ignored ones alike. A pattern
is a pathspec of git with its `glob` rules: `*` stays within a folder, `**` does not, a folder stands for all
that is in it. So it follows no link out of the repository; a link counts by its target. A todo's change is
kept as a patch from one tree to another, for other worktrees.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict
from hashlib import file_digest, sha256
from pathlib import Path
from typing import Any

from coordination.errors import CoordinationError, GitRefused
from coordination.git import is_commit
from coordination.models import AgentAction, Command, QaAction, text_of
from coordination.runs.records import TodoSpec
from coordination.sandbox import Bounds
from workers.workspace.git import ask
from workers.workspace.worktree import Worktree

FORMAT = 2
"""The format of keys and results: results of another format are not found."""


def key_of(
    spec: TodoSpec,
    agent_command: Command | None,
    tree: str,
    inputs: InputFiles,
    context: Mapping[str, Any],
    trees: Mapping[str, str],
    bounds: Bounds | None = None,
) -> str:
    """Return SHA-256 over canonical JSON.

    `context`: as COORD_CONTEXT has it. `trees`: of each predecessor with a commit. `bounds`: the sandbox; a
    command may do other things without files, network or memory.
    """
    parts = {
        "format": FORMAT,
        "repo": spec.repo.name,
        "prepare": spec.repo.prepare,
        "action": _action(spec, agent_command),
        "env": {name: str(value) for name, value in spec.todo.env.items()},
        **({"secrets": spec.todo.secrets} if spec.todo.secrets else {}),
        "tree": tree,
        "inputs": inputs,
        "predecessors": _predecessors(spec, context, trees),
        "context": [context.get("context"), context.get("context_omitted")],
        **({"sandbox": asdict(bounds)} if bounds else {}),
    }
    return sha256(json.dumps(parts, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _predecessors(spec: TodoSpec, context: Mapping[str, Any], trees: Mapping[str, str]) -> list[list[object]]:
    """Return the inputs of the result from other todos: the outputs and trees of the predecessors; for a
    check, the trees of the repositories that it needs, whichever todos have left them.

    Raises NotKnown for a check that needs a repository without commits.
    """
    before, action = context.get("predecessors", ()), spec.todo.action
    if not isinstance(action, QaAction):
        return [[one["todo"], one["output"], trees.get(one["todo"])] for one in before]
    needed = {one["repo"] for one in before if action.needs is None or one["repo"] in action.needs}
    commits, found = context.get("commits", {}), list[list[object]]()
    for repo in sorted(needed - {spec.repo.name}):
        names = [one["todo"] for one in before if one["repo"] == repo and one["commit"] == commits.get(repo)]
        if repo not in commits or not names:
            raise NotKnown(f"it needs {repo}, of which no commit is known", "work there in worktrees")
        found.append([repo, trees[names[0]]])
    return found


def _action(spec: TodoSpec, agent_command: Command | None) -> object:
    todo = spec.todo
    if isinstance(todo.action, QaAction):
        return todo.action.model_dump(mode="json", include={"type", "check", "kind", "run", "report"})
    if todo.action is not None and not isinstance(todo.action, AgentAction):
        return todo.action.model_dump(mode="json")
    words = [todo.action.prompt] if todo.action and todo.action.prompt else _in_words(spec)
    return {"agent": agent_command, "told": words}


def _in_words(spec: TodoSpec) -> list[object]:
    """Return the fields from which the prompt of a todo without one is made."""
    todo = spec.todo
    return [todo.id, todo.task, todo.description, [*map(text_of, todo.acceptance_criteria)], spec.repo.role]


InputFiles = list[tuple[str, list[tuple[str, str]]]]
"""Pattern → file → digest."""


class NotKnown(CoordinationError):
    """An input of the cached todo cannot be read as files."""


def input_files(patterns: Iterable[str], workspace: Worktree, say: Callable[[str], None]) -> InputFiles:
    """Return the files of each pattern in the worktree, in order.

    A pattern without files counts as such, and is logged.

    Raises NotKnown or OSError.
    """
    return [(pattern, _files(pattern, workspace, say)) for pattern in patterns]


def _files(pattern: str, workspace: Worktree, say: Callable[[str], None]) -> list[tuple[str, str]]:
    options = ("-z", "--cached", "--others", "--deduplicate")
    listed = workspace.git("ls-files", *options, "--", f":(top,glob){pattern}")
    files = [(name, digest) for name in sorted(_names(listed)) if (digest := _digest(workspace.path, name))]
    if not files:
        say(f"cache: its input {pattern} names no file; the key contains that")
    return files


def _names(listed: str) -> Iterator[str]:
    return (name for name in listed.split("\0") if name)


def _digest(root: Path, name: str) -> str:
    """Return the digest of a file; empty if it is gone, though git knows of it."""
    path = root / name
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return ""
    if stat.S_ISLNK(mode):
        return "link " + sha256(os.fsencode(path.readlink())).hexdigest()
    if stat.S_ISREG(mode):
        with path.open("rb") as file:
            kind = "program" if mode & stat.S_IXUSR else "file"
            return f"{kind} {file_digest(file, 'sha256').hexdigest()}"
    raise NotKnown(
        f"its input {name} is a repository of its own, or no file at all", "name files in the repository"
    )


class NotRestored(CoordinationError):
    """The cached patch does not produce its recorded tree."""


def tree_of(commit: str, at: Worktree) -> str:
    return at.git("rev-parse", "--verify", f"{commit}^{{tree}}")


def trees_behind(predecessors: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Return predecessor → the tree of its commit, for entries as COORD_CONTEXT has them.

    A commit that this machine does not have stands for itself: no earlier run has left the same one, so
    nothing is found for it.
    """
    committed = [one for one in predecessors if one["commit"]]
    found = {one["todo"]: one["commit"] for one in committed}
    for path in {one["path"] for one in committed if one["path"]}:
        here = [one for one in committed if one["path"] == path and is_commit(one["commit"])]
        answer = ask("rev-parse", *(f"{one['commit']}^{{tree}}" for one in here), cwd=Path(path))
        if answer.returncode == 0:
            found |= dict(zip((one["todo"] for one in here), answer.stdout.split(), strict=True))
    return found


def patch(since: str, tip: str, at: Worktree, file: Path) -> bytes:
    """Return the patch from commit to commit; empty if the tree is the same.

    `file`: where git may write it.
    """
    options = (
        "-r",
        "-p",
        "--binary",
        "--full-index",
        "--no-renames",
        "--no-ext-diff",
        "--no-textconv",
        "--no-color",
    )
    prefixes = ("--src-prefix=a/", "--dst-prefix=b/", "--submodule=short")
    at.git("diff-tree", *options, *prefixes, f"--output={file}", since, tip)
    return file.read_bytes()


def restore(
    workspace: Worktree, changes: bytes, file: Path, tree: str, todo: str, task: str, source: str
) -> str:
    """Commit the changes in the workspace, which is clean; return the tip.

    `source`: `<run>/<todo>` that made them.

    Raises NotRestored, with the workspace clean as before, and Superseded.
    """
    try:
        if changes:
            file.write_bytes(changes)
            _check(workspace.apply(file), tree)
        tip = workspace.commit(todo, task, source)
        _check(tree_of(tip, workspace), tree)
    except (GitRefused, NotRestored) as refused:
        workspace.reset()
        raise NotRestored(
            f"it could not be restored: {refused.message}", "the todo runs instead"
        ) from refused
    return tip


def _check(state: str, tree: str) -> None:
    if state != tree:
        raise NotRestored(f"it leads to tree {state[:12]} instead of {tree[:12]}", "the todo runs instead")
