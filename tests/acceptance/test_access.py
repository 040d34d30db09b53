"""A Redis where everybody has a user of their own, written by `coord acl`: the work is done, and nobody can
do more than their role needs.
"""

from __future__ import annotations

import json
import sys
import urllib.request
from base64 import b64encode
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import redis

from coordination.backend.client import Profile, connect
from coordination.backend.daemon import alive
from coordination.backend.embedded import server_binary
from coordination.backend.keys import Keys
from coordination.backend.library import function
from coordination.runs.remote_steps.calls import ProxyStore
from tests.acceptance.gate import Gate
from tests.ports import free_port
from tests.testbed import Begun, Done, Testbed
from tests.waiting import until

PASSWORD = "only-for-tests"
KEYS = Keys("coord")
SOON = timedelta(seconds=5)
USERS = {
    "submitter": ("--role", "submitter"),
    "keeper": ("--role", "keeper"),
    "flower": ("--role", "flower"),
    "alpha": ("--role", "worker", "--repo", "alpha"),
    "beta": ("--role", "worker", "--repo", "beta"),
}
SEES_IT = (
    "import json, os; (before,) = json.load(open(os.environ['COORD_CONTEXT']))['predecessors']; "
    "assert before['output'] == {'x': 1}; print(open(before['path'] + '/made').read())"
)
PLAN = [
    {
        "id": "A1",
        "repo": "alpha",
        "action": "echo ours > made; echo '{\"x\": 1}' > $COORD_OUTPUT; echo hello",
    },
    {"id": "B1", "repo": "beta", "blocked_by": ["A1"], "action": [sys.executable, "-c", SEES_IT]},
    {"id": "B2", "repo": "beta"},
    {"id": "A2", "repo": "alpha", "blocked_by": ["B1", "B2"]},
]


WAITS_FOR_B2 = 'while [ ! -e "$LEDGER.b2" ]; do sleep 0.02; done'
"""A failure lets running todos finish and starts no others, so the other todo of the level must have begun.
"""


class Guarded:
    """The server, a keeper, Flower, a worker of each of two repositories on a machine of its own, and where
    one sweeps from.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.testbeds = folder, []
        self.port = free_port()
        (folder / "password").write_text(PASSWORD + "\n")
        self.laptop = self.testbed("submitter", "submitter")
        lines = [
            self.laptop.ok("acl", *words, "--user", name, "--password-file", "../password").out
            for name, words in USERS.items()
        ]
        (folder / "users.acl").write_text("user default off\n" + "".join(lines))
        listen = ("--bind", "127.0.0.1", "--port", str(self.port), "--aclfile", str(folder / "users.acl"))
        self.server = Begun([server_binary(), *listen, "--appendonly", "yes", "--save", ""], cwd=folder)
        self.server.says("Ready to accept connections")
        self.keepers = self.testbed("keeper", "keeper")
        self.keeper = self.keepers.begin("keeper")
        with self.client("keeper") as client:
            # a worker that nobody answers does not stay
            until(lambda: client.exists(KEYS.locks.holder("lock:keeper")))
        for name in ("alpha", "beta"):
            self.worker(name, name)

    def url(self, user: str) -> str:
        return f"redis://{user}:{PASSWORD}@127.0.0.1:{self.port}/0"

    def testbed(self, name: str, user: str, **env: str) -> Testbed:
        (self.folder / name).mkdir()
        made = Testbed(self.folder / name, env={"COORD_REDIS_URL": self.url(user), **env})
        self.testbeds.append(made)
        return made

    def worker(self, repo: str, user: str, restricted: str = "true") -> Begun:
        machine = self.testbed(
            f"{repo}-of-{user}-{restricted}", user, COORD_HOST=f"host-{repo}", COORD_RESTRICTED=restricted
        )
        machine.repo(repo)
        return machine.begin("worker", "--repo", f"{repo}={repo}")

    def client(self, user: str) -> redis.Redis:
        return connect(self.url(user), Profile.COMMAND)

    def store(self, repo: str) -> ProxyStore:
        """As somebody has it who has a worker's user and writes requests of their own."""
        return ProxyStore(self.client(repo), "coord", [repo])

    def swept(self, strategy: str = "dataflow") -> Done:
        self.laptop.write(PLAN, plan={"strategy": strategy})
        return self.laptop.sweep()

    def end(self) -> None:
        for testbed in self.testbeds:
            testbed.end()
        self.server.kill()
        self.server.wait()


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    made = Guarded(tmp_path_factory.mktemp("guarded"))
    yield made
    made.end()


