"""A commit of another host comes into this one: whole or not at all, once, and with a reason where
it cannot.
"""

from __future__ import annotations

import fcntl
import os
import signal
import sys
import threading
from datetime import timedelta
from pathlib import Path

import pytest

from tests.engine import retry_of, submit_retry
from tests.hosts import World, reads, tip, works
from tests.plans import Todos, ecosystem
from tests.testbed import FORKS, git
from tests.waiting import until
from workers.task_result import TaskResultKind
from workers.transfer.fetcher import CommitFetcher, CommitRef, carried
from workers.transfer.routes import NotCarried


def done(world: World, mine: Path | None = None) -> tuple[Path, str]:
    """A run whose T1 has worked in `up` on host a, and the checkout of that."""
    mine = mine or world.repo("a/up")
    a = world.host("a", up=mine)
    run = world.run({"T1": "up"}, **works("T1"))
    a.do(run, "T1", "up")
    return mine, run


def test_arrivals_at_the_same_time_make_one_folder(world: World):
    mine, run = done(world)
    fetcher = CommitFetcher(world.bundles, world.folder / "b", {})
    found: list[Path] = []
    threads = [
        threading.Thread(target=lambda: found.append(fetcher.folder(sought(mine, run))), daemon=True)
        for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert len(found) == 6
    assert len(set(found)) == 1
    assert sorted(path.name for path in found[0].parent.iterdir()) == sorted(
        ["depot", "lock", tip(mine, run)]
    )


def sought(checkout: Path, run: str) -> CommitRef:
    return CommitRef(run_id=run, repo="up", branch=f"coord/{run}", commit=tip(checkout, run))


ARRIVES = """
import sys
from pathlib import Path
from coordination.backend.client import Profile, connect
from coordination.backend.keys import Keys
from workers.transfer.fetcher import CommitFetcher, CommitRef
from workers.transfer.routes import BundleStore
url, state, run, commit = sys.argv[1:]
parcels = BundleStore(connect(url, Profile.BULK), Keys("coord"))
wanted = CommitRef(run_id=run, repo="up", branch="coord/" + run, commit=commit)
CommitFetcher(parcels, Path(state), {}).folder(wanted)
"""


def test_an_arrival_that_is_killed_leaves_nothing_that_is_used_and_nobody_meets_its_git(world: World):
    mine, pid = world.repo("a/up"), world.folder / "pid"
    (mine / ".gitattributes").write_text("* filter=slow\n")
    git(mine, "add", ".")
    git(mine, "commit", "-q", "-m", "filtered")
    _, run = done(world, mine)
    config = world.folder / "home" / ".gitconfig"
    config.write_text(f'[filter "slow"]\nsmudge = "echo $$ > {pid}; exec sleep 300"\nrequired = true\n')
    words = [sys.executable, "-c", ARRIVES, world.url, str(world.folder / "b"), run, tip(mine, run)]
    arriving = FORKS.piped(words)
    until(lambda: pid.exists() and pid.read_text().strip())
    arriving.kill()
    arriving.wait()
    config.write_text("")

    fetcher, found = CommitFetcher(world.bundles, world.folder / "b", {}), []
    waits = threading.Thread(target=lambda: found.append(fetcher.folder(sought(mine, run))), daemon=True)
    waits.start()
    home = carried(world.folder / "b", run) / "up"
    assert not (home / tip(mine, run)).exists()
    assert waits.is_alive(), "its git lives on, and holds the lock"
    os.killpg(os.getpgid(int(pid.read_text())), signal.SIGKILL)
    waits.join(60)

    assert git(found[0], "status", "--porcelain") == ""
    assert (found[0] / "work").read_text() == "T1\n"
    assert not (home / "new").exists()


@pytest.mark.parametrize(
    "lock", ["refs/coord/incoming/{run}.lock", "config.lock", "packed-refs.lock", "shallow.lock"]
)
def test_a_lock_file_that_a_killed_git_left_in_a_folder_of_ours_holds_up_nothing(world: World, lock: str):
    mine, run = done(world)
    left = carried(world.folder / "b", run) / "up" / "depot" / ".git" / lock.format(run=run)
    left.parent.mkdir(parents=True)
    left.touch()

    assert CommitFetcher(world.bundles, world.folder / "b", {}).folder(sought(mine, run)).is_dir()
    assert not left.exists()


def test_a_lock_file_that_a_killed_git_left_on_the_ref_of_what_arrives_holds_up_nothing(world: World):
    (mine, run), theirs = done(world), world.repo("b/up")
    left = theirs / ".git" / "refs" / "coord" / "incoming" / f"{run}.lock"
    left.parent.mkdir(parents=True)
    left.touch()

    CommitFetcher(world.bundles, world.folder / "c", {}).fetch(sought(mine, run), theirs)
    assert git(theirs, "cat-file", "-t", tip(mine, run)) == "commit"


def test_a_lock_that_is_never_given_back_is_a_sentence(world: World):
    mine, run = done(world)
    home = carried(world.folder / "b", run) / "up"
    home.mkdir(parents=True)
    with (home / "lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(NotCarried, match="in use by another process"):
            CommitFetcher(world.bundles, world.folder / "b", {}, timedelta(0)).folder(sought(mine, run))


def test_names_of_any_kind_are_taken(world: World):
    odd, mine = '"b\\n" #é ⓑ', world.repo("a/up")
    a = world.host("a", **{"-u.p..": mine})
    b = world.host(odd, **{"-u.p..": world.clone(mine, f"{odd}/clone of up"), "down": world.repo("b/down")})
    todos: Todos = {"T1": "-u.p..", "T2": ("down", ["T1"])}
    run = world.run(todos, T1={"action": "touch \"$(printf 'f\\377\\nx')\""}, **reads("T2"))
    a.do(run, "T1", "-u.p..")
    b.do(run, "T2", "down")

    path = b.path(run, "T2", "T1")
    assert path == b.state / "carried" / run / "-u.p.." / tip(mine, run)
    assert os.fsdecode(b"f\xff\nx") in {file.name for file in path.iterdir()}


@pytest.mark.parametrize(
    ("repo", "commit"), [("..", "0" * 40), ("a/b", "0" * 40), ("up", "../x"), ("up", "--all")]
)
def test_names_that_lead_elsewhere_are_refused(tmp_path: Path, world: World, repo: str, commit: str):
    world.host("a")
    with pytest.raises(NotCarried):
        CommitFetcher(world.bundles, tmp_path, {}).folder(
            CommitRef(run_id="R", repo=repo, branch="coord/R", commit=commit)
        )
    assert not (tmp_path / "carried").exists()


def test_what_the_checkout_here_has_needs_no_parcel(world: World, redis_url: str):
    world.url = redis_url
    mine, run = done(world)
    folder = CommitFetcher(world.bundles, world.folder / "b", {"up": mine}).folder(sought(mine, run))

    assert git(folder, "log", "--format=%s") == "T1: do T1\nfirst"
    assert git(folder, "count-objects") == "0 objects, 0 kilobytes", "all are lent"


def test_where_the_repository_is_served_here_too_its_checkout_lends_what_it_has(world: World):
    mine = world.repo("a/up")
    (mine / "large").write_bytes(os.urandom(50_000))
    git(mine, "add", "large")
    git(mine, "commit", "-q", "-m", "large")
    theirs = world.clone(mine, "b/up")
    world.limit(10_000)
    a, b = world.host("a", up=mine), world.host("b", up=theirs, down=world.repo("b/down"))
    run = world.run({"T1": "up", "T2": ("down", ["T1"])}, **works("T1"), **reads("T2"))
    a.do(run, "T1", "up")
    b.do(run, "T2", "down")

    path = b.path(run, "T2", "T1")
    assert (path / "work").read_text() == "T1\n"
    assert len((path / "large").read_bytes()) == 50_000
    assert git(theirs, "for-each-ref", "--format=%(refname)", "refs/heads") == "refs/heads/main"


def test_a_bundle_that_is_damaged_on_its_way_is_a_sentence(world: World):
    mine = world.repo("a/up")
    a, b = world.host("a", up=mine), world.host("b", down=world.repo("b/down"))
    run = world.run({"T1": "up", "T2": ("down", ["T1"])}, **works("T1"), **reads("T2", needs_paths=False))
    a.do(run, "T1", "up")
    commit = tip(mine, run)
    whole = world.bundles.bundle(run, "up", commit)
    world.bundles.put(run, "up", commit, whole[:-60] + b"\0" * 60, None)
    b.do(run, "T2", "down")

    told = b.told(run, "T2")["T1"]
    assert told["path"] is None
    assert told["why"].startswith(f"up: the bundle of {commit[:12]} cannot be used: git bundle in ")
    assert "\n" not in told["why"]


def test_a_run_that_is_taken_up_on_another_host_goes_on_from_the_commit_that_was_carried(world: World):
    mine = world.repo("a/up")
    theirs = world.clone(mine, "b/up")
    a, b = world.host("a", up=mine), world.host("b", up=theirs)
    chain = {"T1": "up", "T2": ("up", ["T1"])}
    first = world.run(chain, **works(*chain))
    a.do(first, "T1", "up")
    a.do(first, "T2", "up")
    second = world.run({"T3": "up"}, **works("T3"))
    world.carry_over(first, second)
    b.do(second, "T3", "up")

    assert git(theirs, "log", "--format=%s", f"coord/{second}") == "T3: do T3\nT2: do T2\nT1: do T1\nfirst"
    refs = git(theirs, "for-each-ref", "--format=%(refname)", "refs/heads").split()
    assert refs == [f"refs/heads/coord/{second}", "refs/heads/main"]
    assert git(theirs, "status", "--porcelain", "--branch").splitlines() == ["## main...origin/main"]
    assert not (theirs / ".git" / "FETCH_HEAD").exists()


def test_a_run_that_is_taken_up_where_its_commit_cannot_be_had_says_why(world: World):
    mine = world.repo("a/up")
    world.limit(100)
    a, b = world.host("a", up=mine), world.host("b", up=world.clone(mine, "b/up"))
    first = world.run({"T1": "up"}, **works("T1"))
    a.do(first, "T1", "up")
    second = world.run({"T3": "up"}, **works("T3"))
    world.carry_over(first, second)
    assert b.parts.deliveries.handle(second, "T3", 1, "up").kind is TaskResultKind.FAILED

    why = b.parts.store.redis.hget(b.parts.keys.run(second).facts, "T3 error")
    assert f"commit {tip(mine, first)}, the tip of the run, is not in " in why
    assert "was not carried to other hosts: its history has" in why


def test_what_a_retry_begins_with_is_carried_with_all_that_was_mended_since(world: World):
    mine = world.repo("a/up")
    a, b = world.host("a", up=mine), world.host("b", down=world.repo("b/down"))
    todos = {"T1": "up", "T2": ("up", ["T1"]), "T3": ("down", ["T2"])}
    first = world.run(todos, T2={"action": "exit 1", "retry": {"attempts": 1}}, **works("T1"), **reads("T3"))
    a.do(first, "T1", "up")
    assert a.parts.deliveries.handle(first, "T2", 1, "up").kind is TaskResultKind.FAILED
    store = a.parts.store
    store.cancel(first, "the manual todo is of no interest here")
    (mine / "mended").write_text("on main\n")
    git(mine, "add", "mended")
    git(mine, "commit", "-q", "-m", "mended")

    file = ecosystem(
        todos | {"OPEN": "up"}, OPEN={"action": {"type": "manual"}}, **works("T1", "T2"), **reads("T3")
    )
    left = retry_of(store, first, file, world.settings, without=())
    second, _ = submit_retry(store, left, world.settings)
    a.do(second, "T2", "up")
    b.do(second, "T3", "down")

    assert b.told(second, "T3")["T1"]["branch"] == f"coord/{first}"
    arrived = b.path(second, "T3", "T2")
    assert git(arrived, "rev-parse", "HEAD") == tip(mine, second)
    assert (arrived / "work").read_text() == "T1\nT2\n"
    assert (arrived / "mended").read_text() == "on main\n"
