"""A commit that was made on one host is found on another: by a bundle, by the remote, in part; or why not is
told.
"""

from __future__ import annotations

import os
import threading
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from coordination.backend.client import Profile, connect
from coordination.runs.records import Result, TodoState
from tests.endpoints import leading_to, listening
from tests.hosts import Host, TcpRedis, World, reads, tip, works
from tests.plans import Todos
from tests.ports import free_port
from tests.testbed import git
from tests.waiting import until
from workers.task_result import TaskResultKind
from workers.transfer.fetcher import carried
from workers.transfer.routes import Remote


def one_after_the_other(world: World, a: Host, b: Host, **more: bool) -> str:
    """A run of T1, which works on `a`, and T2, which reads what it was told of that on `b`."""
    run = world.run({"T1": "up", "T2": ("down", ["T1"])}, **works("T1"), **reads("T2", **more))
    a.do(run, "T1", "up")
    b.do(run, "T2", "down")
    return run


def test_a_dependent_on_another_host_finds_exactly_the_commit_of_its_predecessor(world: World):
    mine, theirs = world.repo("a/up"), world.repo("b/down")
    a, b = world.host("a", up=mine), world.host("b", down=theirs)
    run = one_after_the_other(world, a, b)

    told = b.told(run, "T2")["T1"]
    path = Path(told["path"])
    assert told == {
        "todo": "T1", "repo": "up", "output": None, "branch": f"coord/{run}",
        "began": git(mine, "rev-parse", "main"), "commit": tip(mine, run),
        "path": str(carried(b.state, run) / "up" / tip(mine, run)),
    }  # fmt: skip
    assert git(path, "rev-parse", "HEAD") == told["commit"] == git(path, "rev-parse", told["branch"])
    assert git(path, "status", "--porcelain", "--branch") == "## HEAD (no branch)"
    assert (path / "work").read_text() == "T1\n"
    assert git(path, "log", "--format=%s") == "T1: do T1\nfirst"
    assert not (path / ".git" / "hooks").exists()


def test_each_dependent_sees_the_link_of_a_chain_of_commits_that_it_waited_for(world: World):
    b = world.host("b", down=world.repo("b/down"), other=world.repo("b/other"))
    a = world.host("a", up=world.repo("a/up"))
    chain = {"T1": "up", "T2": ("up", ["T1"]), "T3": ("up", ["T2"])}
    run = world.run(
        {**chain, "early": ("down", ["T1"]), "late": ("other", ["T3"])},
        **works(*chain),
        **reads("early", "late"),
    )
    for todo in chain:
        a.do(run, todo, "up")
    b.do(run, "late", "other")
    b.do(run, "early", "down")

    late = b.told(run, "late")
    assert len({told["path"] for told in late.values()}) == 1, "the last commit contains the others"
    assert (Path(late["T1"]["path"]) / "work").read_text() == "T1\nT2\nT3\n"
    assert (b.path(run, "early", "T1") / "work").read_text() == "T1\n"
    lengths = [len(world.bundles.bundle(run, "up", told["commit"])) for told in late.values()]
    assert lengths[0] > lengths[1] > 0


def test_the_newest_commit_is_the_one_that_settled_last_whatever_the_plans_order(world: World):
    a, b = world.host("a", up=world.repo("a/up")), world.host("b", down=world.repo("b/down"))
    run = world.run({"T1": "up", "T2": "up", "R": ("down", ["T1", "T2"])}, **works("T1", "T2"), **reads("R"))
    store = a.parts.store
    grant = store.claim(run, "T1", 1, worker="w", host=a.parts.worker.host, lease=timedelta(minutes=1)).grant
    assert grant is not None
    store.retry(grant, timedelta(milliseconds=1), Result(outcome=TodoState.FAILED))  # so T2 comes first
    a.do(run, "T2", "up")
    until(lambda: store.fire(run, "T1").word == "fired")
    a.do(run, "T1", "up", attempt=2)
    b.do(run, "R", "down")

    assert list(b.told(run, "R")) == ["T1", "T2"]
    assert (b.path(run, "R", "T2") / "work").read_text() == "T2\nT1\n"


