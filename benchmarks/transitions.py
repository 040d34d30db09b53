"""How fast a run's steps are, and how often a worker asks Redis: `python -m benchmarks.transitions [--todos
N]`.

First the steps alone: N todos, each after up to three others, are claimed and settled by one client, one
after the other, on the embedded server (append-only file, appendfsync everysec). Beside it the same client's
plain SET, as often: `ratio` is how many SETs a claim with its settle takes.

Then 200 todos `true` in place, on ten repositories, by a real worker, with MONITOR on from the run's seal to
its end: what came over the wire, per todo. Promise 5 of coordination/runs is about the first rows: at most 3
round trips. Below them what it leaves apart. A pipeline's commands are one round trip; what a Lua step does
inside the server is none.
"""

from __future__ import annotations

import argparse
import re
import threading
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta

from benchmarks.clock import seconds
from benchmarks.testbed import PLAN, Testbed, testbed
from coordination.backend.client import Profile, connect
from coordination.backend.embedded import EmbeddedServer
from coordination.backend.keys import Keys
from coordination.backend.library import function
from coordination.backend.steps import STEPS
from coordination.models import Coordination, Ecosystem, OnFailure, Plan, Repo, ShellAction, Strategy, Todo
from coordination.planner.graph import build
from coordination.runs.records import Result, TodoState
from coordination.runs.store import RunStore
from coordination.runs.submission.order import Order
from coordination.runs.views.run_events import follow
from coordination.settings import Settings
from tests.engine import submit

REAL_TODOS, REAL_REPOS = 200, 10
TRUE = ShellAction(type="shell", run="true")
LEASE = timedelta(minutes=1)
SETTINGS = Settings()
KEYS = Keys(SETTINGS.namespace)
THE_END = "the-end"
HEARTBEATS, KEEPER, NOTHING = "heartbeats", "keeper: timers, reaper, its lock", "not counted"
KEEPS = ("advance", "fire", "lose", "resend")
PURPOSES = (  # the first words of a command that is no step
    (r"HMGET \S+:output ", "outputs of predecessors"),
    (r"HMGET \S+:results ", NOTHING),  # in the same pipeline
    (r"HMGET \S+:facts ", NOTHING),  # the second half of the same pipeline
    (r"(XREAD|ZREVRANGE) ", NOTHING),  # ours: we wait for the end of the run
    (r"HGET \S+:meta brief", "brief, once for a run"),
    (r"XADD \S+:log:", "log chunks"),
    (r"(SET|ZADD|ZREMRANGEBYSCORE) \S+:worker", HEARTBEATS),
    (r"(TIME|INFO|(HGET|HSET|HINCRBY) \S+:epoch|ZRANGE \S+:live|ZRANGEBYSCORE \S+:|HM?GET \S+:meta)", KEEPER),
    (r"PUBLISH ", "the transport's events for Flower"),
    (r"(MULTI|EXEC|\w+ (\d+ )?(_kombu\.|\w+\.)|FCALL \S+ \d+ \w+\.)", "the transport's messages (commands)"),
    (r"(HELLO|CLIENT|PING|AUTH|SELECT|FUNCTION)", "new connections, loading of steps"),
)
PROMISED = ("claim", "outputs of predecessors", "settle")


def before(i: int) -> list[str]:
    """Up to three todos that stand before todo `i`, in other repositories."""
    return [f"t{i - back}" for back in (13, 17, 29) if i >= back]


