"""A commit that was made on one host is found on another: two state folders, two clones, one Redis over TCP."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from coordination.models import Repo
from coordination.planner.graph import build
from coordination.runs.carry_over import left_of, take_up
from coordination.runs.ended import read, restorable
from coordination.runs.records import Result, TodoState
from coordination.runs.submit import submit
from coordination.settings import Settings
from coordination.wire.connection import Profile, connect
from coordination.wire.embedded import EmbeddedServer
from coordination.wire.keys import Keys
from tests.doors import leading_to, listening
from tests.plans import PLAN, Todos, ecosystem, order
from tests.stage import git
from tests.waiting import until
from workers.app import Charge, WorkerParts
from workers.arrivals import Arrivals, Sought, carried
from workers.parcels import NotCarried, Parcels, Remote
from workers.verdict import Kind

WRITES = 'echo "$COORD_TODO_ID" >> work; echo made > "made-by-$COORD_TODO_ID"'
READS = 'cp "$COORD_CONTEXT" "$COORD_OUTPUT"'


@pytest.fixture(autouse=True)
def _plain_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")


def free() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


@dataclass(frozen=True)
class Door:
    """A server that listens on loopback, too."""

    port: int
    password: str
    socket: Path

    def url(self, port: int) -> str:
        return f"redis://:{self.password}@127.0.0.1:{port}"


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    port = free()
    server = EmbeddedServer(tmp_path_factory.mktemp("server") / ".coord", Settings(server_port=port))
    address = urlsplit(server.start())
    yield Door(port, address.password or "", Path(address.path))
    server.stop()


@pytest.fixture
def tcp(door: Door) -> str:
    url = door.url(door.port)
    with connect(url, Profile.COMMAND) as client:
        client.flushall()
    return url


class Host:
    """A worker's parts, as on a machine of its own."""

    def __init__(self, folder: Path, url: str, repos: Mapping[str, Path], settings: Settings) -> None:
        settings = settings.model_copy(update={"host": f"host-{folder.name.encode().hex()}"})
        charge = Charge(redis_url=url, settings=settings, places=dict(repos), jobs=1, state=folder / "state")
        self.state = charge.state
        self.parts = WorkerParts(charge)

    def do(self, run: str, todo: str, repo: str, attempt: int = 1) -> None:
        assert self.parts.attempts.carry_out(run, todo, attempt, repo).kind is Kind.DONE

    def told(self, run: str, todo: str) -> dict[str, dict[str, Any]]:
        """COORD_CONTEXT of a todo that handed it on: predecessor → what stands there."""
        output = self.parts.store.redis.hget(self.parts.keys.run(run).output, todo)
        return {one["todo"]: one for one in json.loads(output)["predecessors"]}

    def path(self, run: str, todo: str, predecessor: str) -> Path:
        told = self.told(run, todo)[predecessor]
        assert told["path"], told.get("why")
        return Path(told["path"])

    def log(self, run: str, todo: str) -> str:
        return (self.state / "logs" / run / f"{todo}.log").read_text()


