"""The branch of a change set in a repository, and the size of its change.

The branch is a copy of the tip in Redis, for people and their tools. An attempt moves it right before its
settle, by compare-and-swap and alone in its worktree, so it is in place when the run has ended. If the settle
is refused, that attempt or the next one sets it back; the start of the next run repairs a branch that is
still wrong. `refs/coord/copies/` keeps the commit at which coord left the branch: if the branch is elsewhere,
a person has moved it, and it stays. So does a branch that is checked out twice, that a person rebases, or
whose checkout has uncommitted changes or files that the commit would replace.

The size (commits, files, lines between base and tip) is recorded by each settle. A todo that committed costs
one question to git: its number of commits follows from that of the todo before it. A change that git cannot
measure in time has no figures, and its todo succeeds all the same.

`GitSessions` keeps git processes open from todo to todo for both, because starting git takes ten times as
long as its answer. `update-ref --stdin` and `diff-tree --stdin` answer one request after the other. A process
is ended when it gives no answer in time, when its path leads to another repository, and when it was idle for
a while. Without an answer, the caller starts a new git, which reports why it refuses.
"""

from __future__ import annotations

import os
import re
import select
import subprocess
import threading
import time
import zlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from coordination.branches import HEADS, OwnBranches, copy_ref, discarded_ref, is_named
from coordination.errors import GitRefused
from coordination.files import replace_file
from coordination.git import is_checked_out, is_commit
from coordination.text import listed
from workers.process.trouble import GitInterrupted
from workers.workspace.git import ask, bounds, command_line, environment, git
from workers.workspace.repository import contains, operation_of, untracked_in_the_way, worktrees

LONGEST_HEAD = 4096
_COUNTS = re.compile(r"(\d+) (file|insertion|deletion)")
_PARENT = re.compile(rb"\nparent ([0-9a-f]+)")
SESSIONS_KEPT = 16
"""Idle processes of a worker: two for each of 8 repositories."""
IDLE_S = 10.0
END_WITHIN_S = 2.0
WITHIN = timedelta(seconds=5)
"""The most time that git may take for an answer: a change of a gigabyte has no figures."""
ANSWER_BYTES = 65536
LONGEST_ANSWER = 1 << 20
NET_CHANGE = ("diff-tree", "--no-ext-diff", "--no-textconv", "--no-renames", "--shortstat")
COMPARE = (*NET_CHANGE, "--always", "--stdin")
MOVE = ("update-ref", "--stdin")
QUICK = ("core.fsync=none", "core.filesRefLockTimeout=3000")
"""Settings for references that the next run would repair: syncing two of them takes longer than all other
work. Another git, started by a person, may hold the lock file of one for a moment, which on a loaded machine
is longer than git's 100 ms.
"""


@dataclass(frozen=True, kw_only=True)
class BranchHeads:
    head: str
    """The commit of the branch; empty without one."""
    left: str
    """The commit at which coord left it; empty where coord never made it."""

    @property
    def is_moved(self) -> bool:
        """Return whether a person has moved or created the branch."""
        return self.head not in ("", self.left)