def test_a_repository_that_no_todo_changed_is_there_as_the_run_found_it(world: World):
    a, b = world.host("a", up=world.repo("a/up")), world.host("b", down=world.repo("b/down"))
    run = world.run({"T1": "up", "T2": ("down", ["T1"])}, **reads("T2"))
    a.do(run, "T1", "up")
    b.do(run, "T2", "down")

    assert git(b.path(run, "T2", "T1"), "log", "--format=%s") == "first"


def test_what_was_carried_over_is_on_the_branch_of_the_run_in_which_it_was_done(world: World):
    a, b = world.host("a", up=world.repo("a/up")), world.host("b", down=world.repo("b/down"))
    run = world.run({"T1": "up", "T2": ("down", ["T1"])}, **works("T1"), **reads("T2"))
    a.do(run, "T1", "up")
    a.parts.store.redis.hset(a.parts.keys.run(run).facts, "T1 run", "earlier")
    b.do(run, "T2", "down")

    told = b.told(run, "T2")["T1"]
    assert told["branch"] == "coord/earlier"
    assert git(Path(told["path"]), "rev-parse", "coord/earlier") == told["commit"]


def test_a_todo_of_the_repository_itself_gets_its_own_worktree(world: World):
    a = world.host("a", up=world.repo("a/up"))
    run = world.run({"T1": "up", "T2": ("up", ["T1"])}, **works("T1"), **reads("T2"))
    a.do(run, "T1", "up")
    a.do(run, "T2", "up")

    assert a.path(run, "T2", "T1") == a.state / "worktrees" / run / "up"
    assert not carried(a.state, run).exists()


def test_a_todo_never_reads_work_of_another_todo_that_is_in_no_commit(world: World):
    mine, theirs = world.repo("a/up"), world.repo("a/down")
    a = world.host("a", up=mine, down=theirs)
    todos: Todos = {
        "T1": "up",
        "FAILS": ("up", ["T1"]),
        "R": ("down", ["T1"]),
        "T2": ("up", ["T1"]),
        "S": ("down", ["T1"]),
    }
    fails = {"action": "echo changed >> work; echo fix > fix; exit 1", "retry": {"attempts": 1}}
    run = world.run(todos, FAILS=fails, **works("T1", "T2"), **reads("R", "S"))
    a.do(run, "T1", "up")
    commit = tip(mine, run)
    assert a.parts.deliveries.handle(run, "FAILS", 1, "up").kind is TaskResultKind.FAILED
    assert (a.state / "worktrees" / run / "up" / "fix").exists()
    a.do(run, "R", "down")
    a.do(run, "T2", "up")
    a.do(run, "S", "down")

    path = a.path(run, "R", "T1")
    assert path == carried(a.state, run) / "up" / commit == a.path(run, "S", "T1"), "once for each commit"
    assert git(path, "rev-parse", "HEAD") == commit != tip(mine, run)
    assert git(path, "status", "--porcelain", "--branch") == "## HEAD (no branch)"
    assert (path / "work").read_text() == "T1\n"
    assert not (path / "fix").exists()


@pytest.mark.parametrize("how", ["whole", "partial", "served by another worker"])
def test_what_this_machine_made_is_had_without_a_parcel(world: World, redis_url: str, how: str):
    world.url = redis_url  # a socket: nothing is sent
    mine = world.repo("source")
    git(mine, "config", "uploadpack.allowFilter", "true")
    if how == "partial":
        mine = world.clone(mine, "a/up", "--filter=blob:none")
    a = world.host("a", up=mine, down=(theirs := world.repo("a/down")))
    run = world.run({"T1": "up", "T2": ("down", ["T1"])}, **works("T1"), **reads("T2"))
    a.do(run, "T1", "up")
    other = world.host("a", down=theirs) if how == "served by another worker" else a
    other.do(run, "T2", "down")

    path = a.path(run, "T2", "T1")
    assert path == carried(a.state, run) / "up" / tip(mine, run)
    assert not a.parts.store.redis.exists(a.parts.keys.run(run).bundle("up"))
    assert ((path / "work").read_text(), (path / "first").read_text()) == ("T1\n", "first\n")


