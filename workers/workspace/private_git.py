"""The git directory of a confined todo, and the way of its commits into the repository.

A todo that is confined shares the folder of its worktree with the worker, and no git directory. Its own one
is made for the attempt, and stands in the sandbox where the worker's entry of that worktree is:

    <records>/private/          HEAD on the branch of the run, which is its only branch that counts
        objects/                borrows the repository's objects, which the sandbox shows read-only
        index                   a copy of the worker's
        config                  settings that name nobody's secrets, and no hooks
        packed-refs             branches and tags of the repository, to be read

The worker runs no git with it, and reads only regular files of it, up to a limit. When all processes of the
todo are gone, its commits are taken as from a hostile remote: what is no plain object is removed, the objects
that HEAD adds are packed, and the repository takes the pack after `fsck`, without links, alternates, grafts,
replaced commits, commit graphs or settings of the todo. Files that the todo has not committed are taken from
the folder (`confined_folder.py`); its index only says which ignored files it has added, and which it removed.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from coordination.branches import OwnBranches
from coordination.errors import GitRefused
from coordination.files import make_private, open_private
from coordination.git import DURABLE, NO_GRAFTS, TRUE_HISTORY, is_commit
from coordination.sandbox import Binds
from workers.process.trouble import GitInterrupted, trouble_of_git
from workers.workspace.files import read_regular, remove_tree
from workers.workspace.git import HOSTILE_PATIENCE, Hold, ask, bounds, command_line, environment, git
from workers.workspace.git_index import LARGEST, IndexUnreadable, Staged, read_index, staged
from workers.workspace.repository import contains, has_commit

DEEPEST = 5
"""The most alternates of alternates that git follows."""
MOST_REFS = 5000
LONGEST_REF = 4096
LONGEST_REFS = 16 * 1024 * 1024
MOST_OBJECTS = 1_000_000
MOST_BYTES = 4 * 1024**3
"""Limits of what a todo may have committed: files of objects, and bytes of their pack."""
UNPACKED = 500
"""The most objects that are unpacked; more stay a pack."""
MEMORY = {"GIT_ALLOC_LIMIT": "600m"}
"""git refuses an object that says it is larger, instead of allocating that. By itself it streams files of
more than 512 MiB, and makes no deltas of them.
"""
FRUGAL = ("core.bigFileThreshold=32m", "pack.threads=1")
"""Settings with which 8 files of 100 MB, which have 3 MB compressed, take 5 MB of memory instead of 900."""
REFS = ("refs/heads", "refs/tags", "refs/remotes")
_REF = re.compile(r"refs(/(?!\.)[^\x00-\x20\x7f~^:?*\[\\/]{1,255})+")
_USERINFO = re.compile(r"^([a-z][a-z0-9+.-]*://)[^/@]*@", re.IGNORECASE)
_HEX = re.compile(r"[0-9a-f]+")
_PACK = re.compile(r"pack-[0-9a-f]+\.(pack|idx)")
_PERSON = re.compile(r"(user|author|committer)\.(name|email)")
_COPIED = re.compile(
    r"core\.(repositoryformatversion|autocrlf|eol|safecrlf|filemode|symlinks|ignorecase|precomposeunicode"
    r"|quotepath|sparsecheckout|sparsecheckoutcone|whitespace|checkstat|trustctime|abbrev|longpaths)"
    r"|index\.(sparse|version)|extensions\.(objectformat|partialclone)|i18n\..*|init\.defaultbranch"
    r"|filter\..*\.(clean|smudge|process|required)|merge\..*\.(name|driver|recursive)|merge\.(ff|conflictstyle)"
    r"|diff\..*\.(xfuncname|binary|wordregex)|pull\.(rebase|ff)|rebase\..*"
    r"|remote\..*\.(url|fetch|promisor|partialclonefilter)|branch\..*\.(remote|merge)"
    r"|submodule\..*\.(active|url)",
    re.DOTALL,
)
"""Settings of the repository that its todos need, in its sandbox only."""
_FIXED = "[core]\n\tbare = false\n[gc]\n\tauto = 0\n[maintenance]\n\tauto = false\n"


@dataclass(frozen=True, kw_only=True)
class Taken:
    """The result of a todo's git directory."""

    head: str
    """The commit that the todo left, now in the repository; a descendant of where it began."""
    merged: Sequence[str] = ()
    """Other parents of a merge that the todo prepared and did not commit."""
    left: Sequence[str] = ()
    """Names of branches and tags that are not taken."""