class World:
    """Where hosts and repositories are made, and a run of both."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        self.url = url
        self.settings = Settings()
        self.hosts: list[Host] = []
        self.remotes: dict[str, str] = {}

    def limit(self, limit_bytes: int) -> None:
        """From here on, for the hosts that are made."""
        self.settings = self.settings.model_copy(update={"bundle_limit_bytes": limit_bytes})

    def remote(self, name: str) -> Path:
        """What the file says is the repository's url."""
        path = self.folder / f"{name}.git"
        git(self.folder, "init", "-q", "--bare", str(path))
        self.remotes[name] = str(path)
        return path

    def clone(self, source: Path, place: str, *options: str) -> Path:
        path = self.folder / place
        git(self.folder, "clone", "-q", *options, f"file://{source}", str(path))
        return path

    def host(self, name: str, **repos: Path) -> Host:
        self.hosts.append(Host(self.folder / name, self.url, repos, self.settings))
        return self.hosts[-1]

    def repo(self, place: str) -> Path:
        path = self.folder / place
        path.mkdir(parents=True)
        git(path, "init", "-q", "-b", "main")
        (path / "first").write_text("first\n")
        git(path, "add", "first")
        git(path, "commit", "-q", "-m", "first")
        return path

    @property
    def parcels(self) -> Parcels:
        return self.hosts[0].parts.parcels

    def take_up(self, first: str, second: str) -> None:
        """As a retry does it: where the one stood, the other begins."""
        keys, client = Keys(self.settings.namespace), self.hosts[0].parts.goods
        client.copy(keys.run(first).bundle("up"), keys.run(second).bundle("up"))
        client.hset(keys.run(second).tips, mapping=client.hgetall(keys.run(first).tips))

    def run(self, todos: Todos, **more: Mapping[str, Any]) -> str:
        # A person's todo keeps the run open: with its end, what was carried goes.
        manual = {"OPEN": {"action": {"type": "manual"}}}
        declared = ecosystem({**todos, "OPEN": "up"}, **{**manual, **more})
        repos = tuple(Repo(name=repo.name, url=self.remotes.get(repo.name)) for repo in declared.repos)
        declared = declared.model_copy(update={"repos": repos})
        run, _ = submit(self.hosts[0].parts.store, build(declared, PLAN), declared, self.settings, order())
        return run


@pytest.fixture
def world(tmp_path: Path, tcp: str) -> Iterator[World]:
    made = World(tmp_path, tcp)
    yield made
    for host in made.hosts:
        host.parts.close()


def works(*names: str) -> dict[str, Mapping[str, Any]]:
    return {name: {"action": WRITES} for name in names}


def reads(*names: str) -> dict[str, Mapping[str, Any]]:
    return {name: {"action": READS} for name in names}


def tip(checkout: Path, run: str) -> str:
    return git(checkout, "rev-parse", f"coord/{run}")


def test_a_dependent_on_another_host_finds_exactly_the_commit_of_its_predecessor(world: World):
    mine, theirs = world.repo("a/up"), world.repo("b/down")
    a, b = world.host("a", up=mine), world.host("b", down=theirs)
    run = world.run({"T1": "up", "T2": ("down", ["T1"])}, **works("T1"), **reads("T2"))
    a.do(run, "T1", "up")
    b.do(run, "T2", "down")

    told = b.told(run, "T2")["T1"]
    path = Path(told["path"])
    assert told == {
        "todo": "T1", "repo": "up", "output": None, "branch": f"coord/{run}", "commit": tip(mine, run),
        "path": str(carried(b.state, run) / "up" / tip(mine, run)),
    }  # fmt: skip
    assert git(path, "rev-parse", "HEAD") == told["commit"] == git(path, "rev-parse", told["branch"])
    assert git(path, "status", "--porcelain", "--branch") == "## HEAD (no branch)"
    assert (path / "work").read_text() == "T1\n"
    assert git(path, "log", "--format=%s") == "T1: do T1\nfirst"
    assert not (path / ".git" / "hooks").exists()


def test_a_chain_of_commits_arrives_link_by_link_and_each_dependent_sees_what_it_was_told_to_wait_for(world: World):
    b = world.host("b", down=world.repo("b/down"), other=world.repo("b/other"))
    a = world.host("a", up=world.repo("a/up"))
    chain = {"T1": "up", "T2": ("up", ["T1"]), "T3": ("up", ["T2"])}
    run = world.run(
        {**chain, "early": ("down", ["T1"]), "late": ("other", ["T3"])}, **works(*chain), **reads("early", "late")
    )
    for todo in chain:
        a.do(run, todo, "up")
    b.do(run, "late", "other")
    b.do(run, "early", "down")

    late = b.told(run, "late")
    assert len({told["path"] for told in late.values()}) == 1, "the last commit contains the others"
    assert (Path(late["T1"]["path"]) / "work").read_text() == "T1\nT2\nT3\n"
    assert (b.path(run, "early", "T1") / "work").read_text() == "T1\n"
    lengths = [len(world.parcels.bundle(run, "up", told["commit"])) for told in late.values()]
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