@pytest.fixture(scope="module")
def run(guarded: Guarded) -> str:
    """One that has succeeded."""
    swept = guarded.swept()
    assert swept.code == 0, swept.err
    run_id: str = swept.json["run_id"]
    return run_id


@pytest.mark.parametrize("strategy", ["levels", "dataflow"])
def test_workers_of_two_repositories_carry_out_a_plan_that_depends_across_them(
    guarded: Guarded, strategy: str
):
    swept = guarded.swept(strategy)

    assert swept.code == 0, swept.err
    assert swept.json["strategy"] == strategy
    assert set(swept.states.values()) == {"succeeded"}
    hosts = {todo["repo"]: todo["worker"].partition("@")[2] for todo in swept.json["todos"]}
    assert hosts == {"alpha": "host-alpha", "beta": "host-beta"}
    assert guarded.laptop.ok("logs", "last", "A1").out.splitlines()[-1] == "hello"


def test_a_todo_that_fails_ends_its_level_and_what_depends_on_it(guarded: Guarded):
    fails = {"id": "F", "repo": "alpha", "action": f"{WAITS_FOR_B2}; exit 3"}
    others = ({**PLAN[2], "action": 'touch "$LEDGER.b2"'}, {**PLAN[3], "blocked_by": ["F", "B2"]})
    guarded.laptop.write([fails, *others], plan={"strategy": "levels"})

    swept = guarded.laptop.sweep()

    assert swept.code == 3
    assert swept.states == {"F": "failed", "B2": "succeeded", "A2": "skipped"}
    assert swept.todo("F")["exit_code"] == 3
    again = guarded.laptop.coord("retry", "last", "--json")
    assert again.code == 3, again.err
    assert again.states == swept.states


def test_a_restricted_worker_hears_at_once_that_a_run_was_cancelled_and_stops_its_command(guarded: Guarded):
    gate = Gate(guarded.folder, "heard")
    guarded.laptop.write([{"id": "LONG", "repo": "alpha", "action": gate.action}])
    guarded.laptop.ok("sweep", "PLAN-001", "--detach")
    shell = gate.wait()
    with guarded.client("alpha") as client, client.pubsub(ignore_subscribe_messages=True) as ear:
        ear.subscribe(KEYS.messages.mail(f"worker:{guarded.laptop.todo('LONG')['worker']}"))
        ear.get_message(timeout=60)  # the confirmation of the subscription

        guarded.laptop.ok("cancel", "last")

        assert until(lambda: ear.get_message(timeout=1))["data"] == "", "and nothing of what it is"
    guarded.laptop.coord("watch", "last")
    assert guarded.laptop.todo("LONG")["state"] == "cancelled"
    until(lambda: not alive(shell))


def test_a_keeper_that_is_killed_is_replaced_and_the_run_goes_on(guarded: Guarded):
    gate = Gate(guarded.folder, "killed")
    long = {"id": "LONG", "repo": "alpha", "action": gate.action}
    guarded.laptop.write([long, {"id": "NEXT", "repo": "beta", "blocked_by": ["LONG"]}])
    sweep = guarded.laptop.begin("sweep", "PLAN-001", "--json")
    gate.wait()

    guarded.keeper.kill()
    gate.open()
    guarded.keeper = guarded.keepers.begin("keeper")

    assert sweep.done().states == {"LONG": "succeeded", "NEXT": "succeeded"}


def test_the_submitter_has_every_handle(guarded: Guarded, run: str):
    for words in (
        "list-runs",
        f"watch {run}",
        f"logs {run} A1",
        "sweep PLAN-001 --dry-run",
        f"show-run {run}",
    ):
        guarded.laptop.ok(*words.split())
    gate = Gate(guarded.folder, "steered")
    first = {"id": "S1", "repo": "alpha", "action": gate.action}
    guarded.laptop.write([first, {"id": "S2", "repo": "alpha", "blocked_by": ["S1"]}])
    guarded.laptop.ok("sweep", "PLAN-001", "--detach")
    gate.wait()

    guarded.laptop.ok("run", "pause", "last")
    guarded.laptop.ok("run", "resume", "last")
    gate.open()
    guarded.laptop.ok("watch", "last")
    guarded.laptop.ok("doctor")
    # A keeper that another test has killed is asked as well, and does not answer, until its last heartbeat is
    # too old.
    until(lambda: guarded.laptop.coord("run", "clean", "last", "--yes", "--unmerged").code == 0)


