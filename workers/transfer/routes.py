"""The two routes by which a run's commits reach other hosts: bundles in Redis, and branches of the remote.

**Bundles**: one hash for each run and repository.

    <commit>              a git bundle: the commit's whole history, or its difference from
    <commit> since        this commit
    <commit> elsewhere    `remote BRANCH URL`: where the commit is; or a sentence: why it is not carried
    published             the commits that were pushed, for a rollback that deletes them there

A field is named after the commit that it leads to, so a late or repeated write writes the same value: no
fence is needed.

**Publishing** on a branch is fenced: an attempt that has lost its todo changes nothing there. A remote knows
no fences. But each commit of coord has one as a trailer, and with `--force-with-lease` git moves a branch
only from the commit that was seen there. So `Publication` reads the tip of the branch, compares it with its
own commit, and pushes only over this tip. The remote refuses an attempt that was frozen in between; it reads
the tip again, and finds the newer fence.

    commit on the branch                                        effect
    none, or one that our commit contains                       becomes our commit
    this run's commit, its fence newer than ours                stays: Superseded
    this run's commit, not newer: pushed, and it did not count  becomes our commit
    anything else                                               stays: our commit goes to a second branch
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import Any

from redis import Redis
from redis.exceptions import NoPermissionError

from coordination.backend.keys import Keys
from coordination.errors import CoordinationError, GitRefused
from coordination.trailers import FENCES, fence_of
from workers.workspace.git import Hold, ask, git
from workers.workspace.lock import Superseded
from workers.workspace.repository import has_commit

KEPT = timedelta(days=1)
"""How long the bundles of an ended run stay: a host that lost the run's branches can still get them."""
LONGEST_SENTENCE = 500
LONGEST_FIELD = 4096
"""The most bytes of a text about a bundle that are read: other workers may write it."""
LONGEST_LIST = 4 * 1024 * 1024
"""The most bytes of the list of commits that were pushed."""
LARGEST_BUNDLE = 256 * 1024 * 1024
"""The most that `bundle_limit_bytes` can be, on any host."""
PUBLISHED = "published"
_REMOTE = "remote "
ADDRESSES = (
    "protocol.allow=never",
    *(f"protocol.{name}.allow=always" for name in ("file", "git", "http", "https", "ssh")),
)
"""git's settings for addresses to fetch from or push to.

`ext::` and other remote helpers run a command; a user who needs one allows it by name in git's configuration,
or by GIT_ALLOW_PROTOCOL.
"""
FETCH = (
    "--quiet",
    "--no-tags",
    "--no-write-fetch-head",
    "--no-auto-maintenance",
    "--recurse-submodules=no",
)
LOOKS = 5
"""The most looks at a branch that keeps moving."""
PUSH = ("--porcelain", "--no-verify", "--no-signed", "--no-follow-tags", "--recurse-submodules=no")


class NotCarried(CoordinationError):
    """A commit cannot be brought to this host."""


@dataclass(frozen=True)
class Remote:
    branch: str
    url: str


@dataclass(frozen=True, kw_only=True)
class BundleInfo:
    """The record of one commit's bundle."""

    bundled: bool
    since: str | None
    """The commit that a bundle adds to; None if it is complete."""
    remote: Remote | None
    why: str
    """The reason why there is neither a bundle nor a remote; may be empty."""


