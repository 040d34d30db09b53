"""Looks at the remotes of the repositories that a worker serves.

Each host looks at its own remotes, every five minutes, a few at once, each for five seconds at most: a remote
that hangs delays no other by more than its share. The look asks whether the remote can be reached. Only where
it asks for a login, and this host has a credential for git there, is it asked with that credential, too.
"""

from __future__ import annotations

import logging
import os
import random
import subprocess
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import redis

from coordination.background import BackgroundService
from coordination.bounded import TooMuchOutput, communicate, text_of
from coordination.environment import UNATTENDED, without_ours
from coordination.git import branch_to_write, default_branch
from coordination.health.store import HealthStore, RemoteReport
from coordination.health.timetable import LOOK_S, TRIES, TRY_AGAIN_S
from coordination.models import Ecosystem, Repo

REMOTE_EVERY_S = 300.0
"""Seconds between two looks at a remote."""
AT_ONCE = 32
ANSWERS = ("Authentication failed", "could not read Username", "could not read Password", "Permission denied")
"""Messages of git which show that the remote has answered, and asks for a login."""
LOGIN_REFUSED = "the remote refuses the credential of this host: coord credential list"

ADVICE = (
    "fatal: Could not read from remote repository.",
    "Please make sure you have the correct access rights",
    "and the repository exists.",
)
"""Lines of git after each failure of a connection, whatever its cause."""
FAULTS = ("fatal:", "error:", "remote:", "ssh:")

logger = logging.getLogger(__name__)


GitAccess = Callable[[str, str], AbstractContextManager[Mapping[str, str]]]
"""(repository, address) → the variables with which git uses the credential of this host there, in the block;
empty without one.
"""


def without_login(_repo: str, _url: str) -> AbstractContextManager[Mapping[str, str]]:
    """Give git no credential."""
    return nullcontext({})


class RemoteLooks(BackgroundService):
    name = "remotes"
    interval_s = 1.0
    join_s = 0.0

    def __init__(
        self,
        store: HealthStore,
        declared: Callable[[], Ecosystem],
        served: Mapping[str, Path],
        host: str,
        *,
        access: GitAccess = without_login,
        every_s: float = REMOTE_EVERY_S,
    ) -> None:
        super().__init__()
        self._store, self._declared, self._served, self._host = store, declared, served, host
        self._access, self._every_s = access, every_s
        self._due: dict[str, float] = {}
        self._looks: dict[str, Future[None]] = {}
        self._pool: ThreadPoolExecutor | None = None

    def run_once(self) -> int:
        """Start the looks at remotes that are due; return their number."""
        now, repos = time.monotonic(), self._repos()
        urls = {name: _from(self._served[name], repo.url or "") for name, repo in repos.items()}
        self._looks = {repo: look for repo, look in self._looks.items() if not look.done()}
        self._forget(urls)
        for repo in urls:
            self._due.setdefault(repo, now + random.random() * min(10.0, self._every_s))  # noqa: S311
        due = [repo for repo in urls if self._due[repo] <= now and repo not in self._looks]
        if due and self._pool is None:
            self._pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="remote")
        for repo in due:
            self._due[repo] = now + self._every_s * (0.9 + 0.1 * random.random())  # noqa: S311
            assert self._pool is not None
            self._looks[repo] = self._pool.submit(self._look, repos[repo], urls[repo])
        return len(due)

    def finish(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)

    def failed(self, error: Exception) -> float:
        if isinstance(error, redis.RedisError):
            return self.interval_s
        return super().failed(error)

    def _repos(self) -> dict[str, Repo]:
        repos = self._declared().repos
        return {repo.name: repo for repo in repos if repo.url and repo.name in self._served}

    def _forget(self, urls: Mapping[str, str]) -> None:
        if gone := [repo for repo in self._due if repo not in urls]:
            at = time.time()
            self._store.forget_remotes(
                RemoteReport(repo=repo, host=self._host, at=at, healthy=True) for repo in gone
            )
            for repo in gone:
                del self._due[repo]

    def _look(self, repo: Repo, url: str) -> None:
        for number in range(TRIES):
            began = time.monotonic()
            why = ls_remote(url, repo, access=self._access)
            latency_s = time.monotonic() - began
            if not why or self.stopping.wait(TRY_AGAIN_S if number + 1 < TRIES else 0.0):
                break
        report = RemoteReport(
            repo=repo.name,
            host=self._host,
            at=time.time(),
            healthy=not why,
            why=why,
            latency_s=round(latency_s, 4),
        )
        try:
            self._store.report_remote(report)
        except redis.RedisError as error:  # the next look is reported
            logger.debug("the look at the remote of %s is not reported: %s", repo.name, error)


def ls_remote(
    url: str,
    repo: Repo | None = None,
    timeout_s: float = LOOK_S,
    access: GitAccess = without_login,
) -> str:
    """Return why the remote does not answer, or why nothing can land there: it has no such base branch, or
    refuses the credential that `access` gives. Empty if all is well.
    """
    why, asks = _ask(url, repo, timeout_s, {})
    if not asks or repo is None:
        return why
    with access(repo.name, url) as login:
        if not login:
            return why
        why, asks = _ask(url, repo, timeout_s, login)
    return LOGIN_REFUSED if asks else why


def _ask(url: str, repo: Repo | None, timeout_s: float, login: Mapping[str, str]) -> tuple[str, bool]:
    """Return why the remote does not answer, and whether it asks for a login."""
    base = [f"refs/heads/{repo.branch}"] if repo else []
    options = ("--quiet", "--exit-code", "--symref")
    command = ["git", "-c", "credential.helper=", "ls-remote", *options, "--", url, "HEAD", *base]
    env = {**without_ours(os.environ), **UNATTENDED, "LC_ALL": "C", "GIT_ASKPASS": "/bin/false", **login}
    env.setdefault("GIT_SSH_COMMAND", f"ssh -oBatchMode=yes -oConnectTimeout={timeout_s:g}")
    with subprocess.Popen(
        command, cwd="/", stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, start_new_session=True, env=env,
    ) as process:  # fmt: skip
        try:
            answer = communicate(process, b"", time.monotonic() + timeout_s)
        except (subprocess.TimeoutExpired, TooMuchOutput) as error:
            os.killpg(process.pid, 9)
            process.wait()
            if isinstance(error, TooMuchOutput):
                return "git ls-remote writes without end", False
            return f"git ls-remote did not answer within {timeout_s:g} s", False
    listing, errors = (text_of(one, "replace") for one in answer)
    default = default_branch(listing)
    if repo and default and not any(line.endswith(f"\t{base[0]}") for line in listing.splitlines()):
        what = f"it has no branch {repo.branch}; its default branch is {default}"
        return f"{what}: {branch_to_write(repo.name, default)}", False
    asks = any(words in errors for words in ANSWERS)
    if process.returncode in (0, 2) or asks:  # 2: it has no HEAD
        return "", asks
    return (_cause(errors) or f"git ls-remote ended with {process.returncode}")[:300], False


def _from(checkout: Path, url: str) -> str:
    """Return the address; a path is taken from the checkout, as git does when work lands there."""
    return str(checkout / url) if ":" not in url.partition("/")[0] else url


def _cause(errors: str) -> str:
    """Return the cause among the messages of git: not the advice that it prints after each of them."""
    lines = [line.strip() for line in errors.splitlines() if line.strip()]
    causes = [line for line in lines if line not in ADVICE and not line.startswith("warning:")]
    return next((line for line in causes if line.startswith(FAULTS)), (causes or lines or [""])[0])
