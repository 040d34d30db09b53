"""The base branch of a checkout, or bare repository, of this machine: look at it, and land in it."""

from __future__ import annotations

from workers.landing.records import BaseBranch, BaseTip, Pushed, Refused


def look_local(at: BaseBranch) -> BaseTip | Refused:
    """Return the base tip here.

    Refused DIRTY, with files, or OPERATION where `push_local` would be refused for the state of the checkout.
    """
    raise NotImplementedError


def push_local(at: BaseBranch, commit: str, base: str) -> Pushed | Refused:
    """Move the base branch here from `base` to a commit that contains it; never forced.

    A clean checkout of the branch follows; a dirty one is refused by name, and nothing moves. A branch that
    is not checked out (also: detached HEAD, a bare repository) is moved by compare-and-swap. "Already
    contained" is success, and a landing that was killed between files and branch is completed.
    """
    raise NotImplementedError