class BundleStore:
    """The bundles of all runs. Each method raises redis.RedisError, and NotCarried if the worker's user has
    no right to it.
    """

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis = redis
        self._keys = keys

    def put(self, run: str, repo: str, commit: str, bundle: bytes, since: str | None) -> None:
        fields: dict[str, bytes | str] = {commit: bundle}
        if since is not None:
            fields[f"{commit} since"] = since
        with self._one_use():
            self._redis.hset(self._keys.run(run).bundle(repo), mapping=fields)

    def refer(self, run: str, repo: str, commit: str, remote: Remote) -> None:
        self._note(run, repo, commit, f"{_REMOTE}{remote.branch} {remote.url}")
        key = self._keys.run(run).bundle(repo)
        with self._one_use():  # only one attempt works on the repository for the run
            known = (self._redis.hget(key, PUBLISHED) or "").split()
            self._redis.hset(key, PUBLISHED, " ".join(dict.fromkeys([*known, commit])))

    def explain(self, run: str, repo: str, commit: str, why: str) -> None:
        self._note(run, repo, commit, why)

    def _note(self, run: str, repo: str, commit: str, elsewhere: str) -> None:
        with self._one_use():
            self._redis.hset(self._keys.run(run).bundle(repo), f"{commit} elsewhere", elsewhere)

    def expire(self, run: str, repos: Iterable[str]) -> None:
        with self._one_use(), self._redis.pipeline(transaction=False) as pipeline:
            for repo in repos:
                pipeline.expire(self._keys.run(run).bundle(repo), KEPT)
            pipeline.execute()

    def label(self, run: str, repo: str, commit: str) -> BundleInfo:
        bundled, *_ = self._sizes(run, repo, [commit])
        since, elsewhere = self._texts(run, repo, [f"{commit} since", f"{commit} elsewhere"])
        return BundleInfo(
            bundled=bundled > 0, since=since, remote=_remote(elsewhere), why=sentence(elsewhere or "")
        )

    def _texts(
        self, run: str, repo: str, fields: Sequence[str], most: int = LONGEST_FIELD
    ) -> list[str | None]:
        """Return the texts of these fields. Raises NotCarried where one is longer than what coord writes."""
        for name, size in zip(fields, self._sizes(run, repo, fields), strict=True):
            if size > most:
                raise NotCarried(f"{repo}: the record of {name} has {size} bytes, more than {most}")
        with self._one_use():
            texts: list[str | None] = self._redis.hmget(self._keys.run(run).bundle(repo), fields)
        return texts

    def _sizes(self, run: str, repo: str, fields: Iterable[str]) -> list[int]:
        key = self._keys.run(run).bundle(repo)
        with self._one_use(), self._redis.pipeline(transaction=False) as pipeline:
            for field in fields:
                pipeline.hstrlen(key, field)
            sizes: list[int] = pipeline.execute()
        return sizes

    def published(self, run: str, repo: str) -> dict[str, Remote]:
        """Return commit → the branch that it was pushed to."""
        (listed,) = self._texts(run, repo, [PUBLISHED], LONGEST_LIST)
        commits = (listed or "").split()
        answers = self._texts(run, repo, [f"{commit} elsewhere" for commit in commits]) if commits else []
        remotes = {commit: _remote(answer) for commit, answer in zip(commits, answers, strict=True)}
        return {commit: remote for commit, remote in remotes.items() if remote is not None}

    def bundle(self, run: str, repo: str, commit: str) -> bytes:
        """Return a bundle; empty if there is none.

        Raises NotCarried if it is larger than any that coord sends.
        """
        (size,) = self._sizes(run, repo, [commit])
        if size > LARGEST_BUNDLE:
            raise NotCarried(
                f"{repo}: the bundle of {commit[:12]} has {size} bytes, more than {LARGEST_BUNDLE}"
            )
        # Our clients decode answers; a bundle's bytes are no text.
        key = self._keys.run(run).bundle(repo)
        with self._one_use():
            found: bytes | None = self._redis.execute_command("HGET", key, commit, NEVER_DECODE=True)
        return found or b""

    @contextmanager
    def _one_use(self) -> Iterator[None]:
        """Use a connection once. Raises NotCarried if Redis refuses this worker.

        A broken idle connection is noticed only when it is used. With the long timeouts of this client, a
        settle could wait a minute for that.
        """
        try:
            yield
        except NoPermissionError as error:
            raise NotCarried(f"Redis refuses: {error}", "renew the users' rules: coord acl") from error
        finally:
            self._redis.connection_pool.disconnect(inuse_connections=False)


def _remote(elsewhere: str | None) -> Remote | None:
    if elsewhere is None or not elsewhere.startswith(_REMOTE):
        return None
    branch, _, url = elsewhere.removeprefix(_REMOTE).partition(" ")
    return Remote(branch, url)


def sentence(text: str) -> str:
    """Return a text as one line of limited length, in characters that Redis and a log can take."""
    line = " ".join(text.split()).encode(errors="replace").decode()
    return line if len(line) <= LONGEST_SENTENCE else line[:LONGEST_SENTENCE] + " …"


def hidden(url: str) -> str:
    """Return a URL without its login, which may be a token."""
    return re.sub(r"//[^/@]*@", "//***@", url)


class TipRelation(StrEnum):
    """The relation of the branch's tip to our commit."""

    CONTAINED = "contained"
    OLDER = "older"
    FOREIGN = "foreign"