@dataclass(frozen=True, kw_only=True)
class BranchCopy:
    checkout: Path
    common_dir: Path
    branch: str
    sessions: GitSessions | None = None
    """The worker's; None: each move starts git."""

    @property
    def ref(self) -> str:
        return f"refs/heads/{self.branch}"

    @property
    def left_ref(self) -> str:
        """The ref of the commit at which coord left the branch."""
        return copy_ref(self.branch)

    def read(self) -> BranchHeads:
        options = ("--format=%(refname) %(objectname)",)
        listing = git("for-each-ref", *options, self.ref, self.left_ref, cwd=self.checkout)
        found = dict(line.split(" ") for line in listing.splitlines())
        return BranchHeads(head=found.get(self.ref, ""), left=found.get(self.left_ref, ""))

    def move(self, tip: str, before: str | None = None, *, keeps: bool = True) -> str:
        """Move the branch to the tip (empty: delete it); return why it stays where it is, else empty. A
        commit of the branch that the tip lacks is kept under `refs/coord/discarded`.

        `before`: a commit that the tip contains, at which the branch is expected: this spares a look;
        `keeps`: False where the commits that it loses are those of an attempt that does not count. Raises
        nothing if git refuses, or if a person has moved the branch.
        """
        if tip and not is_commit(tip):
            return f"{self.branch} stays where it is: {tip[:40]!r} is no commit"
        # A forged record may name a base branch, which must not move here.
        if not (is_named(self.branch) and OwnBranches.of(self.common_dir).have(f"{HEADS}{self.branch}")):
            return f"{self.branch[:100]!r} stays where it is: it is no branch of a change set"
        try:
            if before and tip and self._is_moved_at_once(tip, before):
                return ""
            if keeps:
                self._keep(tip)
            return self._move(tip)
        except (GitRefused, GitInterrupted) as refused:
            return f"{self.branch} stays where it is: {refused.message}"

    def _keep(self, tip: str) -> None:
        head = self.read().head
        if head and not (tip and contains(self.checkout, head, tip)):
            git("update-ref", discarded_ref(self.branch, head), head, cwd=self.checkout, settings=QUICK)

    def _move(self, tip: str) -> str:
        heads = self.read()
        if heads.head == tip == heads.left:
            return ""
        if heads.is_moved and not self._is_built_on(heads, tip):
            return f"{self.branch} stays at {heads.head[:12]}: a person has moved it"
        places = self._checkouts_of_branch() if heads.head else []
        if places and heads.head != tip:
            stays = f"{self.branch} stays at {heads.head[:12]}: it is checked out in"
            if len(places) > 1 or not tip:
                return f"{stays} {listed(list(map(str, places)))}"
            if why := _occupied(places[0], heads.head, tip):
                return f"{stays} {places[0]}, {why}"
            git("reset", "--keep", "--quiet", tip, cwd=places[0])
            git("update-ref", self.left_ref, tip, cwd=self.checkout, settings=QUICK)
            return ""
        refused = self._swap(tip, heads.head, heads.left)
        return f"{self.branch} stays where it is: {refused}" if refused else ""

    def _is_moved_at_once(self, tip: str, before: str) -> bool:
        """Move the branch if it is at the expected commit; return whether it was moved."""
        if is_checked_out(self.common_dir, self.ref):  # this is asked after each todo
            return False
        if self.sessions is None:
            return not self._swap(tip, before, before)
        return self.sessions.move(self.checkout, self.common_dir, self._changes(tip, before, before))

    def _is_built_on(self, heads: BranchHeads, tip: str) -> bool:
        """Return whether the tip contains the commits that a person has added to the branch."""
        added = not heads.left or contains(self.checkout, heads.left, heads.head)
        return heads.head == tip or bool(tip and added and contains(self.checkout, heads.head, tip))

    def _swap(self, tip: str, head: str, left: str) -> str:
        """Move branch and record in one step; return why git refuses, for example because one was moved."""
        changes = self._changes(tip, head, left)
        answer = ask("update-ref", "--stdin", cwd=self.checkout, stdin=changes, settings=QUICK)
        return (answer.stderr.strip() or f"git ended with {answer.returncode}") if answer.returncode else ""

    def _changes(self, tip: str, head: str, left: str) -> str:
        return _change(self.ref, tip, head) + _change(self.left_ref, tip, left)

    def _checkouts_of_branch(self) -> list[Path]:
        return [place for place, on in worktrees(self.checkout) if on == self.ref and place.is_dir()]


def _change(ref: str, new: str, old: str) -> str:
    if new:
        return f"update {ref} {new} {old}\n" if old else f"create {ref} {new}\n"
    return f"delete {ref} {old}\n" if old else ""


def _occupied(place: Path, head: str, tip: str) -> str:
    """Return the reason why the files of a checkout must not change from one commit to the other; empty if
    they may.
    """
    if operation := operation_of(place):
        return f"in the middle of an operation of git ({operation})"
    if changed := git("status", "--porcelain", "-z", cwd=place).split("\0")[0]:
        return f"with uncommitted changes ({changed[3:]})"
    files = untracked_in_the_way(place, head, tip)
    return f"with files that git ignores and the commit brings ({listed(files)})" if files else ""


def measure(
    path: Path,
    common_dir: Path,
    base: str,
    since: str,
    tip: str,
    record: Path,
    sessions: GitSessions | None = None,
) -> str:
    """Return `base commits files added removed` of the change from `base` to `tip`; only `base` where git
    cannot tell the others: a commit is missing, the repository is away, or it takes too long.

    `common_dir`: the repository's git directory. `since`: where the todo began. `record`: the file
    with the number of commits at that commit.
    """
    if not (is_commit(base) and is_commit(tip)):
        return ""
    if base == tip:
        return f"{base} 0 0 0 0"
    try:
        net = _net_change(path, common_dir, base, tip, sessions)
        commits = None if net is None else _commits(path, common_dir / "objects", base, since, tip, record)
    except GitRefused:
        return base
    if commits is None or net is None:
        return base
    counts = {noun: int(number) for number, noun in _COUNTS.findall(net)}
    numbers = (counts.get(noun, 0) for noun in ("file", "insertion", "deletion"))
    return " ".join(map(str, (base, commits, *numbers)))


def _net_change(
    path: Path, common_dir: Path, base: str, tip: str, sessions: GitSessions | None
) -> str | None:
    if sessions and (known := sessions.compare(path, common_dir, base, tip)) is not None:
        return known
    net = ask(*NET_CHANGE, base, tip, cwd=path, patience=WITHIN)
    return None if net.returncode else net.stdout