def test_what_is_too_large_for_redis_goes_through_the_remote(world: World):
    bare = world.remote("up")
    world.limit(0)
    mine = world.repo("a/up")
    a, b = world.host("a", up=mine), world.host("b", down=world.repo("b/down"))
    run = world.run(
        {"T1": "up", "T2": ("up", ["T1"]), "R": ("down", ["T2"])}, **works("T1", "T2"), **reads("R")
    )
    a.do(run, "T1", "up")
    a.do(run, "T2", "up")
    b.do(run, "R", "down")

    assert git(bare, "for-each-ref", "--format=%(refname)") == f"refs/heads/coord/{run}"
    assert world.bundles.bundle(run, "up", tip(mine, run)) == b""
    assert (b.path(run, "R", "T2") / "work").read_text() == "T1\nT2\n"


def test_a_stray_commit_on_the_remotes_branch_is_neither_overwritten_nor_in_the_way(world: World):
    bare, mine = world.remote("up"), world.repo("a/up")
    world.limit(0)
    a, b = world.host("a", up=mine), world.host("b", down=world.repo("b/down"))
    run = world.run({"T1": "up", "R": ("down", ["T1"])}, **works("T1"), **reads("R"))
    stray = git(mine, "commit-tree", "-m", "stray", "main^{tree}")
    git(mine, "push", "-q", str(bare), f"{stray}:refs/heads/coord/{run}")
    a.do(run, "T1", "up")
    b.do(run, "R", "down")

    commit = tip(mine, run)
    assert git(bare, "rev-parse", f"coord/{run}") == stray
    assert world.bundles.label(run, "up", commit).remote == Remote(f"coord/{run}-{commit[:12]}", str(bare))
    assert (b.path(run, "R", "T1") / "work").read_text() == "T1\n"


def test_what_fits_nowhere_is_told_to_the_todo_that_looks_for_it_and_in_its_log(world: World):
    world.limit(100)
    mine = world.repo("a/up")
    a, b = world.host("a", up=mine), world.host("b", down=world.repo("b/down"))
    run = one_after_the_other(world, a, b, needs_paths=False)

    told = b.told(run, "T2")["T1"]
    assert told["path"] is None
    assert told["why"].startswith(
        f"up: {tip(mine, run)[:12]} was not carried to other hosts: its history has "
    )
    assert "more than bundle_limit_bytes (100)" in told["why"]
    assert "up has no url to push to" in told["why"]
    assert f"[coord] {told['why']}\n" in b.log(run, "T2")


def test_a_todo_waits_until_the_work_of_its_predecessor_is_there(world: World):
    world.limit(100)
    mine = world.repo("a/up")
    a, b = world.host("a", up=mine), world.host("b", down=world.repo("b/down"))
    run = world.run({"T1": "up", "T2": ("down", ["T1"])}, **works("T1"), **reads("T2"))
    a.do(run, "T1", "up")
    redis, facts, store = b.parts.redis, b.parts.keys.run(run).facts, b.parts.store

    assert b.parts.deliveries.handle(run, "T2", 1, "down").kind is TaskResultKind.LATER
    assert redis.hget(b.parts.keys.run(run).state, "T2") == "parked"
    assert redis.hget(facts, "T2 waits_for").startswith("T1, whose work is not on this host: up: ")
    assert (redis.hget(facts, "T2 tries"), store.redis.llen(b.parts.keys.breakers.failures("repo:down"))) == (
        None,
        0,
    )

    file = world.folder / "bundle"
    git(mine, "bundle", "create", "-q", str(file), f"coord/{run}")
    world.bundles.put(run, "up", tip(mine, run), file.read_bytes(), None)
    b.parts.dispatcher.follow(store.fire(run, "T2"))
    b.do(run, "T2", "down")
    assert (b.path(run, "T2", "T1") / "work").read_text() == "T1\n"


def test_a_push_that_fails_is_no_failure_of_the_todo_and_names_no_password(world: World):
    world.limit(0)
    world.remotes["up"] = "http://ann:secret@127.0.0.1:1/up.git"
    a, b = world.host("a", up=world.repo("a/up")), world.host("b", down=world.repo("b/down"))
    run = one_after_the_other(world, a, b, needs_paths=False)

    told = b.told(run, "T2")["T1"]
    assert told["path"] is None
    assert "it cannot be pushed to http://***@127.0.0.1:1/up.git: " in told["why"]
    assert "secret" not in told["why"]