class PrivateGit:
    def __init__(
        self,
        *,
        folder: Path,
        path: Path,
        git_dir: Path,
        checkout: Path,
        branch: str,
        hold: Callable[[], Hold],
    ) -> None:
        """`path`: the worktree; `git_dir`: the worker's entry of it; `branch`: empty for a detached HEAD."""
        self._folder = folder
        self._path = path
        self._git_dir = git_dir
        self._checkout = checkout
        self._ref = f"refs/heads/{branch}" if branch else ""
        self._hold = hold
        self._packed = b""
        self._index_stamp: tuple[int, ...] | None = None
        self._hash_bytes = 20
        self._shown: Sequence[Path] = ()

    def make(self, commit: str, *, shown: Sequence[Path] = ()) -> None:
        """Make the git directory at a commit, anew. `shown`: more folders that the sandbox shows. Raises
        OSError, GitRefused.
        """
        folder, common = self._folder, self._common
        remove_tree(folder)
        self._shown, self._hash_bytes = shown, len(commit) // 2
        for inner in (folder, folder / "objects", folder / "objects" / "info", folder / "info"):
            make_private(inner)
        (folder / "refs" / "heads").mkdir(parents=True)
        (folder / "objects" / "info" / "alternates").write_bytes(_quoted(common / "objects") + b"\n")
        (folder / "HEAD").write_text(f"ref: {self._ref}\n" if self._ref else f"{commit}\n")
        if self._ref:
            (folder / self._ref).parent.mkdir(parents=True, exist_ok=True)
            (folder / self._ref).write_text(f"{commit}\n")
        self._packed = self._refs()
        (folder / "packed-refs").write_bytes(self._packed)
        with open_private(folder / "config", errors="surrogateescape") as file:
            file.write(self._config())
        for source, name in (
            (self._git_dir / "index", "index"),
            *((shared, shared.name) for shared in self._git_dir.glob("sharedindex.*")),
            (common / "shallow", "shallow"),
            (common / "info" / "exclude", "info/exclude"),
            (common / "info" / "attributes", "info/attributes"),
            (self._git_dir / "info" / "sparse-checkout", "info/sparse-checkout"),
        ):
            with suppress(FileNotFoundError):
                shutil.copyfile(source, folder / name)
        self._index_stamp = self._stamp_of_index()

    @property
    def binds(self) -> Binds:
        """Return what a sandbox shows of the worktree and its repository. `.git` of the worktree names the
        entry, and stays; submodules are read-only to git.
        """
        common, modules = self._common, self._git_dir / "modules"
        objects = (common / "objects", *_alternates(common / "objects", DEEPEST))
        lfs = common / "lfs"
        return Binds(
            readable=(*objects, *((lfs,) if lfs.is_dir() else ()), *self._shown),
            writable=(self._path,),
            placed=((self._folder, self._git_dir),),
            pinned=(self._path / ".git", *((modules,) if modules.is_dir() else ())),
        )

    def take(self, since: str) -> Taken:
        """Take the commits of the todo into the repository; move no branch. No process of the todo may be
        alive. Raises GitRefused if they are not on top of `since`, or are damaged.
        """
        head, branch = self.head, self._commit_of(self._ref)
        wanted = [commit for commit in dict.fromkeys((head, branch)) if commit not in ("", since)]
        if wanted:
            self._obtain(wanted, since)
        tip = branch or since
        if not contains(self._checkout, since, tip):
            if not has_commit(self._checkout, tip):
                raise GitRefused(f"{tip[:12]} of the todo is no commit", "let it commit anew")
            raise GitRefused(
                f"{self._ref.removeprefix('refs/heads/')} no longer contains {since[:12]}, where the todo "
                "began: its history was rewritten",
                "let the todo add commits; revert commits to undo them",
            )
        chosen = head if head and contains(self._checkout, tip, head) else tip
        return Taken(head=chosen, merged=self._merged(), left=self._left())

    @property
    def head(self) -> str:
        """Return the commit that HEAD names; empty if no regular file tells."""
        return self._commit_of("HEAD")

    def staged(self) -> Staged:
        """Return what the todo's index says beyond the worker's, which is at the commit of `take`."""
        if self._stamp_of_index() == self._index_stamp:
            return Staged()
        theirs = read_regular(self._folder, "index", LARGEST)
        ours = read_regular(self._git_dir, "index", LARGEST)
        if theirs is None or ours is None:
            return Staged()
        try:
            return staged(read_index(ours, self._hash_bytes), read_index(theirs, self._hash_bytes))
        except IndexUnreadable:
            return Staged()

    def remove(self) -> None:
        """Remove it. Raises OSError."""
        remove_tree(self._folder)

    @property
    def _common(self) -> Path:
        return self._git_dir.parent.parent

    def _refs(self) -> bytes:
        """Return branches, tags and remote branches of the repository, as git packs them."""
        form = ("--format=%(objectname) %(refname)", f"--count={MOST_REFS}")
        listed = git("for-each-ref", *form, *REFS, cwd=self._checkout, hold=self._hold())
        ours = OwnBranches.of(self._checkout)
        lines = (line for line in listed.splitlines() if not ours.have(line.partition(" ")[2]))
        return "".join(f"{line}\n" for line in lines).encode(errors="surrogateescape")

    def _config(self) -> str:
        listing = ("config", "-z", "--show-scope", "--list")
        words = iter(ask(*listing, cwd=self._path, git_dir=self._git_dir).stdout.split("\0"))
        kept: dict[str, list[str]] = {}
        for scope, entry in zip(words, words, strict=False):
            key, equals, value = entry.partition("\n")
            if not equals:
                value = "true"
            if scope != "command" and _PERSON.fullmatch(key):
                kept[key] = [value]
            elif scope in ("local", "worktree") and _COPIED.fullmatch(key):
                kept.setdefault(key, []).append(
                    _USERINFO.sub(r"\1", value) if key.endswith(".url") else value
                )
        return _FIXED + "".join(_setting(key, value) for key, values in kept.items() for value in values)

    def _stamp_of_index(self) -> tuple[int, ...] | None:
        try:
            found = (self._folder / "index").lstat()
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns, found.st_ctime_ns, found.st_size

    def _commit_of(self, name: str) -> str:
        """Return the commit of HEAD or a ref; empty if there is none that regular files name."""
        for _ in range(2):  # HEAD, and its branch: a symbolic branch is not followed
            text = (read_regular(self._folder, name, LONGEST_REF) or b"").decode(errors="replace").strip()
            if is_commit(text):
                return text
            named = text.removeprefix("ref: ")
            if text and (name != "HEAD" or named == text or not _REF.fullmatch(named)):
                return ""
            if not text:
                return self._packed_commit_of(name)
            name = named
        return ""

    def _packed_commit_of(self, ref: str) -> str:
        packed = read_regular(self._folder, "packed-refs", LONGEST_REFS) or b""
        found = re.search(rb"^([0-9a-f]{40,64}) " + re.escape(ref.encode()) + rb"$", packed, re.MULTILINE)
        return found[1].decode() if found else ""

    def _merged(self) -> Sequence[str]:
        text = (read_regular(self._folder, "MERGE_HEAD", LONGEST_REF) or b"").decode(errors="replace")
        heads = text.split()
        if missing := next((head for head in heads if not has_commit(self._checkout, head)), None):
            raise GitRefused(
                f"the todo left a merge with {missing[:12]!r} open, a commit that only it has",
                "let it commit the merge",
            )
        return heads

    def _left(self) -> Sequence[str]:
        """Return the refs that the todo made."""
        found: list[str] = []
        waiting = ["refs"]
        while waiting and len(found) < MOST_REFS:
            inner = waiting.pop()
            with suppress(OSError), os.scandir(self._folder / inner) as entries:
                for entry in entries:
                    name = f"{inner}/{entry.name}"
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(name)
                    elif name != self._ref and not name.endswith(".lock"):
                        found.append(name)
        packed = read_regular(self._folder, "packed-refs", LONGEST_REFS) or b""
        if packed != self._packed:
            known = {line.partition(b" ")[2] for line in self._packed.splitlines()} | {self._ref.encode()}
            names = (line.partition(b" ")[2] for line in packed.splitlines() if line[:1] not in b"#^")
            found += [name.decode(errors="replace") for name in names if name and name not in known]
        return sorted(name for name in set(found) if not name.startswith("refs/remotes/"))

    def _obtain(self, commits: Sequence[str], since: str) -> None:
        """Bring commits into the repository that are not there. Raises GitRefused."""
        missing = [commit for commit in commits if self._is_new(commit)]
        if not missing:
            return
        _keep_plain_objects(self._folder / "objects")
        packs = self._folder.with_name("taken")
        remove_tree(packs)
        make_private(packs)
        try:
            borrowed = _quoted(self._folder / "objects").decode(errors="surrogateescape")
            git(
                *("pack-objects", "--revs", "--quiet", "--delta-base-offset", str(packs / "pack")),
                cwd=self._checkout,
                stdin="".join(f"{commit}\n" for commit in (*missing, f"^{since}")),
                settings=(*TRUE_HISTORY, *FRUGAL, "pack.useBitmaps=false"),
                hold=self._hold(),
                patience=HOSTILE_PATIENCE,
                variables={**NO_GRAFTS, **MEMORY, "GIT_ALTERNATE_OBJECT_DIRECTORIES": borrowed},
            )
            for pack in sorted(packs.glob("*.pack")):
                self._take_pack(pack)
        finally:
            remove_tree(packs)
        with suppress(OSError):
            _take_large_files(self._folder / "lfs", self._common / "lfs")

    def _is_new(self, commit: str) -> bool:
        """Return whether the commit has to be taken; without a call of git for an object of the todo."""
        if os.path.lexists(self._folder / "objects" / commit[:2] / commit[2:]):
            return True
        return not has_commit(self._checkout, commit)

    def _take_pack(self, pack: Path) -> None:
        if (size := pack.stat().st_size) > MOST_BYTES:
            raise GitRefused(
                f"the commits of the todo have {size:,} bytes, more than {MOST_BYTES:,}",
                "let it commit less, or keep large files out of git",
            )
        with pack.open("rb") as file:
            small = int.from_bytes(file.read(12)[8:], "big") <= UNPACKED
        if small:
            # unpack-objects would leave objects of a refused pack in the repository, index-pack leaves none
            self._receive(pack, "index-pack", "--strict", "-o", f"{pack}.checked", str(pack))
            self._receive(pack, "unpack-objects", "-q")
        else:
            self._receive(pack, "index-pack", "--strict", "--stdin")

    def _receive(self, pack: Path, *command: str) -> None:
        with pack.open("rb") as file:
            env = environment({**bounds(self._checkout), **self._hold().variables, **NO_GRAFTS, **MEMORY})
            settings = (*DURABLE, *FRUGAL, "transfer.fsckObjects=true", "core.useReplaceRefs=false")
            try:
                ended = subprocess.run(
                    command_line(command, settings, cwd=self._checkout, env=env),
                    cwd=self._checkout,
                    env=env,
                    stdin=file,
                    capture_output=True,
                    encoding="utf-8",
                    errors="replace",
                    pass_fds=(self._hold().fd,),
                    start_new_session=True,
                    timeout=HOSTILE_PATIENCE.total_seconds(),
                    check=False,
                )
            except subprocess.TimeoutExpired as late:
                raise GitRefused("the commits of the todo take too long to be checked") from late
        if ended.returncode:
            if trouble := trouble_of_git(ended.returncode, ended.stderr):
                raise GitInterrupted(trouble, f"git {command[0]}: {ended.stderr.strip()}")
            raise GitRefused(
                f"the commits of the todo are refused: {ended.stderr.strip()}", "let it commit anew, by git"
            )


