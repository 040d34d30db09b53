"""Whether a base branch has lost a result again that it once had: people revert a merge, or put files back by hand.

A result is gone where undoing it would change nothing: the three-way merge of the result's commit, the base, and what the result was
built on is the base itself. What a todo did away with (a later todo of a run, which deletes what an earlier one made) is no
reversion. Everything else about the base stays out of it, so a base that has gone on in the same lines still has the result.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from workers.git import ask, git

COMMITS_AT_MOST = 50
"""So many commits of the base that touch the result's files are looked at, newest first, to find the one that took it out."""
RUN_COMMITS_AT_MOST = 200
"""So many commits of its run are followed down to where the run began."""
ABSENT = "0" * 40


def unchanged(path: Path, base: str, commits: Iterable[str]) -> frozenset[str]:
    """Return the commits of which the base still has a file exactly as they left it, so that they cannot be gone. Raises GitRefused."""
    listed = "\n".join(commits)
    if not listed:
        return frozenset()
    there = {
        name: words.split()[2]
        for words, _, name in (entry.partition("\t") for entry in git("ls-tree", "-rz", base, cwd=path).split("\0"))
        if name
    }
    options = ("-z", "-r", "--root", "--no-renames", "--diff-merges=first-parent")
    words = iter(git("diff-tree", "--stdin", *options, cwd=path, stdin=f"{listed}\n").split("\0"))
    found, commit = set(), ""
    for word in words:
        if not word.startswith(":"):
            commit = word.strip() or commit
        elif there.get(next(words), ABSENT) == word.split()[3]:
            found.add(commit)
    return frozenset(found)


def was_reverted(path: Path, base: str, commit: str, run: str) -> bool:
    """Whether the base had the commit's work and lost it, other than by the work of a todo. Raises GitRefused."""
    sources = [source for source in (_parent(path, commit), _began(path, commit, run)) if source]
    gone = [source for source in dict.fromkeys(sources) if _is_gone(path, base, commit, source)]
    return any(_taken_out_by_people(path, base, commit, source) for source in gone)


def _is_gone(path: Path, base: str, commit: str, source: str) -> bool:
    """Whether the base has nothing of what lies between `source` and `commit`."""
    trees = [git("rev-parse", f"{revision}^{{tree}}", cwd=path) for revision in (commit, base, source)]
    if trees[0] == trees[2]:
        return False
    fork = _commit(path, trees[0])
    ours, theirs = (_commit(path, tree, fork) for tree in trees[1:])
    merged = ask("merge-tree", "--write-tree", "--no-messages", ours, theirs, cwd=path)
    return merged.returncode == 0 and merged.stdout.strip() == trees[1]


def _commit(path: Path, tree: str, *parents: str) -> str:
    """A commit that nothing points to: `merge-tree` takes trees only as commits."""
    words = [word for parent in parents for word in ("-p", parent)]
    identity = ("user.name=coord", "user.email=coord@localhost")
    return git("commit-tree", tree, *words, "-m", "compared", cwd=path, settings=identity)


def _taken_out_by_people(path: Path, base: str, commit: str, source: str) -> bool:
    """Whether one of the base's commits since, that no todo made, was the first without the result."""
    files = [name for name in git("diff", "--name-only", "-z", source, commit, cwd=path).split("\0") if name]
    span = ("--first-parent", f"--max-count={COMMITS_AT_MOST}", f"{commit}..{base}")
    for later in git("--literal-pathspecs", "rev-list", *span, "--", *files, cwd=path).split():
        before = _parent(path, later)
        if before and not _is_gone(path, before, commit, source):
            made = ("--format=%(trailers:key=Coord-Todo,valueonly,separator=%x20)", f"{before}..{later}", "--", *files)
            return not git("--literal-pathspecs", "log", *made, cwd=path).strip()
    return False


def _parent(path: Path, commit: str) -> str:
    return ask("rev-parse", "--verify", "--quiet", f"{commit}^", cwd=path).stdout.strip()


def _began(path: Path, commit: str, run: str) -> str:
    """The commit on which the run began, as far as its commits bear its name; empty if that is unknown."""
    options = ("--first-parent", f"--max-count={RUN_COMMITS_AT_MOST}")
    shown = "--format=%H%x09%(trailers:key=Coord-Run,valueonly,separator=%x20)"
    for line in git("log", *options, shown, commit, cwd=path).splitlines():
        earlier, _, named = line.partition("\t")
        if named != run:
            return earlier
    return ""