def test_without_pushing_the_runs_commits_come_through_redis_and_the_rest_from_the_url(world: World):
    mine = world.repo("a/up")
    (mine / "large").write_bytes(os.urandom(50_000))
    git(mine, "add", "large")
    git(mine, "commit", "-q", "-m", "large")
    bare = world.remote("up")
    git(mine, "push", "-q", str(bare), "main")
    (bare / "hooks" / "update").write_text("#!/bin/sh\nexit 1\n")
    (bare / "hooks" / "update").chmod(0o755)
    world.limit(10_000)
    a, b = world.host("a", up=mine), world.host("b", down=world.repo("b/down"))
    run = one_after_the_other(world, a, b)

    path = b.path(run, "T2", "T1")
    assert git(path, "log", "--format=%s") == "T1: do T1\nlarge\nfirst"
    assert git(bare, "for-each-ref", "--format=%(refname)") == "refs/heads/main"


@pytest.mark.parametrize(
    ("how", "history"), [("--depth=1", ["second"]), ("--filter=blob:none", ["second", "first"])]
)
def test_a_shallow_and_a_partial_clone_carry_what_the_run_added(world: World, how: str, history: list[str]):
    origin = world.repo("origin")
    git(origin, "config", "uploadpack.allowFilter", "true")
    git(origin, "commit", "-q", "--allow-empty", "-m", "second")
    mine, theirs = (world.clone(origin, f"{name}/up", how) for name in "ab")
    world.remotes["up"] = f"file://{origin}"
    (origin / ".git" / "hooks" / "update").write_text("#!/bin/sh\nexit 1\n")
    (origin / ".git" / "hooks" / "update").chmod(0o755)
    a, b = world.host("a", up=mine), world.host("b", up=theirs, down=world.repo("b/down"))
    run = one_after_the_other(world, a, b)

    path = b.path(run, "T2", "T1")
    assert git(path, "log", "--format=%s").splitlines() == ["T1: do T1", *history]
    assert (path / "first").read_text() == "first\n"


def test_every_byte_of_a_bundle_survives(world: World):
    world.host("a")
    every = bytes(range(256)) * 3
    world.bundles.put("R", "up", "c1", every, "c0")

    assert world.bundles.bundle("R", "up", "c1") == every
    assert world.bundles.label("R", "up", "c1").since == "c0"
    assert world.bundles.bundle("R", "up", "c2") == b""


def test_what_was_carried_is_kept_for_a_day_after_success_and_as_long_as_the_run_before(world: World):
    a = world.host("a", up=world.repo("a/up"))
    run = world.run({"T1": "up"}, **works("T1"))
    a.do(run, "T1", "up")
    key = a.parts.keys.run(run).bundle("up")
    assert a.parts.bundle_redis.ttl(key) == -1

    last = world.run({"T1": "up"}, OPEN={"action": "true"}, **works("T1"))
    a.do(last, "T1", "up")
    a.do(last, "OPEN", "up")
    assert 0 < a.parts.bundle_redis.ttl(a.parts.keys.run(last).bundle("up")) <= 24 * 3600


def test_a_user_of_redis_without_the_right_to_send_does_its_todos_all_the_same(world: World):
    a, b = world.host("a", up=world.repo("a/up")), world.host("b", down=world.repo("b/down"))
    a.parts.bundle_redis.execute_command(
        "ACL", "SETUSER", "reader", "on", ">secret", "~*", "+@read", "+@connection"
    )
    address = urlsplit(world.url)
    a.parts.bundle_redis = connect(f"redis://reader:secret@{address.hostname}:{address.port}", Profile.BULK)
    run = one_after_the_other(world, a, b, needs_paths=False)

    assert "is not here, and no host has sent it" in b.told(run, "T2")["T1"]["why"]


def test_a_redis_that_is_away_is_waited_for(
    world: World, tcp_redis: TcpRedis, caplog: pytest.LogCaptureFixture
):
    mine, port = world.repo("a/up"), free_port()
    a = world.host("a", up=mine)
    a.parts.bundle_redis = connect(tcp_redis.url(port), Profile.BULK)
    run = world.run({"T1": "up"}, **works("T1"))
    does = threading.Thread(target=a.do, args=(run, "T1", "up"), daemon=True)
    does.start()
    until(lambda: "Redis does not answer, asking again" in caplog.text)
    with listening(leading_to(tcp_redis.socket), port):
        does.join(60)
        assert world.bundles.label(run, "up", tip(mine, run)).bundled
