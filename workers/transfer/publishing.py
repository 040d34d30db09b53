"""Publish a run's commit on the branch of its remote, fenced.

An attempt that has lost its todo changes nothing there.

A remote knows no fences. But each commit of ours carries one as a trailer, and with `--force-with-lease` git
moves a branch only from the commit that was seen there. So: look, judge, push from what was seen. An attempt
that was frozen in between is refused by the remote, looks again, and finds the newer fence.

    commit on the branch                                        effect
    none, or one that our commit contains                       becomes our commit
    this run's commit, its fence newer than ours                stays: Superseded
    this run's commit, not newer: pushed, and it did not count  becomes our commit
    anything else                                               stays: our commit goes to a second name
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from coordination.errors import GitRefused
from workers.transfer.bundles import NotCarried, Remote, hidden
from workers.transfer.fetcher import ADDRESSES, fetch_branch
from workers.workspace.git import ask, git
from workers.workspace.lock import Superseded
from workers.workspace.repository import branch_of, has_commit

LOOKS = 5
"""The most looks at a branch that moves all the time."""
PUSH = ("--porcelain", "--no-verify", "--no-signed", "--no-follow-tags", "--recurse-submodules=no")
TRAILERS = "%x09".join(
    f"%(trailers:key={key},valueonly,separator=%x20)" for key in ("Coord-Run", "Coord-Fence")
)
_FENCE = re.compile(r"[0-9]{1,19}")


class TipRelation(StrEnum):
    """The relation of the branch's tip to our commit."""

    CONTAINED = "contained"
    OLDER = "older"
    FOREIGN = "foreign"


@dataclass(frozen=True, kw_only=True)
class Publication:
    run_id: str
    checkout: Path
    url: str
    commit: str
    fence: int
    variables: Mapping[str, str] = field(default_factory=dict)
    """Environment variables that give git access to the remote."""

    def publish(self) -> Remote:
        """Push the commit; return its branch. Raises Superseded, or NotCarried with the remote's words."""
        first = branch_of(self.run_id)
        for name in (first, f"{first}-{self.commit[:12]}"):
            if self._placed(name):
                return Remote(name, self.url)
        raise self._refused(f"{first} has other commits")

    def withdraw(self, name: str, published: Collection[str]) -> None:
        """Delete the run's branch.

        Raises GitRefused if a person has gone on from it, and NotCarried with the remote's words.
        """
        seen = self._look(name)
        for _ in range(LOOKS):
            if not seen:
                return
            if seen not in published and self._judge(name, seen) is TipRelation.FOREIGN:
                raise GitRefused(
                    f"branch {name} of {hidden(self.url)} stays: it has commits that no run has made",
                    "keep them under another name there and delete that branch, then: "
                    f"coord rollback {self.run_id}",
                )
            words = self._push(name, seen, "")
            if not words:
                return
            was, seen = seen, self._look(name)
            if seen == was:
                raise NotCarried(
                    f"branch {name} of {hidden(self.url)} cannot be deleted: {self._plain(words)}"
                )
        raise NotCarried(f"branch {name} of {hidden(self.url)} cannot be deleted: it keeps changing")

    def _placed(self, name: str) -> bool:
        """Push to this branch; return whether the commit is on it now.

        False if the present commit there stays.
        """
        seen = self._look(name)
        for _ in range(LOOKS):
            standing = self._judge(name, seen)
            if standing is TipRelation.FOREIGN:
                return False
            words = self._push(name, seen, self.commit)
            if not words:
                return True
            was, seen = seen, self._look(name)
            if seen == was and standing is TipRelation.OLDER:
                return False  # the remote does not allow to replace a commit
            if seen == was:
                raise self._refused(words)
        raise self._refused(f"{name} keeps changing")

    def _look(self, name: str) -> str:
        """Fetch the branch's tip and return it; empty if there is no such branch."""
        ref = f"refs/heads/{name}"
        for _ in range(LOOKS):
            answer = ask("ls-remote", "--refs", "--", self.url, ref, **self._at_remote)
            if answer.returncode:
                raise self._refused(answer.stderr)
            tips = dict(line.split("\t")[::-1] for line in answer.stdout.splitlines())
            seen: str = tips.get(ref, "")
            if not seen or has_commit(self.checkout, seen):
                return seen
            self._fetch(name)
        raise self._refused(f"{name} keeps changing")

    @property
    def _at_remote(self) -> dict[str, Any]:
        return {"cwd": self.checkout, "settings": ADDRESSES, "variables": self.variables}

    def _fetch(self, name: str) -> None:
        try:
            fetch_branch(Remote(name, self.url), self.checkout, variables=self.variables)
        except GitRefused as refused:
            raise self._refused(refused.message) from refused

    def _judge(self, name: str, seen: str) -> TipRelation:
        beyond = list(self._beyond(seen)) if seen else []
        newest = max((fence for fence in beyond if fence is not None), default=0)
        if newest > self.fence:
            message = f"attempt {newest} has published on {name}, and this is the older attempt {self.fence}"
            raise Superseded(message, "nothing to do: the newer attempt counts")
        if not beyond:
            return TipRelation.CONTAINED
        return TipRelation.FOREIGN if beyond[0] is None else TipRelation.OLDER

    def _beyond(self, seen: str) -> Iterator[int | None]:
        """Yield the fence of each commit that ours does not contain, newest first.

        None stands for one of another run.
        """
        listing = git(
            "log", "--topo-order", f"--format={TRAILERS}", f"{self.commit}..{seen}", cwd=self.checkout
        )
        for line in listing.split("\n") if listing else ():
            run, _, fence = line.partition("\t")
            yield int(fence) if run == self.run_id and _FENCE.fullmatch(fence) else None

    def _push(self, name: str, seen: str, commit: str) -> str:
        """Push from the commit that was seen, to another or to none; return git's words if it refuses."""
        ref = f"refs/heads/{name}"
        lease = f"--force-with-lease={ref}:{seen}"
        pushed = ask("push", *PUSH, lease, "--", self.url, f"{commit}:{ref}", **self._at_remote)
        return (pushed.stderr or pushed.stdout or "git push failed") if pushed.returncode else ""

    def _refused(self, words: str) -> NotCarried:
        return NotCarried(f"it cannot be pushed to {hidden(self.url)}: {self._plain(words)}")

    def _plain(self, words: str) -> str:
        return words.strip().replace(self.url, hidden(self.url))
