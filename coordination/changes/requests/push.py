"""Push the branch of a change set to its forge, never over a commit of somebody else.

The remote branch moves only from a commit that the change set contains, or from the one that this checkout
pushed last (`refs/coord/pushed/<branch>`) if the request of the change set names it as its head, or a discard
has kept it. A record that Redis has lost permits no push that takes commits away. The branch moves only while
it is there (`--force-with-lease`). No hook of the repository runs, and no remote helper that is a command.

Workers that land by a push check the same for the base branch: it must have the commit at which the work
began, and the remote must get the files of Git LFS first.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from coordination.bounded import run
from coordination.branches import discarded_ref
from coordination.credentials.masking import Masker
from coordination.environment import UNATTENDED, without_ours
from coordination.errors import Conflict, GitRefused, Unreachable
from coordination.git import (
    NO_GRAFTS,
    TRUE_HISTORY,
    ask_git,
    branch_to_write,
    commit_of,
    contains,
    default_branch,
    has_commit,
    is_commit,
    seen_ref,
)
from coordination.git_programs import NO_HOOKS, program_settings
from coordination.models import OWN_BRANCHES
from coordination.terminal import spelled
from coordination.text import quoted, shortened
from coordination.trailers import TrailerLog

PATIENCE_S = 300.0
WORDS_SHOWN = 500
SETTINGS = (
    "protocol.allow=never",
    *(f"protocol.{name}.allow=always" for name in ("file", "git", "http", "https", "ssh")),
    *NO_HOOKS,
    *TRUE_HISTORY,
)
ADVICE = (
    *("hint:", "error: failed to push some refs", "To ", "Done"),
    *("Please make sure", "and the repository exists"),
)
"""Beginnings of git's lines that say no cause."""
KEPT = ("GIT_SSH", "GIT_SSH_COMMAND", "GIT_ASKPASS", "GIT_ALLOW_PROTOCOL")
"""Variables of the user by which git reaches remotes."""
PUSH = ("--porcelain", "--no-verify", "--no-signed", "--no-follow-tags", "--recurse-submodules=no")
LARGE_FILE = "^version https://git-lfs.github.com/spec/v1"
"""First line of a pointer that stands for a file of Git LFS."""
BASES = TrailerLog(("Base",))
ReadGit = Callable[..., str]
"""Calls git in a repository with these words; returns its output. Raises GitRefused."""


class BranchRefused(GitRefused):
    """The remote takes no such branch, whoever tries it."""


@dataclass(frozen=True, kw_only=True)
class PushTarget:
    repo: str
    checkout: Path
    url: str
    branch: str
    base_branch: str
    plan: str = ""
    """The plan of the change set, and the number of its pull request: for the commands in errors."""
    request: int | None = None
    variables: Mapping[str, str] = field(default_factory=dict)
    """For git's access to the url."""
    secret: str = ""
    """The secret that they give, to be masked."""
    recorded: str = ""
    """The head of the request, as the record of the change set has it; empty without one."""
    adopted: bool = False
    """The branch was begun by somebody else: a push to it only adds commits."""

    @property
    def ref(self) -> str:
        return f"refs/heads/{self.branch}"

    @property
    def folders(self) -> tuple[str, ...]:
        """Return the refs that git stores in the place of folders of the branch: `coord` of `coord/P`."""
        parts = self.branch.split("/")
        return tuple(f"refs/heads/{'/'.join(parts[:number])}" for number in range(1, len(parts)))

    @property
    def pushed_ref(self) -> str:
        return pushed_ref(self.branch)


def pushed_ref(branch: str) -> str:
    """Return the ref of the commit at which this checkout has pushed a branch last."""
    return f"refs/coord/pushed/{branch.removeprefix(OWN_BRANCHES)}"


@dataclass(frozen=True, kw_only=True)
class RemoteTips:
    """The commits of two branches at the remote; empty for a branch that is not there."""

    branch: str
    """The branch of the change set."""
    base: str
    """The base branch. The checkout has this commit."""


def push_branch(target: PushTarget, tip: str) -> bool:
    """Upload the files of Git LFS that the new commits name, and bring the branch at the remote to `tip`.
    Return False if the branch is there already.

    Raises Conflict if the remote branch has a commit of somebody else; GitRefused; Unreachable.
    """
    tips = remote_tips(target)
    if tips.branch == tip:
        _note(target, tip)
        return False
    refuse_foreign(target, tips.branch, tip)
    if names_large_files(partial(_git, target), tip, tips.base):
        words, lines = large_files_upload(target.url, target.ref, tip, tips.base)
        _git(target, *words, stdin=lines)
    lease = f"--force-with-lease={target.ref}:{tips.branch}"
    _git(target, "push", *PUSH, lease, "--", target.url, f"+{tip}:{target.ref}")
    _note(target, tip)
    return True