def test_flower_shows_workers_and_todos_to_a_user_that_can_tell_nobody_anything(guarded: Guarded):
    port = free_port()
    guarded.testbed("flower", "flower", COORD_FLOWER_AUTH="user:password").begin(
        "flower", "--port", str(port)
    )

    def page(path: str) -> Any:
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}{path}",
            headers={"Authorization": "Basic " + b64encode(b"user:password").decode()},
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return json.load(answer)
        except OSError:  # it is not there yet
            return {}

    def seen() -> set[str]:
        return {row["hostname"].partition("@")[2] for row in page("/workers?json=1").get("data", [])}

    until(lambda: {"host-alpha", "host-beta"} <= seen())
    run_id = guarded.swept().json["run_id"]
    until(lambda: page("/api/tasks").get(f"{run_id}.A2", {}).get("state") == "SUCCESS")


def test_a_client_without_a_user_name_is_locked_out(guarded: Guarded):
    with pytest.raises(redis.AuthenticationError):
        connect(guarded.url("alpha").replace(f"alpha:{PASSWORD}@", ""), Profile.COMMAND).get("coord:fence")


@pytest.mark.parametrize(
    ("repo", "restricted", "hint"),
    [("beta", "true", "coord acl --role worker --repo beta"), ("alpha", "false", "COORD_RESTRICTED=true")],
)
def test_a_worker_with_the_user_of_another_repository_or_without_the_setting_says_what_to_do(
    guarded: Guarded, repo: str, restricted: str, hint: str
):
    refused = guarded.worker(repo, "alpha", restricted).done()

    assert (refused.code, hint in refused.err) == (7, True), refused.err


