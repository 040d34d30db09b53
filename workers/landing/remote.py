"""The base branch at the remote: look at it, push a commit to it, try the right to push."""

from __future__ import annotations

from workers.landing.records import BaseBranch, BaseTip, Pushed, Refused


def look(at: BaseBranch) -> BaseTip | Refused:
    """Return the base tip at the remote, with its commit fetched into `refs/coord/remote/<branch>`.

    Raises GitInterrupted for passing trouble of this machine (a full disk, a killed git).
    """
    raise NotImplementedError


def push(at: BaseBranch, commit: str, base: str) -> Pushed | Refused:
    """Push a commit that contains `base` to the base branch, which must be at `base`; never forced.

    A base branch that contains the commit by now is success, whoever moved it. After any refusal the remote
    is looked at again, so that a push whose answer was lost counts.
    """
    raise NotImplementedError


def may_push(at: BaseBranch) -> Refused | None:
    """Try the right to push, by a push that changes nothing; None if nothing speaks against it."""
    raise NotImplementedError