def delete_branch(target: PushTarget, head: str) -> bool:
    """Delete the branch at the remote if it is at `head`; return whether it was. Raises GitRefused,
    Unreachable.
    """
    if remote_tips(target).branch != head:
        return False
    _git(target, "push", *PUSH, f"--force-with-lease={target.ref}:{head}", "--", target.url, f":{target.ref}")
    return True


def remote_tips(target: PushTarget) -> RemoteTips:
    """Return the commits of the branch and of its base branch at the remote. Fetch the base branch if the
    checkout lacks its commit. Raises GitRefused, Unreachable.
    """
    base_ref = f"refs/heads/{target.base_branch}"
    beside = (*target.folders, f"{target.ref}/*")
    refs = (target.ref, base_ref, "HEAD", *beside)
    listing = _git(target, "ls-remote", "--symref", "--", target.url, *refs)
    commits = {ref: commit for commit, _, ref in (line.partition("\t") for line in listing.splitlines())}
    default = default_branch(listing)
    if default and base_ref not in commits:
        what = f"the remote of {target.repo} has no branch {target.base_branch}"
        line = branch_to_write(target.repo, default)
        raise BranchRefused(f"{what}; its default branch is {default}", line)
    if default == target.branch:
        raise BranchRefused(
            f"{target.branch} is the default branch at the remote of {target.repo}",
            "name another beginning of branches: setting branch_prefix",
        )
    if target.ref not in commits and (taken := _taken(target, commits)):
        raise BranchRefused(
            f"the remote of {target.repo} has a branch {taken}, and git keeps no {target.branch} beside it",
            f"rename or delete {taken} there; or name another beginning of branches: setting branch_prefix",
        )
    tips = RemoteTips(branch=commits.get(target.ref, ""), base=commits.get(base_ref, ""))
    if not all(map(is_commit, filter(None, (tips.branch, tips.base)))):
        raise GitRefused(f"{target.repo}: the remote names no commit for {target.branch}", "check its url")
    if tips.base and not has_commit(target.checkout, tips.base):
        fetch_branches(target, {target.base_branch: seen_ref(target.base_branch)})
    return tips


def _taken(target: PushTarget, there: Iterable[str]) -> str:
    """Return a branch of the remote beside which git can keep no target; empty without one."""
    inside = f"{target.ref}/"
    found = (ref for ref in there if ref in target.folders or ref.startswith(inside))
    return next(found, "").removeprefix("refs/heads/")


def fetch_branches(target: PushTarget, refs: Mapping[str, str]) -> None:
    """Fetch branches of the remote. `refs`: branch → ref of the checkout. Raises GitRefused, Unreachable."""
    specs = [f"+refs/heads/{branch}:{ref}" for branch, ref in refs.items()]
    _git(target, "fetch", "--quiet", "--no-tags", "--no-recurse-submodules", "--", target.url, *specs)


def refuse_foreign(target: PushTarget, there: str, tip: str) -> None:
    """Raise Conflict if a push of `tip` would remove a commit of somebody else from the remote branch."""
    if not there or (not target.adopted and _may_be_rewritten(target, there)):
        return
    if has_commit(target.checkout, there) and contains(target.checkout, there, tip):
        return
    raise Conflict(
        f"{target.branch} of {target.repo} is at {there[:12]} at the forge, which the change set does not "
        "have: somebody else has pushed there, or Redis has lost the record",
        _adopted_by(target),
    )


def _adopted_by(target: PushTarget) -> str:
    """Return the command that takes the commits of the remote branch into the change set."""
    adopt = f"coord plan adopt {quoted(target.plan, target.repo)}"
    if target.request is not None:
        return f"take them into the change set: {adopt} --pr {target.request}"
    theirs = f"{target.branch}-theirs"
    url = re.sub(r"^(https?://)[^/]*@", r"\1", target.url)
    fetch = f"git -C {quoted(target.checkout)} fetch {quoted(url, f'{target.branch}:{theirs}')}"
    return f"fetch and adopt it: {fetch}; {adopt} {quoted(theirs)}"


def _may_be_rewritten(target: PushTarget, there: str) -> bool:
    """Return whether coord has pushed the commit of the remote branch, and knows why it may go."""
    if there != commit_of(target.checkout, target.pushed_ref):
        return False
    kept = discarded_ref(target.branch, there).rpartition("/")[0]
    return there == target.recorded or bool(
        ask_git(target.checkout, "for-each-ref", "--count=1", f"--contains={there}", f"{kept}/")
    )