RUN = KEYS.run("{run}")
BETA = KEYS.restricted(["beta"])
QUEUES = (
    *(KEYS.queue("beta"), KEYS.queue("beta", "host-beta"), KEYS.control_queue),
    *(KEYS.unacked, BETA.poison),
)
PARTS = ("meta", "spec", "descriptor", "state", "facts", "tips", "output")
FORBIDDEN: dict[str, list[tuple[str | int, ...]]] = {
    "alpha": [
        *[
            (*words[:1], queue, *words[1:])
            for queue in QUEUES
            for words in (("LPUSH", "x"), ("LRANGE", 0, -1), ("LLEN",), ("RPOP",), ("BRPOP", 1), ("DEL",))
        ],
        ("RENAME", KEYS.queue("alpha"), KEYS.queue("beta")),
        ("LMOVE", KEYS.queue("beta"), KEYS.queue("alpha"), "LEFT", "LEFT"),
        ("HGETALL", BETA.unacked),
        ("BLPOP", BETA.reply("q"), 1),
        ("SADD", "_kombu.binding.coord.repo.beta", "x"),
        *[("HGETALL", f"coord:run:{{run}}:{part}") for part in (*PARTS, "children")],
        *[("HSET", f"coord:run:{{run}}:{part}", "A1", "x") for part in PARTS],
        *[("HGET", f"coord:run:{{run}}:{part}", "A1") for part in PARTS],
        *[
            (*words[:1], RUN.log(todo), *words[1:])
            for todo in ("A1", "B1")
            for words in (("XRANGE", "-", "+"), ("XADD", "*", "text", "x"), ("DEL",))
        ],
        ("XADD", RUN.events, "*", "what", "run.ended"),
        ("HSET", RUN.bundle("beta"), "x", "y"),
        ("DEL", RUN.bundle("beta")),
        *[(word, RUN.bundle("beta")) for word in ("HGETALL", "HKEYS", "HVALS", "HLEN", "HRANDFIELD", "DUMP")],
        ("HSCAN", RUN.bundle("beta"), 0),
        ("ZRANGE", KEYS.leases, 0, -1),
        ("ZADD", KEYS.leases, 0, "{run} B1"),
        ("HGET", KEYS.holders, "{run} B1"),
        ("SET", KEYS.fence, 1),
        ("SET", KEYS.locks.holder("lock:keeper"), "x"),
        ("GET", KEYS.worker("w")),
        ("EVAL", "return redis.call('HGETALL', KEYS[1])", 1, RUN.state),
        ("EVAL", f"return redis.call('LPUSH', '{KEYS.queue('beta')}', 'x')", 0),
        ("SCRIPT", "LOAD", "while true do end"),
        ("EVALSHA", "0" * 40, 0),
        ("FUNCTION", "LOAD", "#!lua name=x"),
        ("PUBLISH", "/0.celery.pidbox", "x"),
        ("PUBLISH", KEYS.messages.mail("worker:w"), "x"),
        ("PUBLISH", KEYS.messages.mail("topic:workers"), "x"),
        ("SUBSCRIBE", KEYS.messages.mail("repo:beta")),
        ("XRANGE", f"{KEYS.messages.head}inbox:worker:w", "-", "+"),
        ("ZRANGE", KEYS.messages.ready("worker:w"), 0, -1),
        ("ZADD", KEYS.messages.recipients, 0, "worker:w"),
        ("XADD", KEYS.events.lasting, "*", "kind", "run.ended", "at", "1"),
        ("XRANGE", KEYS.events.lasting, "-", "+"),
        ("FCALL", function("event/append"), 1, KEYS.events.head, "run.ended", "x"),
        ("PUBLISH", BETA.requests, "x"),
        ("SUBSCRIBE", BETA.requests),
        ("SUBSCRIBE", "/0.celery.pidbox"),
        ("PSUBSCRIBE", KEYS.all_requests),
        ("PSUBSCRIBE", "/0.celeryev/*"),
        ("PSUBSCRIBE", "*"),
    ],
    "flower": [
        ("LRANGE", KEYS.queue("beta"), 0, -1),
        ("DEL", KEYS.queue("beta")),
        ("LPUSH", KEYS.control_queue, "x"),
        ("SADD", "_kombu.binding.coord.repo.beta", "x"),
        ("HGETALL", RUN.state),
        ("PUBLISH", "/0.celery.pidbox", "x"),
        ("PUBLISH", "/0.celeryev/worker.online", "x"),
        ("PUBLISH", KEYS.messages.mail("worker:w"), "x"),
        ("PSUBSCRIBE", KEYS.all_requests),
    ],
    "submitter": [
        ("GET", "other:key"),
        ("LPUSH", "other.repo.beta", "x"),
        ("PUBLISH", "/0.celery.pidbox", "x"),
        ("PSUBSCRIBE", "*"),
    ],
    "keeper": [("GET", "other:key"), ("LPUSH", "other.repo.beta", "x"), ("PUBLISH", "/0.celery.pidbox", "x")],
}
ADMINISTRATION = [
    line.split()
    for line in (
        *("KEYS *", "SCAN 0", "RANDOMKEY", "FLUSHALL", "FLUSHDB", "SWAPDB 0 1", "MONITOR", "SLOWLOG GET"),
        *("CONFIG GET *", "CONFIG SET requirepass x", "ACL LIST", "ACL SETUSER alpha +@all", "CLIENT LIST"),
        *("CLIENT KILL TYPE normal", "SCRIPT FLUSH", "FUNCTION FLUSH", "REPLICAOF NO ONE", "SAVE"),
        "SHUTDOWN NOSAVE",
    )
]


@pytest.mark.parametrize("user", FORBIDDEN)
def test_what_is_beyond_a_role_is_refused_by_redis(guarded: Guarded, run: str, user: str):
    permitted = []
    with guarded.client(user) as client:
        for words in [*FORBIDDEN[user], *ADMINISTRATION]:
            command = [word.replace("{run}", run) if isinstance(word, str) else word for word in words]
            if refusal(client, command) is None:
                permitted.append(command)

    assert permitted == []
    assert guarded.swept().code == 0  # and nothing has come of it


def refusal(client: redis.Redis, command: list[str | int]) -> str | None:
    """In Redis' words; None where there was none."""
    try:
        client.execute_command(*command)
    except redis.ResponseError as error:
        return str(error) if "permission" in str(error) else None
    return None


def test_a_bundle_of_another_repository_is_read_by_who_knows_its_commit_alone(guarded: Guarded, run: str):
    with guarded.client("alpha") as client:
        assert client.hexists(RUN.bundle("beta").replace("{run}", run), "0" * 40) is False
        assert client.hget(RUN.bundle("beta").replace("{run}", run), "0" * 40) is None
