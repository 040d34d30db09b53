"""People see who holds what and who waits, and take a lock from somebody who is gone: by command, and on
record.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from datetime import timedelta

import pytest

from coordination.backend.client import Profile, connect
from coordination.backend.keys import Keys
from coordination.locks import LockManager, Owner
from coordination.locks.request import COMPUTED, LEADER, RESULT, START
from tests.agent import agent_of
from tests.lock_requests import ask
from tests.terminals import typing_on_terminal
from tests.testbed import Testbed

FILE = """\
repos: [{name: api, path: api}]
resources: [{name: staging, type: database}, {name: gpu, capacity: 4}, {name: idle, type: api, capacity: 9}]
"""
TTL = timedelta(seconds=60)
KEYS = Keys("coord").locks


@pytest.fixture
def laptop(testbed: Testbed, redis_url: str) -> Testbed:
    testbed.file.write_text(FILE)
    testbed.env = {"COORD_REDIS_URL": redis_url}
    return testbed


@pytest.fixture
def locks(redis_url: str) -> Iterator[LockManager]:
    with connect(redis_url, Profile.WORKER) as redis:
        made = LockManager(redis, "coord")
        yield made
        made.close()


@pytest.fixture
def far(redis_url: str) -> Iterator[LockManager]:
    """Somebody on another host."""
    with connect(redis_url, Profile.WORKER) as redis:
        owner = Owner(host="anvil", pid=12, started="then", thread=12, label="nightly")
        made = LockManager(redis, "coord", owner=owner)
        yield made
        made.close()


@pytest.fixture
def dead(redis_url: str) -> Iterator[LockManager]:
    """Somebody of this host who is gone: Linux gives no process so high a pid."""
    with connect(redis_url, Profile.WORKER) as redis:
        owner = Owner(host=socket.gethostname(), pid=4_194_304, started="then", thread=1, label="crashed")
        made = LockManager(redis, "coord", owner=owner)
        yield made
        made.close()


def parked(redis_url: str, want: str) -> None:
    """A todo that waits, as a run asks for it."""
    member = "20261121-1 TODO-7"
    with connect(redis_url, Profile.WORKER) as redis:
        ask(redis, member, want, namespace="coord", ttl_ms=0, kind="todo")


def test_a_table_says_who_holds_a_lock_and_for_how_long(laptop: Testbed, far: LockManager, dead: LockManager):
    lock = far.acquire("deploy", ttl=TTL)
    dead.acquire("docs", ttl=TTL, keep=False)

    listed = laptop.coord("lock", "list", "--wide")

    head, first, second = listed.out.splitlines()
    assert head.split() == ["LOCK", "HOLDER", "AGE", "TTL", "FENCE"]
    assert first.startswith("deploy  process 12 on anvil (nightly)")
    assert str(lock.fence) in first
    assert "(crashed), gone" in second
    assert "Redis has lost nothing since" in listed.err


def test_json_has_every_fact_apart_and_todos_that_wait(laptop: Testbed, far: LockManager, redis_url: str):
    far.resources.declare({"gpu": 4})
    with far.acquire("deploy", ttl=TTL) as lock, far.resources.acquire("gpu", 3):
        parked(redis_url, "2/0 resource:gpu")

        deploy, gpu = laptop.coord("lock", "list", "--json").json

        assert (deploy["what"], deploy["epoch"]) == ("lock:deploy", lock.epoch)
        (holder,) = deploy["holders"]
        assert (holder["host"], holder["pid"], holder["label"], holder["fence"]) == (
            "anvil",
            12,
            "nightly",
            lock.fence,
        )
        assert 0 < holder["ttl_left_s"] <= 60
        assert (gpu["what"], gpu["capacity"], gpu["holders"][0]["amount"]) == ("resource:gpu", 4, 3)
        assert [waiter["who"] for waiter in gpu["waiters"]] == ["TODO-7 of run 20261121-1"]
        assert "TODO-7 of run 20261121-1" in laptop.coord("lock", "list").out


INTERNAL = (START, LEADER, f"{RESULT}1f0c", f"{COMPUTED}77aa")


def test_locks_that_coord_takes_for_itself_are_hidden_unless_all_are_asked_for(
    laptop: Testbed, far: LockManager, redis_url: str
):
    for name in ("deploy", "cached", *INTERNAL):
        far.acquire(name, ttl=TTL)

    shown, every = (
        [held["name"] for held in laptop.ok("lock", "list", "--json", *more).json] for more in ([], ["--all"])
    )
    people = laptop.ok("lock", "list")

    assert shown == ["cached", "deploy"]
    assert set(every) == {"deploy", "cached", *INTERNAL}
    assert f"{len(INTERNAL)} internal locks hidden: coord lock list --all" in people.err
    assert not any(line.startswith(INTERNAL) for line in people.out.splitlines())
    assert "hidden" not in laptop.ok("lock", "list", "--all").err
    with agent_of(laptop.file, redis_url) as ai:
        _, deploy = ai.call("coord_lock_list")["result"]
        assert deploy["holders"][0]["who"] == "process 12 on anvil (nightly)"
        assert ai.call("coord_lock_list", internal=True)["total"] == 2 + len(INTERNAL)


def test_resources_of_the_file_are_shown_with_their_use(laptop: Testbed, locks: LockManager, redis_url: str):
    locks.resources.declare({"gpu": 4, "staging": 1})
    with locks.resources.acquire("gpu", 3):
        parked(redis_url, "2/0 resource:gpu")

        staging, gpu, idle = laptop.coord("resource", "list", "--json").json
        table = laptop.coord("resource", "list").out.splitlines()

    assert (gpu["type"], gpu["capacity"], gpu["used"], gpu["waiting"]) == ("custom", 4, 3, 1)
    assert 0 < gpu["utilisation"] <= 0.75
    assert gpu["longest_wait_s"] >= 0
    assert (staging["type"], staging["used"], staging["waiting"]) == ("database", 0, 0)
    assert (idle["capacity"], idle["used"]) == (9, 0), "no run has needed it yet"
    assert table[0].split()[:5] == ["RESOURCE", "TYPE", "CAPACITY", "USED", "WAITING"]
    assert len(table) == 4


def test_a_lock_of_a_process_that_is_gone_is_released_and_noted(laptop: Testbed, dead: LockManager):
    lock = dead.acquire("deploy", ttl=TTL, keep=False)

    done = laptop.coord("lock", "release", "deploy", "--yes", "--json")

    assert (done.code, done.json[0]["holders"][0]["label"]) == (0, "crashed")
    assert not lock.renew()
    assert laptop.coord("lock", "list", "--json").json == []
    (noted,) = laptop.coord("lock", "released", "--json").json
    assert (noted["what"], noted["label"], noted["fence"]) == ("lock:deploy", "crashed", lock.fence)
    assert noted["by"].endswith(f"@{socket.gethostname()}")
    assert "(crashed)" in laptop.coord("lock", "released").out
    assert laptop.coord("lock", "released", "--format", "{what} {label}").out == "lock:deploy crashed\n"


def test_a_living_holder_keeps_its_lock_unless_it_is_forced(laptop: Testbed, far: LockManager):
    lock = far.acquire("deploy", ttl=TTL)

    unasked = laptop.coord("lock", "release", "deploy", "--force")
    refused = laptop.coord("lock", "release", "deploy", "--yes")
    assert lock.renew()
    forced = laptop.coord("lock", "release", "deploy", "--yes", "--force")

    assert unasked.code == 2
    assert "coord lock release deploy --force --yes" in unasked.err
    assert refused.code == 6
    assert "deploy is held by process 12 on anvil (nightly)" in refused.err
    assert "--force" in refused.err
    assert forced.code == 0
    assert not lock.renew()


def test_where_there_is_nothing_to_list_that_is_said(laptop: Testbed, redis_url: str):
    for words, told in (
        ("list", "no lock is held; see also: coord lock list --resources\n"),
        ("list --resources", "nothing is held; see also: coord lock list --resources\n"),
        ("released", "no lock was released by force; see the held ones: coord lock list\n"),
    ):
        listed = laptop.coord("lock", *words.split())
        assert (listed.code, listed.out, listed.err) == (0, "", told)
    laptop.file.write_text("repos: [{name: api, path: api}]\n")
    listed = laptop.coord("resource", "list")
    assert (listed.code, listed.out, listed.err) == (
        0,
        "",
        "the file declares no resource; declare one: coord help file\n",
    )


@pytest.mark.parametrize("name", ["--x", "ü*[a] %s'\""])
def test_a_lock_of_any_name_is_released_by_it(laptop: Testbed, far: LockManager, name: str):
    lock = far.acquire(name, ttl=TTL)
    neighbour = far.acquire("x", ttl=TTL)

    done = laptop.coord("lock", "release", "--force", "--yes", "--", name)

    assert (done.code, done.err.count(name)) == (0, 1)
    assert not lock.renew()
    assert neighbour.renew()


@pytest.mark.parametrize("name", ["", "\x1b[2J" + "x" * 10_240])
def test_what_is_no_name_is_a_usage_error_of_a_line(laptop: Testbed, name: str):
    refused = laptop.coord("lock", "release", "--yes", "--", name)

    assert refused.code == 2
    assert "lock's name" in refused.err
    assert len(refused.err) < 200


def test_a_resource_named_like_a_lock_is_refused_with_its_full_name(laptop: Testbed, far: LockManager):
    far.resources.declare({"gpu": 1})
    with far.resources.acquire("gpu"):
        refused = laptop.coord("lock", "release", "gpu", "--yes", "--force")

    assert refused.code == 2
    assert "coord lock release resource:gpu" in refused.err


@pytest.mark.parametrize(("answer", "code", "kept"), [("n", 1, True), ("y", 0, False)])
def test_on_a_terminal_it_asks(laptop: Testbed, far: LockManager, answer: str, code: int, kept: bool):
    lock = far.acquire("deploy", ttl=TTL)
    ended, asked = typing_on_terminal(
        laptop, "lock", "release", "deploy", "--force", after={"release it?": f"{answer}\n"}
    )

    assert (ended, "release it?" in asked) == (code, True)
    assert lock.renew() is kept
