"""Push the branch of a change set to its forge, never over a commit of somebody else.

The remote branch moves only from a commit that the change set contains, or from the one that this checkout
pushed last (`refs/coord/pushed/<branch>`), and only while it is there (`--force-with-lease`). No hook of the
repository runs, and no remote helper that is a command.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from coordination.credentials.masking import Masker
from coordination.environment import UNATTENDED, without_ours
from coordination.errors import Conflict, GitRefused, Unreachable
from coordination.git import ask_git, commit_of, contains, has_commit, is_commit
from coordination.terminal import spelled
from coordination.text import shortened

PATIENCE_S = 300.0
WORDS_SHOWN = 500
SETTINGS = (
    "protocol.allow=never",
    *(f"protocol.{name}.allow=always" for name in ("file", "git", "http", "https", "ssh")),
    "core.useReplaceRefs=false",
    "core.hooksPath=/dev/null",
)
KEPT = ("GIT_SSH", "GIT_SSH_COMMAND", "GIT_ASKPASS", "GIT_ALLOW_PROTOCOL")
"""Variables of the user by which git reaches remotes."""
PUSH = ("--porcelain", "--no-verify", "--no-signed", "--no-follow-tags", "--recurse-submodules=no")


@dataclass(frozen=True, kw_only=True)
class PushTarget:
    repo: str
    checkout: Path
    url: str
    branch: str
    variables: Mapping[str, str] = field(default_factory=dict)
    """For git's access to the url."""
    secret: str = ""
    """The secret that they give, to be masked."""
    adopted: bool = False
    """The branch was begun by somebody else: a push to it only adds commits."""

    @property
    def ref(self) -> str:
        return f"refs/heads/{self.branch}"

    @property
    def pushed_ref(self) -> str:
        return f"refs/coord/pushed/{self.branch.removeprefix('coord/')}"


def push_branch(target: PushTarget, tip: str) -> bool:
    """Bring the branch at the remote to `tip`; return False where it is there already.

    Raises Conflict where the remote branch has a commit of somebody else; GitRefused; Unreachable.
    """
    there = remote_tip(target)
    if there == tip:
        _note(target, tip)
        return False
    refuse_foreign(target, there, tip)
    lease = f"--force-with-lease={target.ref}:{there}"
    _git(target, "push", *PUSH, lease, "--", target.url, f"+{tip}:{target.ref}")
    _note(target, tip)
    return True


def remote_tip(target: PushTarget) -> str:
    """Return the commit of the branch at the remote; empty if it is not there."""
    lines = _git(target, "ls-remote", "--", target.url, target.ref).splitlines()
    found = next((line.split("\t")[0] for line in lines if line.endswith(f"\t{target.ref}")), "")
    if found and not is_commit(found):
        raise GitRefused(f"{target.repo}: the remote names no commit for {target.branch}", "see its address")
    return found


def fetch_branches(target: PushTarget, refs: Mapping[str, str]) -> None:
    """Fetch branches of the remote. `refs`: branch → ref of the checkout. Raises GitRefused, Unreachable."""
    specs = [f"+refs/heads/{branch}:{ref}" for branch, ref in refs.items()]
    _git(target, "fetch", "--quiet", "--no-tags", "--no-recurse-submodules", "--", target.url, *specs)


def refuse_foreign(target: PushTarget, there: str, tip: str) -> None:
    """Raise Conflict where a push to `tip` would drop a commit of somebody else."""
    if not there or (not target.adopted and there == commit_of(target.checkout, target.pushed_ref)):
        return
    if has_commit(target.checkout, there) and contains(target.checkout, there, tip):
        return
    raise Conflict(
        f"{target.branch} of {target.repo} is at {there[:12]} at the forge, which coord did not push: "
        "somebody has committed there",
        f"fetch it and take it over: git fetch <url> {target.branch}:{target.branch}-theirs; "
        f"coord adopt PLAN {target.repo} {target.branch}-theirs",
    )


def _note(target: PushTarget, tip: str) -> None:
    ask_git(target.checkout, "update-ref", target.pushed_ref, tip)


def _git(target: PushTarget, *words: str) -> str:
    outside = {k: v for k, v in without_ours(os.environ).items() if not k.startswith("GIT_") or k in KEPT}
    settings = [word for setting in SETTINGS for word in ("-c", setting)]
    try:
        done = subprocess.run(
            ["git", *settings, "-C", str(target.checkout), *words],
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            env={**outside, **UNATTENDED, **target.variables, "LC_ALL": "C"},
            check=False,
            stdin=subprocess.DEVNULL,
            timeout=PATIENCE_S,
        )
    except FileNotFoundError as error:
        raise GitRefused("the git command was not found", "install git and try again") from error
    except subprocess.TimeoutExpired as error:
        raise Unreachable(
            f"the remote of {target.repo} did not answer within {PATIENCE_S:g} s", "try again"
        ) from error
    if done.returncode == 0:
        return done.stdout
    output = Masker([target.secret] if target.secret else []).text(f"{done.stderr}\n{done.stdout}".strip())
    raise GitRefused(
        f"git {words[0]} of {target.branch} in {target.repo}: {shortened(spelled(output), WORDS_SHOWN)}",
        "fix the cause that git names, then try again; a credential for git has --purpose write",
    )
