"""The worktree of a run in one repository, from its making to its removal with the run.

    <state>/worktrees/<run>/<repo>/     the worktree, on the branch of the run
    <state>/checks/<run>/<repo>/        the last checkout in which a commit was judged, on no branch
    <state>/workspaces/<run>/<repo>/    lock, occupant.json, base, base-branch, conflict, mended, domain,
                                        commits, prepared, exclude, sandboxed, hooks/, private/, check/

States::

    absent ──enter──► clean at the tip ──todo──► changed ──commit──► clean at the new tip ──leave──► …
      ▲                    ▲                        └──failure──leave──► changed ──enter─┐
      │                    └─────────────────────────────────────────────────────────────┘
      └──remove, or damaged by hand (made anew at the next enter)

This module decides which attempt enters, and at which commit; `git_worktree.py` works on the folder.

Invariants

1. The checkout's files, index and HEAD are only ever read. Of its `.git`, objects, the run's branch,
   the worktree's entry and a lock file of ours are written.
2. An attempt begins at the tip that Redis recorded, whatever the branch has: a commit whose settle was lost
   does not count, and the todo makes it again.
3. Only the attempt that holds the lock (`lock.py`) writes here; entries of worktrees are made and removed
   under one lock per repository, which all processes on the machine share.
4. Untracked files that `prepare` left are neither removed nor committed.
5. A todo finds files that no commit has only from todos of its *domain*: those behind the same gates, in the
   same sandbox. For a todo of another domain the worktree is made anew. A todo that judges a commit gets a
   checkout of its own, made for it alone, with nothing but the commit and the files of `prepare`, which runs
   there on the tree with which the run began (`environments.py`).
6. A todo in a sandbox writes the folder and a git directory of its own (`private_git.py`). Our git works in
   the folder after that is made harmless (`confined_folder.py`), and with our own entry.
7. Commits of an attempt are on the branch only if it succeeded; else its files stay changed, for inspection.
   So every commit on the branch of an ended run counted, or a person put it there (`base_commit.py`).

Failures

* Killed in the middle of git: git itself goes on and holds the flock until it ends; lock files of a git that
  was killed with its todo are removed, since no other process may work here.
* A merge, rebase or bisect in progress, HEAD elsewhere, the branch deleted: set back.
* The folder or its entry deleted, the index broken: made anew (and prepared anew).
* The tip is not in the checkout, because another host made it: fetched, else refused with the reason.
* The branch checked out somewhere else: refused, because moving it would make that checkout look changed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path

from coordination.branches import KEPT, kept_ref, run_branch
from coordination.errors import CoordinationError, GitRefused
from coordination.files import below, make_private, replace_file
from coordination.git import DURABLE, base_tip
from coordination.models import OWN_BRANCHES, Repo
from coordination.runs.not_committed import NotCommitted, NotCommittedReason, not_committed
from coordination.sandbox import Binds
from coordination.trailers import FENCES, fence_of
from workers.process.trouble import describe_os_error
from workers.workspace.base import Workspace
from workers.workspace.base_commit import Carried, Unmergeable
from workers.workspace.change_set import GitSessions, measure
from workers.workspace.commit import (
    CommitStyle,
    Committed,
    WorktreeState,
    changed_paths,
    commit,
    message,
    run_git,
)
from workers.workspace.confined_folder import Tamed
from workers.workspace.environments import Archive
from workers.workspace.files import remove_below, remove_tree
from workers.workspace.git import Hold, ask, bounds, git, git_dir_of, is_readable, refuse_damaged
from workers.workspace.git_worktree import Fetch, GitWorktree, Prepared
from workers.workspace.lock import Claimant, Superseded, WorkspaceLock
from workers.workspace.private_git import PrivateGit
from workers.workspace.repository import commit_at, contains, loose_commit
from workers.workspace.run_start import RunStart, records_of
from workers.workspace.shared_state import USABLE, SharedState
from workers.workspace.submodules import Submodules

TODO = "the todo"
CHECK = "check"
"""The folder for the records of the checkout in which commits are judged."""
CORRECT_TODO = (
    "let the todo, and the hooks of its own commits, write into other repositories; then: coord retry"
)
logger = logging.getLogger(__name__)


def folder_of(state: Path, run: str, repo: str, *, judges: bool) -> Path:
    """Return the folder in which todos of a run work, or the one in which they judge a commit."""
    return below(state, "checks" if judges else "worktrees", run, repo)


class Worktree(Workspace):
    def __init__(
        self,
        *,
        state: Path,
        run: str,
        repo: Repo,
        checkout: Path,
        common_dir: Path | None = None,
        fetch: Fetch | None = None,
        carried: Carried | None = None,
        style: CommitStyle | None = None,
        git_commit: Callable[[Worktree, Sequence[str], str], None] | None = None,
        confined: bool = False,
        domain: str = "",
        prefix: str = OWN_BRANCHES,
        judges: bool = False,
        sessions: GitSessions | None = None,
        log: Callable[[str], None] = logger.warning,
    ) -> None:
        """`git_commit` commits under a guard (see `commit.GitCommit`); `confined`: in a sandbox; `domain`:
        see above; `prefix`: of its branch; `judges`: the todo gets a checkout of its own; `log` takes lines
        for the todo's log.
        """
        self._state = state.absolute()
        self._repo = repo
        self._records = records_of(self._state, run, repo.name)
        self._scripts = self._records / "hooks"
        path = folder_of(self._state, run, repo.name, judges=judges)
        super().__init__(path, WorkspaceLock(self._records, path))
        self._judges = judges
        self._domain = domain
        self.branch = run_branch(run, prefix)
        self._run = run
        self._checkout = checkout.absolute()
        self._style = style or CommitStyle()
        self._git_commit = partial(git_commit, self) if git_commit else partial(run_git, self.path)
        self._lock_request: Claimant | None = None
        self._since = self._tip = ""
        self._ignored: Sequence[str] = ()
        """Ignored files at the commit."""
        self._left_out: tuple[NotCommitted, ...] = ()
        self._confined = confined
        self._private: PrivateGit | None = None
        """The git directory of a todo in a sandbox; None before its first command."""
        self._log = log
        self._shared: SharedState | None = None
        self._common_dir = common_dir
        self._fetch = fetch
        self._main = self._folder_for(judges=False)
        self._folder = self._folder_for(judges=True) if judges else self._main
        self._prepared, self._submodules = self._folder.prepared, self._folder.submodules
        self._start = RunStart(
            run=run,
            repo=repo,
            state=self._state,
            checkout=self._checkout,
            common_dir=common_dir,
            carried=carried,
            prefix=prefix,
            folder=self._main,
            workspace_lock=self._workspace_lock,
            sessions=sessions,
        )

    def _folder_for(self, *, judges: bool) -> GitWorktree:
        prepared = Prepared(self._records / CHECK if judges else self._records, self._checkout)
        return GitWorktree(
            path=folder_of(self._state, self._run, self._repo.name, judges=judges),
            branch="" if judges else self.branch,
            repo=self._repo.name,
            checkout=self._checkout,
            common_dir=self._common_dir,
            fetch=self._fetch,
            workspace_lock=self._workspace_lock,
            prepared=prepared,
            submodules=Submodules(
                repo=self._repo.name,
                wanted=self._repo.submodules,
                hold=lambda: self.hold,
                sandboxed=lambda: prepared.sandboxed,
                branch=self._repo.branch,
            ),
        )

    @property
    def start_report(self) -> str:  # type: ignore[override]
        """Return lines on where the run begins here, if that was chosen just now."""
        return self._start.start_report

    def enter(self, lock_request: Claimant, tip: str | None, patience: timedelta) -> str:
        """Enter alone, with everything clean at `tip` (None: where the run began); return that commit.
        Raises WorkspaceBusy, Superseded, WorkspaceUnusable, GitRefused.
        """
        return self._enter(lock_request, tip, patience)

    def take_back(self, lock_request: Claimant, tip: str | None) -> None:
        """Set the worktree back to `tip` after a refused attempt. Raises Superseded if another one has
        entered since.
        """
        self._enter(lock_request, tip, timedelta(0), again=True)
        self._start.take_copy_back(tip)
        self.leave()

    def _enter(
        self, lock_request: Claimant, tip: str | None, patience: timedelta, *, again: bool = False
    ) -> str:
        last = self._workspace_lock.enter(lock_request, patience, again=again)
        try:
            with describe_os_error(self.path):
                self._since = self._tip = self._start.commit(tip)
                if last is None:
                    self._refuse_after_newer(lock_request)
                self._check_out(self._since)
                if last and not last.left:  # killed: its branch may have a commit that does not count
                    self._start.take_copy_back(tip)
        except Unmergeable as refused:
            self._workspace_lock.leave(began=refused.start, stood=refused.start)
            raise
        except BaseException:
            self._workspace_lock.leave()
            raise
        self._lock_request = lock_request
        self._shared = self._shared_state()
        if self._confined:
            self._prepared.mark_sandboxed()
        return self._since

    def _check_out(self, commit: str) -> None:
        """Bring the folder to the commit, without files of todos of another domain."""
        if self._judges:
            make_private(self._records / CHECK)
            self._folder.check_out(commit, anew=True)
            return
        file = self._records / "domain"
        before = file.read_text() if file.exists() else self._domain
        if before != self._domain:
            self._refuse_loss()
        self._folder.check_out(commit, anew=before != self._domain)
        replace_file(file, self._domain.encode(), durable=False)

    def _refuse_loss(self) -> None:
        """Raise GitRefused if the worktree has commits of submodules that no other place has."""
        git_dir = git_dir_of(self.path)
        if git_dir and any(one.reason is NotCommittedReason.SUBMODULE_COMMIT for one in self.kept):
            first = self._start.first()
            found = [*self._submodules.unpublished(self.path, git_dir, self._checkout, first)]
            if found:
                raise GitRefused(
                    f"{self._repo.name}: the todo needs a fresh worktree, and that of the run has "
                    f"{'; '.join(one.text for one in found)}",
                    "; ".join(one.hint for one in found),
                )

    def _shared_state(self) -> SharedState:
        return SharedState.read(self._folder.git_dir.parent.parent, refs=False)

    def _refuse_after_newer(self, lock_request: Claimant) -> None:
        # When the run has succeeded, its records are removed with the worktree, and so is the run's branch
        # if the change set has one. The commits that were made still show newer attempts.
        heads = [f"refs/heads/{self.branch}", *([self._start.copy.ref] if self._start.copy else ())]
        options = (*FENCES.options, "--ignore-missing")
        answer = ask("log", *options, *heads, f"^{self._since}", "--", cwd=self._checkout)
        fences = (fence_of(row) for row in FENCES.rows(answer.stdout) if row["Run"] == self._run)
        newest = max((fence or 0 for fence in fences), default=0)
        if newest > lock_request.fence:
            message = (
                f"attempt {newest} has committed on {self.branch}, "
                f"and this is the older attempt {lock_request.fence}"
            )
            raise Superseded(message, "nothing to do: the newer attempt counts")

    @property
    def is_intact(self) -> bool:
        """Return whether the folder is still a worktree that git can read."""
        git_dir = self._folder.git_dir
        return git_dir_of(self.path) == git_dir and is_readable(self.path, git_dir)

    @property
    def loose(self) -> str:
        """Return the commit of a detached HEAD that goes with the worktree; else empty."""
        return loose_commit(self.path, self._checkout)

    @property
    def changed(self) -> bool:
        """Return whether it has, or may have, changes that are in no commit."""
        git_dir = git_dir_of(self.path)
        if git_dir is None:
            return False
        if self._prepared.sandboxed and self._folder.is_foreign:
            return True
        settings = (*self._folder.settings, *self._folder.drivers_off(git_dir))
        options = ("--porcelain", *(("--ignore-submodules=dirty",) if self._prepared.sandboxed else ()))
        answer = ask("status", *options, cwd=self.path, git_dir=git_dir, settings=settings)
        return bool(answer.stdout) or answer.returncode != 0

    @property
    def needs_prepare(self) -> bool:
        return self._repo.prepare is not None and not self._prepared.succeeded

    @property
    def origin(self) -> list[str]:
        """Return where files come from that no commit has, for the key of a cached result: for a todo that
        judges, from `prepare` on this tree; else also from earlier todos.
        """
        if not self._judges:
            return ["worktree"]
        if self._repo.prepare is None:
            return ["checkout"]
        first = self._start.first()
        self._folder.obtain(first)
        return ["checkout", self._folder.git("rev-parse", f"{first}^{{tree}}")]

    def find_prepared(self) -> bool:
        if not self._judges:
            return False
        first = self._start.first()
        self._folder.obtain(first)
        self._folder.move(first)
        with describe_os_error(self._records):
            if not self._archive.restore(self.path, self.hold):
                return False
            with self._folder.tamed():
                self._note_prepared()
                self._folder.move(self._since)
        return True

    @property
    def _archive(self) -> Archive:
        return Archive.of(self._records / CHECK, self._repo.prepare, self._start.first(), self._domain)

    def mark_prepared(self) -> None:
        """Note that `prepare` succeeded; leave its untracked files out of all commits, undo its changes."""
        with describe_os_error(self._records):
            with self._folder.tamed():
                names = self._note_prepared()
            if not self._judges:
                return
            if why := self._archive.save(self.path, names, self.hold):
                self._log(f"prepare: it runs again for the next check: {why}")
            with self._folder.tamed():
                self._folder.move(self._since)
            self._private = None  # it was made for the tree of `prepare`

    def _note_prepared(self) -> list[str]:
        """Note the files that `prepare` left, and return them: git ignores some, the others from now on."""
        if self._judges:  # no entry of the index hides a change
            remove_tree(self._folder.git_dir / "index")
        at = (self._start.first(),) if self._judges else ()
        self._folder.git("reset", "--hard", "--quiet", *at)
        left = self._folder.git("ls-files", "--others", "--exclude-standard", "--directory", "-z").split("\0")
        listing = ("status", "--porcelain", "-z", "--untracked-files=all", "--ignored=matching")
        entries = self._folder.git(*listing, "--ignore-submodules=all").split("\0")
        with describe_os_error(self._records):
            ignored = [entry[3:] for entry in entries if entry.startswith("!! ")]
            self._prepared.mark(left, ignored)
        return [*filter(None, left), *ignored]

    @property
    def environment(self) -> dict[str, str]:
        """Return variables for the todo's own processes."""
        return self._prepared.environment

    @property
    def bounds(self) -> dict[str, str]:
        """Return variables that keep git from a repository above if the todo removes `.git`. The todo may
        override them.
        """
        return bounds(self.path)

    @property
    def binds(self) -> Binds:
        """Return what a sandbox shows of the workspace. Makes the git directory of its todo."""
        if self._private is None:
            self._private = PrivateGit(
                folder=self._records / "private",
                path=self.path,
                git_dir=self._folder.git_dir,
                checkout=self._checkout,
                branch=self._folder.branch,
                hold=lambda: self.hold,
            )
            with describe_os_error(self._records):
                self._private.make(self._folder.head or self._since)
        shown = (self._scripts, self._prepared.exclude)
        return self._private.binds + Binds(readable=tuple(path for path in shown if path.exists()))

    def git(self, *args: str) -> str:
        """Run git in the worktree. Raises GitInterrupted if the worktree is damaged."""
        with describe_os_error(self.path), self._folder.tamed():
            return self._folder.git(*args)

    def apply(self, changes: Path) -> str:
        """Apply a patch to files and index; return the new tree. Raises GitRefused after some changes."""
        git_dir = self._folder.git_dir
        settings = (*self._folder.settings, *self._folder.drivers_off(git_dir), *DURABLE)
        options = ("--index", "--binary", "--whitespace=nowarn", "--no-ignore-whitespace")
        git(
            "apply", *options, str(changes), cwd=self.path, git_dir=git_dir, settings=settings, hold=self.hold
        )
        return git("write-tree", cwd=self.path, git_dir=git_dir, settings=settings, hold=self.hold)

    def reset(self) -> None:
        """Clean everything at the commit with which the attempt began."""
        self._workspace_lock.check()
        with describe_os_error(self.path):
            self._folder.check_out(self._since)
        self._tip = self._since

    def discard_changes(self) -> bool:
        with describe_os_error(self.path), self._folder.tamed():
            if self._judges:
                self._workspace_lock.check()
                return self.changed or not self._folder.is_at(self._since)
            if self._folder.is_at(self._since) and not self.changed:
                self._workspace_lock.check()
                return False
            self.reset()
            return True

    def provide_worktree(self) -> None:
        """Make the worktree of a run that adds to a change set: if its first todo judges, it has none."""
        if self._start.copy is None or self._main.path.exists():
            return
        try:
            with describe_os_error(self._main.path):
                self._main.check_out(self._since)
        except CoordinationError as error:
            self._log(f"no worktree to correct the work in: {error}")

    def make_room(self) -> None:
        """Remove the attempt's untracked files, which may have filled the disk; they are made again. Writes
        nothing.
        """
        with suppress(CoordinationError, OSError), self._folder.tamed():
            self._folder.git("clean", "-ffdq")

    def commit(self, todo: str, task: str, source: str = "", agent: str = "") -> str:
        """Commit the todo's changes; return the branch's tip. `source` and `agent`: see `message`. Raises
        Superseded, GitRefused.
        """
        style = replace(self._style, read_only=self._style.read_only or self._judges)
        done = self._commit(todo, task, style, source, agent)
        self._tip, self._ignored, self._left_out = done.tip, done.ignored, done.left_out
        return self._tip

    def _commit(
        self, todo: str, task: str, style: CommitStyle, source: str = "", agent: str = ""
    ) -> Committed:
        assert self._lock_request is not None, "enter first"
        self._workspace_lock.check()
        with describe_os_error(self.path), self._folder.tamed() as tamed:
            refuse_damaged(self.path, self._folder.git_dir)
            shared, self._shared = self._shared, None
            if shared:
                shared.refuse_changes(TODO, CORRECT_TODO, USABLE)
            self._folder.remove_stale_locks()
            style = replace(style, base=self._start.base)
            text = message(style, self._run, todo, task, self._lock_request.fence, source, agent)
            try:
                return commit(self._as_left(style, tamed), text)
            except GitRefused:
                self._workspace_lock.check()  # the reason may be a newer attempt that moved the branch
                raise

    def _as_left(self, style: CommitStyle, tamed: Tamed | None) -> WorktreeState:
        """Return the worktree as the todo left it."""
        return WorktreeState(
            path=self.path,
            git_dir=self._folder.git_dir,
            branch=self._folder.branch,
            since=self._since,
            settings=self._folder.settings,
            hold=self.hold,
            patience=self._folder.patience,
            style=style,
            git_commit=self._git_commit,
            scripts=self._scripts,
            log=self._log,
            confined=self._prepared.sandboxed,
            private=self._private,
            tamed=tamed,
            bases=lambda: [
                base_tip(self._checkout, self._repo.branch, remote=remote) for remote in (False, True)
            ],
        )

    def changed_paths(self) -> list[str]:
        """Return the paths that differ from the commit at which the attempt began, in commits of the todo or
        not. Raises GitInterrupted.
        """
        with describe_os_error(self.path), self._folder.tamed() as tamed:
            refuse_damaged(self.path, self._folder.git_dir)
            return changed_paths(self._as_left(self._style, tamed))

    def committed_paths(self, tip: str) -> list[str]:
        """Return the paths that any commit from the beginning of the attempt to `tip` changes."""
        options = ("--format=", "--name-only", "--no-renames", "-m", "-z", "--full-history")
        all_links = "--ignore-submodules=dirty"  # a setting of the repository could hide moved submodules
        with self._folder.tamed():
            answer = self._folder.git("log", *options, all_links, tip, f"^{self._since}", "--")
        return sorted({path for path in answer.split("\0") if path})

    def undo(self, paths: Sequence[str]) -> None:
        """Set paths back to the commit at which the attempt began; files that it lacks are removed."""
        with describe_os_error(self.path), self._folder.tamed():
            at_start = set(self._folder.git("ls-tree", "-r", "--name-only", "-z", self._since).split("\0"))
            known = [path for path in paths if path in at_start]
            for path in (path for path in paths if path not in at_start):
                if path.endswith("/"):  # a repository of its own
                    remove_tree(self.path / path.rstrip("/"))
                else:
                    remove_below(self.path, path)
            if known:
                literal = (f":(literal){path}" for path in known)
                self._folder.git("restore", "--source", self._since, "--worktree", "--", *literal)

    def keep(self, todo: str, task: str) -> str:
        """Keep the changes of an attempt that pauses, as a commit that only a reference below refs/coord/kept
        names; return it. The branch stays. Raises GitRefused, Superseded.
        """
        tip = self._commit(todo, task, replace(self._style, hooks=False)).tip
        git("update-ref", kept_ref(self._run, todo), tip, cwd=self._checkout, settings=DURABLE)
        return tip

    def restore(self, commit: str) -> bool:
        """Bring kept changes back into the files; return whether they are there, and begin here."""
        with describe_os_error(self.path), self._folder.tamed():
            if not contains(self._checkout, self._since, commit):
                try:  # another todo has moved the tip
                    merge = ("merge-tree", "--write-tree", "--no-messages", self._since, commit)
                    commit = self._folder.git(*merge)
                except GitRefused as refused:
                    self._log(f"the kept work does not fit {self._since[:12]}: {refused.message}")
                    return False
            # in the index, too: it holds ignored files that the agent has added
            options = ("--staged", "--worktree", "--no-overlay")
            self._folder.git("restore", "--source", commit, *options, "--", ":/")
        return True

    def forget_kept(self, todo: str) -> None:
        with suppress(CoordinationError):
            git("update-ref", "-d", kept_ref(self._run, todo), cwd=self._checkout, settings=DURABLE)

    def not_committed(self) -> tuple[NotCommitted, ...]:
        """Return the todo's files that its commit does not contain, and note those for which the worktree
        stays. Call it after `commit`.
        """
        found, git_dir = list[NotCommitted](), self._folder.git_dir
        if (self.path / ".gitmodules").is_file():
            if not self._prepared.sandboxed:
                found += self._submodules.changes(self.path, git_dir)
            found += self._submodules.unpublished(self.path, git_dir, self._checkout, self._since)
        with describe_os_error(self._records):
            self._prepared.keep((*found, *self._left_out))
            prepared = self._prepared.ignored
        if ignored := [path for path in self._ignored if path not in prepared]:
            found.append(not_committed(NotCommittedReason.IGNORED, ignored))
        return (*found, *self._left_out)

    @property
    def kept(self) -> tuple[NotCommitted, ...]:
        """Return the work in submodules for which the worktree stays after a run that succeeded."""
        return self._main.prepared.kept

    def leave(self) -> None:
        """Leave; no process of the attempt may be alive. Harmless when not inside."""
        if self._lock_request is not None:
            self._put_settings_back()
            if self._private is not None:
                with suppress(OSError):  # the next attempt removes the rest
                    self._private.remove()
                self._private = None
            self._lock_request = None
            self._workspace_lock.leave(began=self._since, stood=self._last_commit())

    def _put_settings_back(self) -> None:
        """Put settings back that the todo has changed without a commit: it failed, or made no result."""
        shared, self._shared = self._shared, None
        try:
            if shared and (changed := shared.put_back(TODO, USABLE)):
                self._log(changed)
        except (CoordinationError, OSError) as error:
            logger.warning("%s: settings of the attempt may have stayed: %s", self.branch, error)

    def _last_commit(self) -> str:
        """Return the branch's commit without commits that did not count; empty if it is unknown."""
        if self._judges:  # the branch stays where the last todo has left it
            return commit_at(self._checkout, f"refs/heads/{self.branch}") or self._since
        try:
            if self._tip == self._since and not self._folder.is_at(self._since):
                self._workspace_lock.check()
                with self._folder.tamed():
                    self._folder.reset_branch(self._since)
        except (CoordinationError, OSError) as error:
            logger.warning("%s: commits of the attempt may still be on it: %s", self.branch, error)
            return ""
        return self._tip

    def remove(self, patience: timedelta) -> None:
        """Remove the worktree of a run that has ended; its branch stays."""
        with self._workspace_lock.emptied(patience), describe_os_error(self.path):
            self._main.remove()
            forget_kept(self._checkout, self._run)
            if (check := self._folder_for(judges=True)).path.exists():
                check.remove()
        self._remove_if_empty()

    @contextmanager
    def alone(self, patience: timedelta) -> Iterator[Hold]:
        """Keep the worktree free (it may be gone); yields the flock, for git. Raises WorkspaceBusy."""
        with self._workspace_lock.alone(patience) as hold:
            yield hold
        self._remove_if_empty()

    def _remove_if_empty(self) -> None:
        checks = self._state / "checks" / self._run
        for folder in (self._main.path.parent, checks, self._records.parent):
            with suppress(OSError):  # not empty: other repositories of the run are still there
                folder.rmdir()

    def move_change_set(self, commit: str, before: str | None) -> str:
        """Move the branch of the change set to the attempt's commit, before it leaves; return why the branch
        stays, else empty. Raises Superseded.
        """
        copy = self._start.copy
        if copy is None or commit == self._start.base:
            return ""
        self._workspace_lock.check()
        return copy.move(commit, before)

    def figures(self, commit: str) -> str:
        """Return the figures of the change set at a commit, as the settle records them."""
        base, copy = self._start.base, self._start.copy
        if not base or copy is None:
            return ""
        record = self._records / "commits"
        return measure(self._checkout, copy.common_dir, base, self._since, commit, record, copy.sessions)


def forget_kept(checkout: Path, run: str) -> None:
    """Remove the references that keep unfinished work of a run."""
    names = ask("for-each-ref", "--format=delete %(refname)", f"{KEPT}{run}/", cwd=checkout).stdout
    if names:
        with suppress(CoordinationError):
            git("update-ref", "--stdin", cwd=checkout, stdin=names, settings=DURABLE)
