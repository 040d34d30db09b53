"""Rewrites of code by ast-grep: its arguments, and what a rewrite would change.

The pattern and the other texts are values of options (`--pattern=…`), so that none becomes an option.
ast-grep searches the current folder and follows no links, so that no path leads out of it; `paths` are globs
that narrow the search. Its configuration is empty: a repository's own one may load native code.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from coordination.errors import PlanRefused
from coordination.git import ask_git
from coordination.models import RewriteAction
from coordination.text import install_extra

AST_GREP = "ast-grep"
GLOB = frozenset("*?[{")
UNPARSED = "Pattern contains an ERROR node"
"""Message of ast-grep, with exit code 0, about a pattern that is no code of its language."""
SEARCH_S = 60.0
"""Time for the search of one repository."""
MOST_MATCHES = 1000
LONGEST_TEXT = 500
"""Maximum length of a recorded match in characters."""


@dataclass(frozen=True, kw_only=True)
class Match:
    """A piece of code that a rewrite would replace."""

    file: str
    line: int
    """Line number, from 1."""
    before: str
    after: str


@dataclass(frozen=True, kw_only=True)
class Matches:
    """The changes that a rewrite would make in a repository."""

    found: tuple[Match, ...] = ()
    more: bool = False
    """True if there are more than MOST_MATCHES."""
    unknown: str = ""
    """Reason why the matches are unknown; empty if they are known."""


def ast_grep() -> str:
    """Return the path of ast-grep. Raises PlanRefused."""
    beside = shutil.which(AST_GREP, path=str(Path(sys.executable).parent))
    if found := beside or shutil.which(AST_GREP):
        return found
    raise PlanRefused(
        "a rewrite action needs ast-grep, which is not installed beside this Python, nor on PATH",
        install_extra("codemods"),
    )


def pattern_arguments(action: RewriteAction) -> tuple[str, ...]:
    """Return the pattern and its language as arguments of ast-grep."""
    return (f"--pattern={action.pattern}", f"--lang={action.lang}")


def rewrite_arguments(action: RewriteAction) -> tuple[str, ...]:
    """Return the arguments with which ast-grep finds the matches in the current folder."""
    globs = (f"--globs={glob}" for path in action.paths for glob in _globs(path))
    return (
        "run",
        "--config=/dev/null",
        "--no-ignore=parent",  # the worktree may lie in a folder that the ecosystem's repository ignores
        "--color=never",
        *pattern_arguments(action),
        f"--rewrite={action.rewrite}",
        *globs,
    )


def find_matches(action: RewriteAction, checkout: Path, commit: str) -> Matches:
    """Return what the rewrite would change in a commit of a checkout on this machine. Raises PlanRefused for
    a pattern that is no code of its language, and without ast-grep.
    """
    program = ast_grep()
    tried = _run(
        [program, "run", "--config=/dev/null", *pattern_arguments(action), "--debug-query=ast", "--stdin"]
    )
    if UNPARSED in tried.stderr or tried.returncode > 1:
        said = (
            ""
            if UNPARSED in tried.stderr
            else f" ({tried.stderr.strip().partition(chr(10))[0][:LONGEST_TEXT]})"
        )
        raise PlanRefused(
            f"the pattern is no code of {action.lang}: {action.pattern[:LONGEST_TEXT]}{said}",
            "correct `pattern` or `lang` of the action",
        )
    with _files_of(checkout, commit) as folder:
        if folder is None:
            return Matches(unknown=f"git makes no worktree of {commit[:12]} of {checkout}")
        try:
            ended = _run([program, *rewrite_arguments(action), "--json=stream"], folder)
        except subprocess.TimeoutExpired:
            return Matches(unknown=f"the search takes more than {SEARCH_S:g} s")
    if ended.returncode > 1:
        return Matches(unknown=f"ast-grep failed: {ended.stderr.strip()[:LONGEST_TEXT]}")
    found = tuple(islice(map(_match, ended.stdout.splitlines()), MOST_MATCHES + 1))
    return Matches(found=found[:MOST_MATCHES], more=len(found) > MOST_MATCHES)


def _run(argv: list[str], folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        argv,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        check=False,
        timeout=SEARCH_S,
    )


@contextmanager
def _files_of(checkout: Path, commit: str) -> Iterator[Path | None]:
    """Make a temporary worktree of the commit; yield None if git makes none."""
    with tempfile.TemporaryDirectory(prefix="coord-rewrite-") as name:
        folder = Path(name) / "files"
        ask_git(checkout, "worktree", "add", "--quiet", "--detach", str(folder), commit)
        try:
            yield folder if folder.is_dir() else None
        finally:
            ask_git(checkout, "worktree", "remove", "--force", str(folder))


def _match(line: str) -> Match:
    match = json.loads(line)
    return Match(
        file=match["file"],
        line=match["range"]["start"]["line"] + 1,
        before=match["text"][:LONGEST_TEXT],
        after=match.get("replacement", "")[:LONGEST_TEXT],
    )


def _globs(path: str) -> tuple[str, ...]:
    """Return the globs of a path: a folder means all files in it. A leading slash means this folder."""
    anchored = f"/{path.removeprefix('./').rstrip('/')}"
    return (anchored,) if GLOB & set(path) else (anchored, f"{anchored}/**")