def measure_steps(store: RunStore, n: int) -> None:
    todos = tuple(
        Todo(
            id=f"t{i}", task="nothing", repo=f"repo-{i}", plan=PLAN, blocked_by=tuple(before(i)), action=TRUE
        )
        for i in range(n)
    )
    eco = Ecosystem(
        repos=tuple(Repo(name=todo.repo) for todo in todos),
        coordination=Coordination(plans=(Plan(id=PLAN, title="a benchmark"),), todos=todos),
    )
    order = Order(
        strategy=Strategy.DATAFLOW, reason="", on_failure=OnFailure.HALT, max_parallel=None, actor="benchmark"
    )
    run_id, _ = submit(store, build(eco, PLAN), eco, SETTINGS, order)

    def carry_out() -> None:
        for todo in todos:
            grant = store.claim(run_id, todo.id, 1, worker="w", host="h", lease=LEASE).grant
            assert grant is not None
            assert store.settle(grant, Result(outcome=TodoState.SUCCEEDED, exit_code=0)).word == "settled"

    def plain() -> None:
        for i in range(n):
            store.redis.set("plain", i)

    took, floor = seconds(carry_out), seconds(plain)
    assert store.status(run_id) == "succeeded"
    print(
        f"claim and settle   {n / took:8,.0f} a second   {1000 * took / n:6.3f} ms   "
        f"{took / floor:4.1f} x SET"
    )
    print(f"plain SET          {n / floor:8,.0f} a second   {1000 * floor / n:6.3f} ms")


def measure_worker(place: Testbed, url: str) -> None:
    names = [f"repo-{i}" for i in range(REAL_REPOS)]
    for name in names:
        (place.folder / name).mkdir()
    todos = [
        {
            "id": f"t{i}",
            "task": "nothing",
            "repo": names[i % REAL_REPOS],
            "action": "true",
            "workspace": "in-place",
            "blocked_by": before(i),
        }
        for i in range(REAL_TODOS)
    ]
    place.declare(names, todos)
    place.coord("up", "--detach", "--no-flower")
    seen: Counter[str] = Counter()
    with connect(url, Profile.READER) as client, client.monitor() as monitor:
        watcher = threading.Thread(target=lambda: seen.update(observed(monitor.listen())))
        watcher.start()
        place.coord("sweep", PLAN, "--strategy", "dataflow", "--detach")
        run_id = client.zrevrange(KEYS.runs, 0, 0)[0]
        for _ in follow(client, KEYS, run_id):
            pass
        client.echo(THE_END)
        watcher.join()
    print_counts(seen)


def observed(commands: Iterator[dict[str, str]]) -> Iterator[str]:
    """Purpose of each command between seal and end."""
    names = {function(name): name for name in STEPS}
    sealed = False
    for shown in commands:
        if shown["client_type"] == "lua":
            continue
        words = shown["command"].split(" ")
        if words == ["ECHO", THE_END]:
            return
        name = names.get(words[1], "") if words[0].upper() == "FCALL" else ""
        if sealed:
            yield purpose(name, words)
        sealed = sealed or name == "run/seal"


def purpose(step: str, words: list[str]) -> str:
    if step:
        room, _, deed = step.partition("/")
        return {"lease": HEARTBEATS, "lock": KEEPER, "quick": KEEPER}.get(
            room, KEEPER if deed in KEEPS else deed
        )
    line = " ".join(words)
    return next((what for pattern, what in PURPOSES if re.match(pattern, line)), " ".join(words[:2]))


def print_counts(seen: Counter[str]) -> None:
    del seen[NOTHING]
    promised = {what: seen.pop(what, 0) for what in PROMISED}
    print(f"\n{REAL_TODOS} todos by a worker, per todo")
    for what, n in promised.items():
        print(f"{what:<42} {n / REAL_TODOS:6.2f}")
    print(
        f"{'sum: round trips of a todo':<42} {sum(promised.values()) / REAL_TODOS:6.2f}   promised: at most 3"
    )
    for what, n in seen.most_common():
        print(f"{what:<42} {n / REAL_TODOS:6.2f}")


def main(n: int) -> None:
    with testbed() as place:
        server = EmbeddedServer(place.state, SETTINGS)
        url = server.start()
        try:
            with connect(url, Profile.WORKER) as client:
                measure_steps(RunStore(client, "steps"), n)
            measure_worker(place, url)
        finally:
            server.stop()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.transitions", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("--todos", type=int, default=2000, metavar="N")
    main(parser.parse_args().todos)
