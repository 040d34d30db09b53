"""The filters and merge drivers that the worker's git starts for content of a todo in a sandbox.

`.gitattributes` says which of the programs of the user's configuration git starts for a file, and git reads
it from the folder and from commits. The programs run outside of the sandbox. So for a todo in a sandbox:

* While our git works in the folder of such a todo, it starts only the drivers that the commit names at which
  the todo began, or the user's own attributes. It takes all other files as they are.
* A todo is refused if one of its commits, or a branch that it merges, brings the name of another driver or
  another `.lfsconfig`, which says where Git LFS sends files. So what a todo in a sandbox has chosen never
  decides over a checkout, merge, landing or upload of later work.

A large `conflict-marker-size` is refused in the same way: git would write lines of that length for each
conflict, up to 6 GB.

A driver that the base branch names itself runs on files of the todo, as on those of all authors. Drivers of
`diff` are not refused: coord never starts them.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from pathlib import Path

from coordination.errors import GitRefused
from coordination.git import is_commit
from coordination.git_programs import drivers
from coordination.text import listed
from workers.workspace.git import ask, environment, git

Driver = tuple[str, str]
"""`filter` or `merge`, and a name as .gitattributes has it; or MARKERS and a large number."""
MARKERS = "conflict-marker-size"
DIGITS = 3
"""Digits of a size of conflict markers that every todo may choose."""
ATTRIBUTES, LFS_CONFIG = ".gitattributes", ".lfsconfig"
PLACES = (f":(top,glob,icase)**/{ATTRIBUTES}", f":(top,literal,icase){LFS_CONFIG}")
BUILT_IN = frozenset({("merge", "text"), ("merge", "binary"), ("merge", "union")})
MOST_VERSIONS = 1000
"""Contents of .gitattributes that are read of one todo."""
LONGEST = 100 * 1024 * 1024
"""Bytes of the largest .gitattributes that git obeys."""
COMMITS_KEPT = 256
_KIND = f"(filter|merge|{MARKERS})="
_NAMED = re.compile(rb"(?:^|[ \t\r\n])" + _KIND.encode() + rb"([^ \t\r\n\0]+)")
_SEARCH = ("grep", "-h", "-a", "--no-color", "--no-line-number", "--no-column", "-E", "-e", _KIND)
RAW = ("--raw", "-r", "-z", "--no-abbrev", "--no-renames")
_known: dict[str, frozenset[Driver]] = {}


def drivers_in(attributes: bytes) -> frozenset[Driver]:
    """Return the drivers that a file of attributes names."""
    return frozenset(
        (kind.decode(), name.decode(errors="surrogateescape"))
        for kind, name in _NAMED.findall(attributes)
        if kind != MARKERS.encode() or len(name) > DIGITS
    )


def drivers_of(commit: str, folder: Path, git_dir: Path | None = None) -> frozenset[Driver]:
    """Return the drivers that a commit names in its files of attributes."""
    if (known := _known.get(commit)) is not None:
        return known
    answer = ask(*_SEARCH, commit, "--", PLACES[0], cwd=folder, git_dir=git_dir)
    found = drivers_in(answer.stdout.encode(errors="surrogateescape"))
    if answer.returncode <= 1:  # 1: none
        _note(commit, found)
    return found


def note_same(commit: str, other: str) -> None:
    """Note that a commit has the files of attributes of another one: it spares a call of git."""
    if (named := _known.get(other)) is not None:
        _note(commit, named)


def _note(commit: str, named: frozenset[Driver]) -> None:
    while len(_known) >= COMMITS_KEPT:
        _known.pop(next(iter(_known)), None)
    _known[commit] = named


def others_off(commit: str, folder: Path, git_dir: Path) -> tuple[str, ...]:
    """Return the settings with which our git starts no driver in a folder but those that the commit names, or
    the user's own attributes. Raises GitRefused.
    """
    found = drivers(folder, environment({"GIT_DIR": str(git_dir), "GIT_WORK_TREE": str(folder)}))
    if not found.names:
        return ()
    is_entry = git_dir.parent.name == "worktrees"
    own = git_dir.parent.parent if is_entry else git_dir
    files = [*map(Path, found.attributes), own / "info" / "attributes"]
    trusted = drivers_of(commit, folder, git_dir).union(*map(_drivers_in_file, files))
    return tuple(setting for driver in sorted(found.names - trusted) for setting in _off(*driver))


def _drivers_in_file(file: Path) -> frozenset[Driver]:
    if not file.is_absolute():  # git would look for it in the folder of the todo
        return frozenset()
    try:
        return drivers_in(file.read_bytes())
    except OSError:
        return frozenset()


def _off(kind: str, name: str) -> Iterator[str]:
    if "=" in name:
        raise GitRefused(
            f"the configuration has a {kind} whose name git takes for a setting: {name!r}", "rename it there"
        )
    if kind == "merge":  # an empty driver would drop one side without a word
        yield f"merge.{name}.driver=false"
        return
    yield from (f"filter.{name}.{key}=" for key in ("clean", "smudge", "process"))
    yield f"filter.{name}.required=false"


def is_obeyed(path: str) -> bool:
    """Return whether git or Git LFS obeys a file of this path."""
    return path.rpartition("/")[2].lower() == ATTRIBUTES or path.lower() == LFS_CONFIG


def refuse_others(listing: str, trusted: Collection[str], folder: Path, git_dir: Path) -> None:
    """Raise GitRefused if a todo in a sandbox names drivers, or an address of Git LFS, that no trusted commit
    has. `listing`: the changes of its commits, or of its index, as git lists them with RAW at PLACES.
    """
    found = [(path, name) for path, name in _changes(listing) if is_obeyed(path)]
    configs = {name for path, name in found if path.lower() == LFS_CONFIG}
    if configs and configs - _versions_of_lfs_config(trusted, folder, git_dir):
        raise GitRefused(
            f"the todo changed {LFS_CONFIG}, which says where Git LFS sends the files of this repository",
            "bring the change to the base branch yourself, or by a todo with sandbox: off",
        )
    attributes = sorted({name for path, name in found if path.lower() != LFS_CONFIG})
    if len(attributes) > MOST_VERSIONS:
        raise GitRefused(
            f"the todo committed {len(attributes):,} versions of {ATTRIBUTES}, more than {MOST_VERSIONS:,}",
            "let it commit fewer",
        )
    if not attributes:
        return
    names = "".join(f"{name}\n" for name in attributes)
    contents = git("cat-file", "--batch", cwd=folder, git_dir=git_dir, stdin=names)
    known = BUILT_IN.union(*(drivers_of(commit, folder, git_dir) for commit in trusted))
    if new := drivers_in(contents.encode(errors="surrogateescape")) - known:
        texts = listed([f"{kind}={name}" for kind, name in sorted(new)])
        raise GitRefused(
            f"{ATTRIBUTES} of the todo names {texts}, which that of the base branch does not: git would "
            "obey it outside of the sandbox",
            f"bring this {ATTRIBUTES} to the base branch yourself, or by a todo with sandbox: off",
        )


def _changes(listing: str) -> Iterator[tuple[str, str]]:
    """Yield path and new object of each change that does not delete."""
    words = iter(listing.split("\0"))
    for word in words:
        if word.lstrip().startswith(":") and (name := word.split()[3]).strip("0"):
            yield next(words, ""), name


def _versions_of_lfs_config(commits: Collection[str], folder: Path, git_dir: Path) -> set[str]:
    names = "".join(f"{commit}:{LFS_CONFIG}\n" for commit in commits)
    listed = git("cat-file", "--batch-check=%(objectname)", cwd=folder, git_dir=git_dir, stdin=names)
    return {line for line in listed.splitlines() if is_commit(line)}
