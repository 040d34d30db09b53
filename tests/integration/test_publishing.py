"""The remote's branch of a run: an attempt that lost its todo moves it nowhere, wherever it was frozen;
nobody else's commit is lost.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from tests.hosts import World, tip, works
from tests.testbed import FORKS, Begun, git
from tests.waiting import until
from tests.worktrees import run_id
from workers.task_result import TaskResultKind
from workers.transfer.routes import NotCarried, Publication
from workers.workspace.commit import CommitStyle, message
from workers.workspace.lock import Superseded

RUN = run_id()
BRANCH = f"coord/{RUN}"
REF = f"refs/heads/{BRANCH}"
HOLDER = """
import sys
from pathlib import Path
from workers.transfer.routes import Publication
run, checkout, url, commit, fence = sys.argv[1:]
publication = Publication(
    run_id=run, branch=f"coord/{run}", checkout=Path(checkout), url=url, commit=commit, fence=int(fence)
)
print(publication.publish().branch)
"""
FREEZES = """#!/bin/sh
case "$*" in *" {command} "*) kill -STOP $$;; esac
exec {git} "$@"
"""
WAITS = """#!/bin/sh
read old new ref
[ $new = {commit} ] || exit 0
touch {folder}/arrived
until [ -e {folder}/go ]; do sleep 0.02; done
"""


@dataclass
class Site:
    folder: Path
    checkout: Path
    remote: Path
    base: str
    begun: list[Begun] = field(default_factory=list)

    def made(self, fence: int, *parents: str, run: str = RUN, own: str = "") -> str:
        """A commit as an attempt leaves it; with `own`, as somebody else words it."""
        text = own or str(message(CommitStyle(), run, "T1", "work", fence))
        after = [word for parent in parents or (self.base,) for word in ("-p", parent)]
        return git(self.checkout, "commit-tree", *after, "-m", text, "main^{tree}")

    def of(self, commit: str, fence: int) -> Publication:
        return Publication(
            run_id=RUN,
            branch=BRANCH,
            checkout=self.checkout,
            url=str(self.remote),
            commit=commit,
            fence=fence,
        )

    def there(self) -> dict[str, str]:
        listing = git(self.remote, "for-each-ref", "--format=%(refname:short) %(objectname)")
        return dict(line.split() for line in listing.splitlines())

    def holder(self, commit: str, fence: int, freezing: str = "") -> Begun:
        """Publishes in a process of its own; with `freezing`, its git stops at that command, as by
        SIGSTOP.
        """
        env = dict(os.environ)
        if freezing:
            folder = self.folder / "bin"
            folder.mkdir()
            (folder / "git").write_text(FREEZES.format(git=shutil.which("git"), command=freezing))
            (folder / "git").chmod(0o755)
            env["PATH"] = f"{folder}:{env['PATH']}"
        words = map(str, (RUN, self.checkout, self.remote, commit, fence))
        command = [sys.executable, "-c", HOLDER, *words]
        self.begun.append(Begun(command, FORKS.begin, cwd=self.folder, env=env))
        return self.begun[-1]

    def end(self) -> None:
        for process in self.begun:
            for pid in [] if process.poll() is not None else [*children(process.pid), process.pid]:
                os.kill(pid, signal.SIGKILL)
            process.wait()

    def hook(self, name: str, text: str) -> None:
        (self.remote / "hooks" / name).write_text(text)
        (self.remote / "hooks" / name).chmod(0o755)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    checkout, remote = tmp_path / "checkout", tmp_path / "remote.git"
    git(tmp_path, "init", "-q", "-b", "main", str(checkout))
    git(tmp_path, "init", "-q", "--bare", str(remote))
    git(checkout, "commit", "-q", "--allow-empty", "-m", "first")
    made = Site(tmp_path, checkout, remote, git(checkout, "rev-parse", "main"))
    yield made
    made.end()


def test_a_commit_comes_on_the_branch_and_the_next_one_after_it(site: Site):
    first = site.made(1)
    second = site.made(2, first)

    for commit_, fence in ((first, 1), (first, 1), (second, 2)):
        assert site.of(commit_, fence).publish().branch == BRANCH
        assert site.there() == {BRANCH: commit_}


def test_a_commit_that_was_pushed_and_then_did_not_count_is_replaced(site: Site):
    site.of(site.made(5), 5).publish()
    counts = site.made(9)

    assert site.of(counts, 9).publish().branch == BRANCH
    assert site.there() == {BRANCH: counts}


def test_an_older_attempt_is_refused_and_changes_nothing(site: Site):
    counts, late = site.made(9), site.made(5)
    site.of(counts, 9).publish()

    with pytest.raises(
        Superseded, match=f"attempt 9 has published on {BRANCH}, and this is the older attempt 5"
    ):
        site.of(late, 5).publish()

    assert site.there() == {BRANCH: counts}


def test_the_newer_fence_is_found_under_a_commit_that_the_todo_made_itself_too(site: Site):
    on_top = site.made(0, site.made(9), own="by hand")
    git(site.checkout, "push", "-q", str(site.remote), f"{on_top}:{REF}")

    with pytest.raises(Superseded):
        site.of(site.made(5), 5).publish()

    assert site.there() == {BRANCH: on_top}


def test_the_remotes_commit_is_judged_where_it_was_never_seen_before(site: Site):
    counts = site.made(9)
    site.of(counts, 9).publish()
    git(site.folder, "clone", "-q", "--single-branch", "-b", "main", f"file://{site.checkout}", "elsewhere")
    elsewhere = replace(site, checkout=site.folder / "elsewhere")

    with pytest.raises(Superseded):
        elsewhere.of(elsewhere.made(5), 5).publish()
    newest = elsewhere.made(12)
    elsewhere.of(newest, 12).publish()

    assert site.there() == {BRANCH: newest}
    assert git(elsewhere.checkout, "for-each-ref", "--format=%(refname)", "refs/heads") == "refs/heads/main"


@pytest.mark.parametrize(
    "own",
    [
        "somebody's",
        "x\n\nCoord-Run: another\nCoord-Fence: 3",
        f"x\n\nCoord-Run: {RUN}\nCoord-Fence: {'9' * 5000}",
    ],
)
def test_a_commit_of_another_person_is_never_replaced_and_blocks_no_push(site: Site, own: str):
    theirs = site.made(0, own=own)
    git(site.checkout, "push", "-q", str(site.remote), f"{theirs}:{REF}")
    ours = site.made(9)

    second = site.of(ours, 9).publish().branch

    assert second == f"{BRANCH}-{ours[:12]}"
    assert site.there() == {BRANCH: theirs, second: ours}


def test_a_remote_that_lets_nobody_replace_a_commit_gets_ours_beside_it(site: Site):
    git(site.remote, "config", "receive.denyNonFastForwards", "true")
    lost, counts = site.made(5), site.made(9)
    site.of(lost, 5).publish()

    second = site.of(counts, 9).publish().branch

    assert site.there() == {BRANCH: lost, second: counts}


def test_a_remote_that_takes_nothing_says_why(site: Site):
    site.hook("update", "#!/bin/sh\necho not today >&2\nexit 1\n")

    with pytest.raises(NotCarried, match="not today"):
        site.of(site.made(5), 5).publish()


def test_a_holder_that_is_stopped_between_its_look_and_its_push_is_refused_by_git(site: Site):
    """It looked when the branch stood nowhere: without the lease on that, its push would have been a plain
    one.
    """
    old = site.holder(site.made(5), 5, freezing="push")
    frozen = until(lambda: stopped_in(old.pid))

    counts = site.made(9)
    site.of(counts, 9).publish()
    os.kill(frozen, signal.SIGCONT)

    assert old.wait(60) != 0
    assert "Superseded: attempt 9 has published" in old.err
    assert site.there() == {BRANCH: counts}


@pytest.mark.parametrize("before", ["nothing", "a lost one"])
def test_a_push_that_hangs_while_the_newer_one_publishes_is_refused_by_the_remote(site: Site, before: str):
    """The lease was good when git looked at it: the remote itself moves the branch only from there."""
    if before == "a lost one":
        site.of(site.made(3), 3).publish()
    late, counts = site.made(5), site.made(9)
    site.hook("pre-receive", WAITS.format(commit=late, folder=site.folder))
    old = site.holder(late, 5)
    until((site.folder / "arrived").exists)

    site.of(counts, 9).publish()
    (site.folder / "go").touch()

    assert old.wait(60) != 0
    assert "Superseded: attempt 9 has published" in old.err
    assert site.there() == {BRANCH: counts}


def test_the_newer_one_that_finds_the_older_push_in_between_replaces_it(site: Site):
    old, counts = site.made(5), site.made(9)
    site.hook("pre-receive", WAITS.format(commit=counts, folder=site.folder))
    newer = site.holder(counts, 9)
    until((site.folder / "arrived").exists)

    site.of(old, 5).publish()
    (site.folder / "go").touch()

    assert newer.wait(60) == 0
    assert site.there() == {BRANCH: counts}


def test_an_attempt_that_wakes_up_after_another_worker_did_the_todo_is_refused_told_and_counted(world: World):
    world.limit(0)
    bare = world.remote("up")
    mine = world.repo("a/up")
    a, b = world.host("a", up=mine), world.host("a", up=mine)
    run = world.run({"T1": "up"}, **works("T1"))
    store = a.parts.store
    hook = bare / "hooks" / "pre-receive"
    hook.write_text(
        f"#!/bin/sh\nmkdir {world.folder}/first 2>/dev/null || exit 0\n"
        f"until [ -e {world.folder}/go ]; do sleep 0.02; done\n"
    )
    hook.chmod(0o755)
    verdicts: list[TaskResultKind] = []
    sleeper = threading.Thread(
        target=lambda: verdicts.append(a.parts.deliveries.handle(run, "T1", 1, "up").kind), daemon=True
    )
    sleeper.start()
    until((world.folder / "first").exists)

    # its lease runs out: what the sweep of a keeper does then
    store.redis.zadd(store.keys.leases, {f"{run} T1": 1})
    assert store.lose(run, "T1", 3).word == "requeued"
    b.do(run, "T1", "up", attempt=2)
    (world.folder / "go").touch()
    sleeper.join(60)

    assert verdicts == [TaskResultKind.LATER]
    counts = store.redis.hget(store.keys.run(run).facts, "T1 commit")
    assert (
        git(bare, "for-each-ref", "--format=%(refname) %(objectname)") == f"refs/heads/coord/{run} {counts}"
    )
    assert store.redis.hget(store.keys.counters, "stale_writes") == "1"
    told = "".join(fields["text"] for _, fields in store.redis.xrange(store.keys.run(run).log("T1")))
    assert "[coord] the write of an old holder" in told
    assert tip(mine, run) == counts


def children(pid: int) -> list[int]:
    return list(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))


def stopped_in(pid: int) -> int:
    """The child of this process that is stopped; 0 if none is."""
    return next((child for child in children(pid) if state_of(child) == "T"), 0)


def state_of(pid: int) -> str:
    """Empty if it has ended meanwhile."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return ""