def _commits(path: Path, objects: Path, base: str, since: str, tip: str, record: Path) -> int | None:
    """Return the number of commits since the base, and record it for the next todo."""
    known = 0 if since == base else _recorded(record, since)
    if known is not None and _parents(objects, tip) == [since]:
        count = known + 1
    else:
        counted = ask("rev-list", "--count", tip, f"^{base}", cwd=path, patience=WITHIN)
        if counted.returncode:
            return None
        count = int(counted.stdout)
    with suppress(OSError):
        replace_file(record, f"{tip} {count}".encode(), durable=False)
    return count


def _parents(objects: Path, commit: str) -> list[str]:
    """Return the parents of a commit that was just made; none if it is no loose object. A call of git takes
    2 ms.
    """
    try:
        packed = (objects / commit[:2] / commit[2:]).read_bytes()
        head = zlib.decompressobj().decompress(packed, LONGEST_HEAD).partition(b"\n\n")[0]
    except (OSError, zlib.error):
        return []
    return [name.decode() for name in _PARENT.findall(head)]


def _recorded(record: Path, commit: str) -> int | None:
    try:
        at, _, count = record.read_text().partition(" ")
    except (OSError, ValueError):
        return None
    return int(count) if at == commit and count.isdecimal() else None


class GitSessions:
    def __init__(self, within: timedelta = WITHIN) -> None:
        self._within_s = within.total_seconds()
        self._guard = threading.Lock()
        self._idle: dict[tuple[Path, tuple[str, ...]], _Session] = {}  # in the order of their last use
        self._closed = False

    def move(self, checkout: Path, common_dir: Path, changes: str) -> bool:
        """Change references together, by lines of `git update-ref --stdin`; return whether git did."""
        request = f"start\n{changes}commit\n"
        return self._ask(MOVE, checkout, common_dir, request, "commit: ok\n") is not None

    def compare(self, checkout: Path, common_dir: Path, base: str, tip: str) -> str | None:
        """Return the short statistics from a commit to another; None without an answer."""
        answer = self._ask(COMPARE, checkout, common_dir, f"{tip} {base}\nend\n", "end\n")
        return answer if answer and answer.startswith(tip) else None  # no output: a commit is missing

    def close_idle(self) -> None:
        """End the processes that have been idle too long."""
        self._close(lambda session: time.monotonic() - session.used > IDLE_S)

    def close(self) -> None:
        self._closed = True
        self._close(lambda _: True)

    def _ask(
        self, command: tuple[str, ...], checkout: Path, common_dir: Path, request: str, end: str
    ) -> str | None:
        with self._guard:
            session = self._idle.pop((checkout, command), None)
        if session is not None and not session.is_of(common_dir):
            session.close()
            session = None
        try:
            session = session or _Session(command, checkout, common_dir)
        except OSError:
            return None
        answer = session.ask(request.encode(), end.encode(), self._within_s)
        self._put_back((checkout, command), session, sound=answer is not None)
        return answer

    def _put_back(self, key: tuple[Path, tuple[str, ...]], session: _Session, *, sound: bool) -> None:
        with self._guard:
            surplus = [session]
            if sound and not self._closed and key not in self._idle:
                self._idle[key] = session
                surplus = [self._idle.pop(next(iter(self._idle)))] if len(self._idle) > SESSIONS_KEPT else []
        for one in surplus:
            one.close()

    def _close(self, which: Callable[[_Session], bool]) -> None:
        with self._guard:
            gone = {key: session for key, session in self._idle.items() if which(session)}
            for key in gone:
                del self._idle[key]
        for session in gone.values():
            session.close()


class _Session:
    def __init__(self, command: tuple[str, ...], checkout: Path, common_dir: Path) -> None:
        """Start git. Raises OSError."""
        self.used = time.monotonic()
        self._repository = _identity(common_dir)
        env = environment(bounds(checkout))
        self._process = subprocess.Popen(
            command_line(command, QUICK, cwd=checkout, env=env),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            cwd=checkout,
            env=env,
            start_new_session=True,
        )

    def is_of(self, common_dir: Path) -> bool:
        """Return whether the path still leads to the same repository."""
        with suppress(OSError):
            return self._repository == _identity(common_dir)
        return False

    def ask(self, request: bytes, end: bytes, within_s: float) -> str | None:
        """Return the answer before its `end`; None if git has ended, or has not answered in time."""
        self.used = time.monotonic()
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        descriptor, answer = self._process.stdout.fileno(), b""
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        until = self.used + within_s
        try:
            self._process.stdin.write(request)
            while not answer.endswith(end):
                if not poll.poll(1000 * max(0.0, until - time.monotonic())):
                    return None
                if not (some := os.read(descriptor, ANSWER_BYTES)):
                    return None
                answer += some
                if len(answer) > LONGEST_ANSWER:
                    return None
        except OSError:
            return None
        return answer.removesuffix(end).decode(errors="replace")

    def close(self) -> None:
        """End git by SIGTERM, at which it removes its lock files."""
        self._process.terminate()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            with suppress(OSError):
                pipe.close()
        try:
            self._process.wait(END_WITHIN_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def _identity(folder: Path) -> tuple[int, int]:
    status = folder.stat()
    return status.st_dev, status.st_ino