def refuse_unsent(target: PushTarget, base: str, tip: str, since: str, plan: str) -> None:
    """Raise Conflict if the base branch lacks the commit at which the work `since..tip` began; GitRefused if
    the work names files of Git LFS and this machine has no `git lfs`.
    """
    read = partial(_git, target)
    if why := lacks_start(read, f"{target.base_branch} of {target.repo}", base=base, tip=tip, since=since):
        raise Conflict(why, f"coord sweep {quoted(plan)} --fresh")
    if names_large_files(read, tip, base):
        _git(target, "lfs", "version")


def lacks_start(read: ReadGit, branch: str, *, base: str, tip: str, since: str) -> str:
    """Return why the work `since..tip` must not come to a base branch that lacks a commit at which coord
    began the work; empty if the base branch has them all. `branch`: its name in the text.

    Such a commit was never pushed, because a run could not reach the remote and began at the local branch, or
    people have removed it by rewriting the branch. It would land with the work, and so would all commits
    before it.
    """
    rows = list(BASES.rows(read("log", *BASES.options, *_new(tip, base))))
    new = {row["commit"] for row in rows}
    begun = dict.fromkeys([since, *(base for row in rows for base in row["Base"].split())])
    lacking = next((commit for commit in begun if commit in new), "")
    if not lacking:
        return ""
    return (
        f"{branch} lacks {lacking[:12]}, where the change set began: push it there; or begin anew, if people "
        "have removed it"
    )


def names_large_files(read: ReadGit, tip: str, base: str) -> bool:
    """Return whether commits of `tip` that `base` lacks name files of Git LFS."""
    options = ("--format=", "--raw", "-r", "-c", "--text", "--no-textconv", "--no-renames", f"-G{LARGE_FILE}")
    return bool(read("log", *options, *_new(tip, base)).strip())


def large_files_upload(url: str, ref: str, tip: str, base: str) -> tuple[tuple[str, ...], str]:
    """Return the words and the input of the git command that uploads files of Git LFS, as its `pre-push` hook
    does. Without them nobody could check the commits out.
    """
    address = f"file://{url}" if url.startswith("/") else url
    return ("lfs", "pre-push", address, address), f"{ref} {tip} {ref} {base or '0' * len(tip)}\n"


def _new(tip: str, base: str) -> tuple[str, ...]:
    return (tip, f"^{base}") if base else (tip,)


def _note(target: PushTarget, tip: str) -> None:
    ask_git(target.checkout, "update-ref", target.pushed_ref, tip)


def _git(target: PushTarget, *words: str, stdin: str = "") -> str:
    """Return git's output. Raises GitRefused, Unreachable."""
    outside = {k: v for k, v in without_ours(os.environ).items() if not k.startswith("GIT_") or k in KEPT}
    env = {**outside, **UNATTENDED, **NO_GRAFTS, **target.variables, "LC_ALL": "C"}
    try:
        settings = (*SETTINGS, *program_settings(target.checkout, words, env))
        options = [word for setting in settings for word in ("-c", setting)]
        command = ["git", *options, "-C", str(target.checkout), *words]
        done = run(command, stdin=stdin, timeout_s=PATIENCE_S, env=env)
    except FileNotFoundError as error:
        raise GitRefused("the git command was not found", "install git and try again") from error
    except subprocess.TimeoutExpired as error:
        raise Unreachable(
            f"the remote of {target.repo} did not answer within {PATIENCE_S:g} s", "try again"
        ) from error
    if done.returncode == 0:
        return done.stdout
    output = Masker([target.secret] if target.secret else []).text(_told(done.stderr, done.stdout))
    is_declined = words[0] == "push" and "[remote rejected]" in done.stdout
    raise (BranchRefused if is_declined else GitRefused)(
        f"git {words[0]} of {target.branch} in {target.repo}: {shortened(spelled(output), WORDS_SHOWN)}",
        "fix the cause that git names, then try again; a credential for git has --purpose write",
    )


def _told(errors: str, output: str) -> str:
    """Return what remote and git said: the remote's lines first, and no general advice."""
    lines = [line.rstrip() for line in re.split(r"[\r\n]+", f"{errors}\n{output}") if line.strip()]
    of_remote = [line for line in lines if line.startswith("remote:") and line != "remote:"]
    own = [line for line in lines if not line.startswith(("remote:", *ADVICE))]
    return "\n".join((*of_remote, *own)) or errors.strip()