def _keep_plain_objects(objects: Path) -> None:
    """Remove everything that is no loose object and no pack: links, alternates, graphs, bitmaps. Raises
    GitRefused, OSError.
    """
    if not stat.S_ISDIR(objects.lstat().st_mode):
        raise GitRefused("the todo has replaced its objects", "let it leave them to git")
    count, until = 0, time.monotonic() + HOSTILE_PATIENCE.total_seconds()
    for folder in _entries(objects):
        form = _PACK if folder.name == "pack" else _HEX
        kept = folder.is_dir(follow_symlinks=False) and (folder.name == "pack" or len(folder.name) == 2)
        if not kept or not (folder.name == "pack" or _HEX.fullmatch(folder.name)):
            remove_tree(Path(folder.path))
            continue
        for entry in _entries(Path(folder.path)):
            count += 1
            if count > MOST_OBJECTS or time.monotonic() > until:
                raise GitRefused("the todo has committed more objects than coord reads", "let it commit less")
            if not (entry.is_file(follow_symlinks=False) and form.fullmatch(entry.name)):
                remove_tree(Path(entry.path))


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        return list(entries)


def _take_large_files(source: Path, target: Path) -> None:
    """Copy files of Git LFS whose names are their digests. Raises OSError."""
    objects, taken = source / "objects", 0
    for first in _folders(objects):
        for second in _folders(first):
            for entry in _entries(second):
                name = f"{first.name}/{second.name}/{entry.name}"
                place = target / "objects" / name
                if not entry.is_file(follow_symlinks=False) or place.exists():
                    continue
                taken += entry.stat(follow_symlinks=False).st_size
                if taken > MOST_BYTES:
                    return
                _copy_if_named_so(Path(entry.path), place)