def test_what_the_checkout_here_has_needs_no_parcel(world: World, redis_url: str):
    world.url = redis_url
    mine = world.repo("a/up")
    a = world.host("a", up=mine)
    run = world.run({"T1": "up"}, **works("T1"))
    a.do(run, "T1", "up")
    folder = Arrivals(world.parcels, world.folder / "b", {"up": mine}).folder(sought(mine, run))

    assert git(folder, "log", "--format=%s") == "T1: do T1\nfirst"
    assert git(folder, "count-objects") == "0 objects, 0 kilobytes", "all are lent"


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


def test_what_is_too_large_for_redis_goes_through_the_remote(world: World):
    bare = world.remote("up")
    world.limit(0)
    mine = world.repo("a/up")
    a, b = world.host("a", up=mine), world.host("b", down=world.repo("b/down"))
    run = world.run({"T1": "up", "T2": ("up", ["T1"]), "R": ("down", ["T2"])}, **works("T1", "T2"), **reads("R"))
    a.do(run, "T1", "up")
    a.do(run, "T2", "up")
    b.do(run, "R", "down")

    assert git(bare, "for-each-ref", "--format=%(refname)") == f"refs/heads/coord/{run}"
    assert world.parcels.bundle(run, "up", tip(mine, run)) == b""
    assert (b.path(run, "R", "T2") / "work").read_text() == "T1\nT2\n"


def test_a_commit_that_did_not_count_and_stands_on_the_remotes_branch_is_not_overwritten_and_in_nobodys_way(
    world: World,
):
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
    assert world.parcels.label(run, "up", commit).remote == Remote(f"coord/{run}-{commit[:12]}", str(bare))
    assert (b.path(run, "R", "T1") / "work").read_text() == "T1\n"


def test_what_fits_nowhere_is_told_to_the_todo_that_looks_for_it_and_in_its_log(world: World):
    world.limit(100)
    mine = world.repo("a/up")
    a, b = world.host("a", up=mine), world.host("b", down=world.repo("b/down"))
    run = world.run({"T1": "up", "T2": ("down", ["T1"])}, **works("T1"), **reads("T2"))
    a.do(run, "T1", "up")
    b.do(run, "T2", "down")

    told = b.told(run, "T2")["T1"]
    assert told["path"] is None
    assert told["why"].startswith(f"up: {tip(mine, run)[:12]} was not carried to other hosts: its history has ")
    assert "more than bundle_limit_bytes (100)" in told["why"]
    assert "up has no url to push to" in told["why"]
    assert f"[coord] {told['why']}\n" in b.log(run, "T2")


def test_a_push_that_fails_is_no_failure_of_the_todo_and_names_no_password(world: World):
    world.limit(0)
    world.remotes["up"] = "http://ann:secret@127.0.0.1:1/up.git"
    a, b = world.host("a", up=world.repo("a/up")), world.host("b", down=world.repo("b/down"))
    run = world.run({"T1": "up", "T2": ("down", ["T1"])}, **works("T1"), **reads("T2"))
    a.do(run, "T1", "up")
    b.do(run, "T2", "down")

    told = b.told(run, "T2")["T1"]
    assert told["path"] is None
    assert "it cannot be pushed to http://***@127.0.0.1:1/up.git: " in told["why"]
    assert "secret" not in told["why"]