@dataclass(frozen=True, kw_only=True)
class Publication:
    run_id: str
    branch: str
    """The branch of the run."""
    checkout: Path
    url: str
    commit: str
    fence: int
    variables: Mapping[str, str] = field(default_factory=dict)
    """Environment variables that give git access to the remote."""

    def publish(self) -> Remote:
        """Push the commit; return its branch. Raises Superseded, or NotCarried with the remote's message."""
        for name in (self.branch, f"{self.branch}-{self.commit[:12]}"):
            if self._push_to(name):
                return Remote(name, self.url)
        raise self._refused(f"{self.branch} has other commits")

    def withdraw(self, name: str, published: Collection[str]) -> None:
        """Delete the run's branch. `published`: commits that the run has pushed.

        Raises GitRefused if a person has built on it, and NotCarried with the remote's message.
        """
        seen = self._fetch_tip(name)
        for _ in range(LOOKS):
            if not seen:
                return
            if seen not in published and self._relation_of(name, seen) is TipRelation.FOREIGN:
                raise GitRefused(
                    f"branch {name} of {hidden(self.url)} stays: it has commits that no run has made",
                    "keep them under another name there and delete that branch, then: "
                    f"coord rollback {self.run_id}",
                )
            message = self._push(name, seen, "")
            if not message:
                return
            was, seen = seen, self._fetch_tip(name)
            if seen == was:
                raise NotCarried(
                    f"branch {name} of {hidden(self.url)} cannot be deleted: {self._without_login(message)}"
                )
        raise NotCarried(f"branch {name} of {hidden(self.url)} cannot be deleted: it keeps changing")

    def _push_to(self, name: str) -> bool:
        """Push to this branch; return whether it has the commit now. False: it keeps other commits."""
        seen = self._fetch_tip(name)
        for _ in range(LOOKS):
            relation = self._relation_of(name, seen)
            if relation is TipRelation.FOREIGN:
                return False
            message = self._push(name, seen, self.commit)
            if not message:
                return True
            was, seen = seen, self._fetch_tip(name)
            if seen == was and relation is TipRelation.OLDER:
                return False  # the remote does not allow to replace a commit
            if seen == was:
                raise self._refused(message)
        raise self._refused(f"{name} keeps changing")

    def _fetch_tip(self, name: str) -> str:
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

    def _relation_of(self, name: str, seen: str) -> TipRelation:
        beyond = list(self._beyond(seen)) if seen else []
        newest = max((fence for fence in beyond if fence is not None), default=0)
        if newest > self.fence:
            message = f"attempt {newest} has published on {name}, and this is the older attempt {self.fence}"
            raise Superseded(message, "nothing to do: the newer attempt counts")
        if not beyond:
            return TipRelation.CONTAINED
        return TipRelation.FOREIGN if beyond[0] is None else TipRelation.OLDER

    def _beyond(self, seen: str) -> Iterator[int | None]:
        """Yield the fence of each commit that ours does not contain, newest first; None for a commit of
        another run.
        """
        listing = git("log", *FENCES.options, "--topo-order", f"{self.commit}..{seen}", cwd=self.checkout)
        for row in FENCES.rows(listing):
            yield fence_of(row) if row["Run"] == self.run_id else None

    def _push(self, name: str, seen: str, commit: str) -> str:
        """Replace the seen commit on the branch by `commit` (empty: delete the branch); return git's message
        if it refuses, else empty.
        """
        ref = f"refs/heads/{name}"
        lease = f"--force-with-lease={ref}:{seen}"
        pushed = ask("push", *PUSH, lease, "--", self.url, f"{commit}:{ref}", **self._at_remote)
        return (pushed.stderr or pushed.stdout or "git push failed") if pushed.returncode else ""

    def _refused(self, message: str) -> NotCarried:
        return NotCarried(f"it cannot be pushed to {hidden(self.url)}: {self._without_login(message)}")

    def _without_login(self, message: str) -> str:
        return message.strip().replace(self.url, hidden(self.url))


def fetch_branch(
    remote: Remote,
    into: Path,
    hold: Hold | None = None,
    variables: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Fetch the commits of a branch; no local branch moves. `variables`: environment variables that give git
    access. Raises GitRefused.
    """
    ref = f"refs/heads/{remote.branch}"
    if ask("check-ref-format", ref, cwd=into).returncode:
        raise GitRefused(f"{sentence(remote.branch)!r} cannot be a branch's name")
    git(
        "fetch",
        *FETCH,
        "--",
        remote.url,
        ref,
        cwd=into,
        settings=ADDRESSES,
        hold=hold,
        variables=variables,
    )
