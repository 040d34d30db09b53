"""Store a run's commits for other hosts: one hash for each run and repository.

    <commit>              a git bundle: the commit's whole history, or what it adds to
    <commit> since        this commit
    <commit> elsewhere    `remote BRANCH URL`: the commit is there; or a sentence: why it is not carried
    published             the commits that were pushed, for a rollback that deletes them there

A field's name is the commit that it leads to, so a late or second write writes the same: no fence is needed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

from redis import Redis
from redis.exceptions import NoPermissionError

from coordination.backend.keys import Keys
from coordination.errors import CoordinationError

KEPT = timedelta(days=1)
"""After a run has succeeded: until then, a host that lost the run's branches can still get them."""
LONGEST_SENTENCE = 500
LONGEST_FIELD = 4096
"""The most bytes of a text beside a bundle. Others may write it: more is not read."""
LONGEST_LIST = 4 * 1024 * 1024
"""The most bytes of the list of commits that were pushed."""
LARGEST_BUNDLE = 256 * 1024 * 1024
"""The most that `bundle_limit_bytes` can be, on any host."""
PUBLISHED = "published"
_REMOTE = "remote "


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
    """Why there is neither; may be empty."""


class BundleStore:
    """The bundles of all runs.

    Each method raises Redis' errors, and NotCarried where our user may not do it.
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

    def refer(self, run: str, repo: str, commit: str, there: Remote) -> None:
        self._note(run, repo, commit, f"{_REMOTE}{there.branch} {there.url}")
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
        for field, size in zip(fields, self._sizes(run, repo, fields), strict=True):
            if size > most:
                raise NotCarried(f"{repo}: the record of {field} has {size} bytes, more than {most}")
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
        there = {commit: _remote(words) for commit, words in zip(commits, answers, strict=True)}
        return {commit: remote for commit, remote in there.items() if remote is not None}

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
        """Use a connection once. Raises NotCarried where Redis refuses this worker.

        Whether an idle connection still works shows only when it is used; where megabytes may take a minute,
        a settle would wait that long to find out.
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
    """Hide the login in a URL: it may be a token."""
    return re.sub(r"//[^/@]*@", "//***@", url)