def test_where_nothing_may_be_pushed_what_the_run_added_comes_through_redis_and_the_rest_from_the_url(world: World):
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
    run = world.run({"T1": "up", "T2": ("down", ["T1"])}, **works("T1"), **reads("T2"))
    a.do(run, "T1", "up")
    b.do(run, "T2", "down")

    path = b.path(run, "T2", "T1")
    assert git(path, "log", "--format=%s") == "T1: do T1\nlarge\nfirst"
    assert git(bare, "for-each-ref", "--format=%(refname)") == "refs/heads/main"


@pytest.mark.parametrize(("how", "history"), [("--depth=1", ["second"]), ("--filter=blob:none", ["second", "first"])])
def test_a_shallow_and_a_partial_clone_carry_what_the_run_added(world: World, how: str, history: list[str]):
    origin = world.repo("origin")
    git(origin, "config", "uploadpack.allowFilter", "true")
    git(origin, "commit", "-q", "--allow-empty", "-m", "second")
    mine, theirs = (world.clone(origin, f"{name}/up", how) for name in "ab")
    world.remotes["up"] = f"file://{origin}"
    (origin / ".git" / "hooks" / "update").write_text("#!/bin/sh\nexit 1\n")
    (origin / ".git" / "hooks" / "update").chmod(0o755)
    a, b = world.host("a", up=mine), world.host("b", up=theirs, down=world.repo("b/down"))
    run = world.run({"T1": "up", "T2": ("down", ["T1"])}, **works("T1"), **reads("T2"))
    a.do(run, "T1", "up")
    b.do(run, "T2", "down")

    path = b.path(run, "T2", "T1")
    assert git(path, "log", "--format=%s").splitlines() == ["T1: do T1", *history]
    assert (path / "first").read_text() == "first\n"


def test_a_bundle_that_is_damaged_on_its_way_is_a_sentence(world: World):
    mine = world.repo("a/up")
    a, b = world.host("a", up=mine), world.host("b", down=world.repo("b/down"))
    run = world.run({"T1": "up", "T2": ("down", ["T1"])}, **works("T1"), **reads("T2"))
    a.do(run, "T1", "up")
    commit = tip(mine, run)
    whole = world.parcels.bundle(run, "up", commit)
    world.parcels.put(run, "up", commit, whole[:-60] + b"\0" * 60, None)
    b.do(run, "T2", "down")

    told = b.told(run, "T2")["T1"]
    assert told["path"] is None
    assert told["why"].startswith(f"up: the bundle of {commit[:12]} is of no use: git bundle in ")
    assert "\n" not in told["why"]


def test_every_byte_of_a_bundle_survives(world: World):
    world.host("a")
    every = bytes(range(256)) * 3
    world.parcels.put("R", "up", "c1", every, "c0")

    assert world.parcels.bundle("R", "up", "c1") == every
    assert world.parcels.label("R", "up", "c1").since == "c0"
    assert world.parcels.bundle("R", "up", "c2") == b""