def _folders(folder: Path) -> Iterator[Path]:
    if folder.is_symlink() or not folder.is_dir():
        return
    for entry in _entries(folder):
        if entry.is_dir(follow_symlinks=False) and _HEX.fullmatch(entry.name):
            yield Path(entry.path)


def _copy_if_named_so(file: Path, place: Path) -> None:
    opened = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    place.parent.mkdir(parents=True, exist_ok=True)
    draft = place.with_name(f"{place.name}.{os.getpid()}.coord")
    digest = sha256()
    try:
        with os.fdopen(opened, "rb") as content, draft.open("xb") as copy:
            while piece := content.read(1 << 20):
                digest.update(piece)
                copy.write(piece)
        if digest.hexdigest() == place.name:
            draft.replace(place)
    finally:
        draft.unlink(missing_ok=True)


def _setting(key: str, value: str) -> str:
    """Return a line of a configuration with its section."""
    section, _, rest = key.partition(".")
    inner, _, name = rest.rpartition(".")
    if "\n" in inner:
        return ""
    head = f'{section} "{_escaped(inner)}"' if inner else section
    return f'[{head}]\n\t{name} = "{_escaped(value)}"\n'


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\t", "\\t")


def _quoted(path: Path) -> bytes:
    """Return a path as git reads it in lists of folders, whatever characters it has. Git LFS knows no quotes,
    so most paths have none.
    """
    text = os.fsencode(path)
    if not re.search(rb'["\n:#\\]', text):
        return text
    text = text.replace(b"\\", b"\\\\").replace(b'"', b'\\"').replace(b"\n", b"\\n")
    return b'"' + text + b'"'


def _alternates(objects: Path, depth: int) -> Iterator[Path]:
    """Yield the folders of objects that this one needs: a clone with --reference or --shared has some."""
    file = objects / "info" / "alternates"
    if not depth or not file.is_file():
        return
    for line in os.fsdecode(file.read_bytes()).splitlines():
        place = Path(os.path.normpath(objects / line))
        if line and not line.startswith("#") and place.is_dir():
            yield place
            yield from _alternates(place, depth - 1)
