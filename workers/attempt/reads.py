"""Check out the repositories that an agent sees besides its own: `reads` of its action.

A repository is seen at the newest commit of a todo before this one; else at the commit at which the change
set had it when the run was submitted; else at its base branch: at its `url`, or without one in the checkout
here. Each is a plain checkout of its own, as for the files of predecessors: no todo works in it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from coordination.credentials.records import Purpose
from coordination.errors import CoordinationError
from coordination.models import Repo
from coordination.runs.attempt_store import Grant
from coordination.runs.records import Origin, ReadRepo, RunBrief
from workers.attempt.context import PathMissing
from workers.credentials import Access
from workers.landing.remote import base_at_remote
from workers.process.trouble import GitInterrupted, WorkspaceUnusable
from workers.transfer.fetcher import CommitFetcher, CommitRef
from workers.transfer.routes import ADDRESSES, hidden, sentence
from workers.workspace.git import ask
from workers.workspace.repository import tip


class ReadRepos:
    def __init__(
        self, fetcher: CommitFetcher, places: Mapping[str, Path], state: Path, access: Access
    ) -> None:
        """`places`: repository → its checkout, as served at this moment. `access`: to remotes."""
        self._fetcher = fetcher
        self._places = places
        self._state = state
        self._access = access

    def of(
        self,
        grant: Grant,
        brief: RunBrief,
        commits: Mapping[str, str],
        check: Callable[[ReadRepo], None],
        log_line: Callable[[str], None],
    ) -> dict[str, Path]:
        """Return repository → where it is checked out. `commits`: the newest ones of the todos before this
        one, by repository; `check` raises for a tip of the change set that is not signed as it must be.

        Raises PathMissing for a commit that is not on this host; GitRefused for a base branch that does not
        exist; WorkspaceUnusable and GitInterrupted for trouble of this host.
        """
        found, apart = dict[str, Path](), ("gates", grant.spec.behind) if grant.spec.behind else ()
        for one in grant.spec.reads:
            newest = commits.get(one.repo, "")
            if one.tip and not newest:
                check(one)
            commit_ref = self._commit(grant.run_id, brief, one, newest, log_line)
            try:
                found[one.repo] = self._fetcher.folder(commit_ref, apart)
            except (GitInterrupted, WorkspaceUnusable):
                raise
            except CoordinationError as missing:
                why = f"{commit_ref.commit[:12]} of {one.repo}, which it reads: {sentence(missing.message)}"
                raise PathMissing(why, missing.hint or _serve(one.repo)) from missing
            log_line(f"reads {one.repo} at {commit_ref.commit[:12]}: {found[one.repo]}")
        return found

    def _commit(
        self, run: str, brief: RunBrief, read: ReadRepo, newest: str, log_line: Callable[[str], None]
    ) -> CommitRef:
        """Return the commit at which a repository is seen."""
        ref = partial(CommitRef, run_id=run, repo=read.repo, branch=read.branch, origin=read.origin)
        if newest:
            return ref(commit=newest, runs=brief.lineage.runs)
        if read.tip:
            return ref(commit=read.tip, runs=(*brief.lineage.runs, read.run), bundled_by=read.run)
        place, origin = self._places.get(read.repo), None if brief.lands_locally else read.origin
        if place is None and read.origin is not None:
            return ref(commit=self._at_url(run, read.repo, read.origin), at_origin=True)
        if place is None:
            raise PathMissing(
                f"{read.repo}, which it reads: no worker of this host serves it, and it has no `url`",
                _serve(read.repo),
            )
        if origin is None:
            return ref(commit=tip(read.repo, place, read.branch))
        repo = Repo(name=read.repo, url=origin.url, branch=read.branch)
        base = base_at_remote(repo, place, partial(self._access, run, read.repo, origin.url, Purpose.READ))
        for line in base.lines:
            log_line(f"{read.repo}: {line}")
        return ref(commit=base.commit)

    def _at_url(self, run: str, repo: str, origin: Origin) -> str:
        """Return the commit of a base branch without a checkout here. Raises PathMissing."""
        branch, url = f"refs/heads/{origin.branch}", origin.url
        with self._access(run, repo, url, Purpose.READ) as variables:
            answer = ask(
                "ls-remote", "--refs", "--", url, branch,
                cwd=self._state, settings=ADDRESSES, variables=variables,
            )  # fmt: skip
        tips = dict(line.split("\t")[::-1] for line in answer.stdout.splitlines() if "\t" in line)
        if branch in tips:
            return tips[branch]
        why = sentence(answer.stderr).replace(url, hidden(url)) or f"it has no branch {origin.branch}"
        raise PathMissing(f"{repo}, which it reads, at {hidden(url)}: {why}", _serve(repo))


def _serve(repo: str) -> str:
    return f"clone {repo} on this host, and let its worker serve it: coord worker --repo {repo}=PATH"