def test_arrivals_at_the_same_time_make_one_folder(world: World):
    mine = world.repo("a/up")
    a = world.host("a", up=mine)
    run = world.run({"T1": "up"}, **works("T1"))
    a.do(run, "T1", "up")
    arrivals = Arrivals(world.parcels, world.folder / "b", {})
    found: list[Path] = []
    threads = [
        threading.Thread(target=lambda: found.append(arrivals.folder(sought(mine, run))), daemon=True) for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert len(found) == 6
    assert len(set(found)) == 1
    assert sorted(path.name for path in found[0].parent.iterdir()) == sorted(["depot", "lock", tip(mine, run)])


def sought(checkout: Path, run: str) -> Sought:
    return Sought(run=run, repo="up", branch=f"coord/{run}", commit=tip(checkout, run))


ARRIVES = """
import sys
from pathlib import Path
from coordination.wire.connection import Profile, connect
from coordination.wire.keys import Keys
from workers.arrivals import Arrivals, Sought
from workers.parcels import Parcels
url, state, run, commit = sys.argv[1:]
parcels = Parcels(connect(url, Profile.FREIGHT), Keys("coord"))
Arrivals(parcels, Path(state), {}).folder(Sought(run=run, repo="up", branch="coord/" + run, commit=commit))
"""


def test_an_arrival_that_is_killed_leaves_nothing_that_is_used_and_nobody_meets_its_git(world: World):
    mine, pid = world.repo("a/up"), world.folder / "pid"
    (mine / ".gitattributes").write_text("* filter=slow\n")
    git(mine, "add", ".")
    git(mine, "commit", "-q", "-m", "filtered")
    a = world.host("a", up=mine)
    run = world.run({"T1": "up"}, **works("T1"))
    a.do(run, "T1", "up")
    config = world.folder / "home" / ".gitconfig"
    config.write_text(f'[filter "slow"]\nsmudge = "echo $$ > {pid}; exec sleep 300"\nrequired = true\n')
    words = [sys.executable, "-c", ARRIVES, world.url, str(world.folder / "b"), run, tip(mine, run)]
    arriving = subprocess.Popen(words)
    until(lambda: pid.exists() and pid.read_text().strip(), 30)
    arriving.kill()
    arriving.wait()
    config.write_text("")

    arrivals, found = Arrivals(world.parcels, world.folder / "b", {}), []
    waits = threading.Thread(target=lambda: found.append(arrivals.folder(sought(mine, run))), daemon=True)
    waits.start()
    home = carried(world.folder / "b", run) / "up"
    assert not (home / tip(mine, run)).exists()
    assert waits.is_alive(), "its git lives on, and holds the lock"
    os.killpg(os.getpgid(int(pid.read_text())), signal.SIGKILL)
    waits.join(60)

    assert git(found[0], "status", "--porcelain") == ""
    assert (found[0] / "work").read_text() == "T1\n"
    assert not (home / "new").exists()


def test_a_lock_that_is_never_given_back_is_a_sentence(world: World):
    mine = world.repo("a/up")
    a = world.host("a", up=mine)
    run = world.run({"T1": "up"}, **works("T1"))
    a.do(run, "T1", "up")
    home = carried(world.folder / "b", run) / "up"
    home.mkdir(parents=True)
    with (home / "lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(NotCarried, match="in use by another process"):
            Arrivals(world.parcels, world.folder / "b", {}, timedelta(0)).folder(sought(mine, run))


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


@pytest.mark.parametrize(("repo", "commit"), [("..", "0" * 40), ("a/b", "0" * 40), ("up", "../x"), ("up", "--all")])
def test_names_that_lead_elsewhere_are_refused(tmp_path: Path, world: World, repo: str, commit: str):
    world.host("a")
    with pytest.raises(NotCarried):
        Arrivals(world.parcels, tmp_path, {}).folder(Sought(run="R", repo=repo, branch="coord/R", commit=commit))
    assert not (tmp_path / "carried").exists()


def test_a_run_that_is_taken_up_on_another_host_goes_on_from_the_commit_that_was_carried(world: World):
    mine = world.repo("a/up")
    theirs = world.clone(mine, "b/up")
    a, b = world.host("a", up=mine), world.host("b", up=theirs)
    chain = {"T1": "up", "T2": ("up", ["T1"])}
    first = world.run(chain, **works(*chain))
    a.do(first, "T1", "up")
    a.do(first, "T2", "up")
    second = world.run({"T3": "up"}, **works("T3"))
    world.take_up(first, second)
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
    world.take_up(first, second)
    assert b.parts.attempts.carry_out(second, "T3", 1, "up").kind is Kind.FAILED

    why = b.parts.store.redis.hget(b.parts.keys.run(second).facts, "T3 error")
    assert f"commit {tip(mine, first)}, where the run stands, is not in " in why
    assert "was not carried to other hosts: its history has" in why


def test_what_a_retry_begins_with_is_carried_with_all_that_was_mended_since(world: World):
    mine = world.repo("a/up")
    a, b = world.host("a", up=mine), world.host("b", down=world.repo("b/down"))
    todos = {"T1": "up", "T2": ("up", ["T1"]), "T3": ("down", ["T2"])}
    first = world.run(todos, T2={"action": "exit 1", "retry": {"attempts": 1}}, **works("T1"), **reads("T3"))
    a.do(first, "T1", "up")
    assert a.parts.attempts.carry_out(first, "T2", 1, "up").kind is Kind.FAILED
    store = a.parts.store
    store.cancel(first, "the manual todo is of no interest here")
    (mine / "mended").write_text("on main\n")
    git(mine, "add", "mended")
    git(mine, "commit", "-q", "-m", "mended")

    ended = read(store, first)
    file = ecosystem(todos, **works("T1", "T2"), **reads("T3"))
    left = left_of(ended, file, world.settings, without=(), carried=restorable(store, ended))
    second, _ = take_up(store, left, world.settings, on_failure=None, max_parallel=None)
    a.do(second, "T2", "up")
    b.do(second, "T3", "down")

    assert b.told(second, "T3")["T1"]["branch"] == f"coord/{first}"
    arrived = b.path(second, "T3", "T2")
    assert git(arrived, "rev-parse", "HEAD") == tip(mine, second)
    assert (arrived / "work").read_text() == "T1\nT2\n"
    assert (arrived / "mended").read_text() == "on main\n"


def test_what_was_carried_is_kept_for_a_day_after_success_and_as_long_as_the_run_before(world: World):
    a = world.host("a", up=world.repo("a/up"))
    run = world.run({"T1": "up"}, **works("T1"))
    a.do(run, "T1", "up")
    key = a.parts.keys.run(run).bundle("up")
    assert a.parts.goods.ttl(key) == -1

    last = world.run({"T1": "up"}, OPEN={"action": "true"}, **works("T1"))
    a.do(last, "T1", "up")
    a.do(last, "OPEN", "up")
    assert 0 < a.parts.goods.ttl(a.parts.keys.run(last).bundle("up")) <= 24 * 3600


def test_a_user_of_redis_without_the_right_to_send_does_its_todos_all_the_same(world: World):
    a, b = world.host("a", up=world.repo("a/up")), world.host("b", down=world.repo("b/down"))
    a.parts.goods.execute_command("ACL", "SETUSER", "reader", "on", ">secret", "~*", "+@read", "+@connection")
    address = urlsplit(world.url)
    a.parts.goods = connect(f"redis://reader:secret@{address.hostname}:{address.port}", Profile.FREIGHT)
    run = world.run({"T1": "up", "T2": ("down", ["T1"])}, **works("T1"), **reads("T2"))
    a.do(run, "T1", "up")
    b.do(run, "T2", "down")

    assert "is not here, and no host has sent it" in b.told(run, "T2")["T1"]["why"]


def test_a_redis_that_is_away_is_waited_for(world: World, door: Door, caplog: pytest.LogCaptureFixture):
    mine, port = world.repo("a/up"), free()
    a = world.host("a", up=mine)
    a.parts.goods = connect(door.url(port), Profile.FREIGHT)
    run = world.run({"T1": "up"}, **works("T1"))
    does = threading.Thread(target=a.do, args=(run, "T1", "up"), daemon=True)
    does.start()
    until(lambda: "Redis does not answer, asking again" in caplog.text)
    with listening(leading_to(door.socket), port):
        does.join(60)

    assert world.parcels.label(run, "up", tip(mine, run)).bundled


def test_on_one_machine_nothing_is_sent(world: World, redis_url: str):
    world.url = redis_url
    a = world.host("a", up=world.repo("a/up"))
    run = world.run({"T1": "up"}, **works("T1"))
    a.do(run, "T1", "up")

    assert not a.parts.store.redis.exists(a.parts.keys.run(run).bundle("up"))
