"""A todo with a `cache` runs again only where something that counts is another; else it is given what the
earlier one came to.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest

from coordination.backend.keys import member
from coordination.cache import Store
from coordination.locks import LockManager
from coordination.models import Repo, Workspace
from coordination.runs.records import TodoState
from coordination.runs.views.records import Source, TodoView
from coordination.settings import Settings
from tests.engine import submit, view_of
from tests.plans import ecosystem, graph, order
from tests.testbed import git
from tests.waiting import until
from workers.attempt.result_cache import CachedResult
from workers.config import WorkerConfig
from workers.container import Container
from workers.task_result import TaskResult, TaskResultKind

BODY = """
echo ran >> $LEDGER
printf 'a\\0b' > picture; mkdir -p deep; echo new > "deep/a file"; chmod +x "deep/a file"
ln -s README link; rm gone
echo '{"n": [1, "é"]}' > $COORD_OUTPUT
"""

WAITING = (
    "echo ran >> $LEDGER; while test ! -e $LEDGER.go; do sleep 0.02; done; echo 1 > work; "
    "echo 7 > $COORD_OUTPUT"
)


@dataclass
class Bench:
    """One repository and its worker, without Celery: what a run delivers is carried out here, one after the
    other.
    """

    folder: Path
    url: str
    settings: Settings = field(default_factory=lambda: Settings(retry_attempts=1))
    parts: Container = field(init=False)

    def __post_init__(self) -> None:
        self.checkout = self.folder / "r1"
        self.checkout.mkdir()
        git(self.checkout, "init", "-q", "-b", "main")
        self.commit(README="r1\n", gone="soon\n")
        self.parts = self.worker("state")

    def worker(self, name: str) -> Container:
        config = WorkerConfig(
            redis_url=self.url,
            settings=self.settings,
            places={"r1": self.checkout},
            jobs=1,
            state=self.folder / name,
        )
        return Container(config)

    def use(self, **settings: Any) -> None:
        """By a worker with these settings from now on."""
        self.settings = Settings(retry_attempts=1, **settings)
        self.parts.close()
        self.parts = self.worker("state")

    def commit(self, **files: str) -> None:
        for name, text in files.items():
            (self.checkout / name).write_text(text)
        git(self.checkout, "add", "--all")
        git(self.checkout, "commit", "-q", "-m", "by hand")

    @property
    def ran(self) -> int:
        path = self.folder / "ledger"
        return len(path.read_text().splitlines()) if path.exists() else 0

    def submit(
        self, *, no_cache: bool = False, prepare: str | None = None, place: str = "worktree", **fields: Any
    ) -> str:
        """A run of T alone, or of T after U where `after` says what U does."""
        after = fields.pop("after", None)
        own = {"env": {"LEDGER": str(self.folder / "ledger")}, "action": BODY, "cache": True}
        todos: dict[str, Any] = {"T": ("r1", ["U"])} if after else {"T": "r1"}
        more: dict[str, Mapping[str, Any]] = {"T": own | fields}
        if after:
            todos, more = {"U": "r1", **todos}, more | {"U": {"action": after}}
        repos = (Repo(name="r1", slots=2, prepare=prepare, workspace=Workspace(place)),)
        declared = ecosystem(todos, **more).model_copy(update={"repos": repos})
        run_id, _ = submit(
            self.parts.store, graph(todos, **more), declared, self.settings, order(no_cache=no_cache)
        )
        if after:
            assert self.deliver(run_id, "U").kind is TaskResultKind.DONE
        return run_id

    def deliver(self, run_id: str, todo: str = "T", parts: Container | None = None) -> TaskResult:
        return (parts or self.parts).deliveries.handle(run_id, todo, 1, "r1")

    def fire(self, run_id: str) -> None:
        """Its timer is due."""
        self.parts.dispatcher.follow(self.parts.store.fire(run_id, "T"))

    @cached_property
    def locks(self) -> LockManager:
        return LockManager(self.parts.redis, "coord")

    def do(self, **fields: Any) -> TodoView:
        """T of a new run, carried out."""
        run_id = self.submit(**fields)
        assert self.deliver(run_id).kind is TaskResultKind.DONE
        return self.view(run_id)

    def view(self, run_id: str, todo: str = "T") -> TodoView:
        return next(view for view in view_of(self.parts.store, run_id).todos if view.id == todo)

    def runs(self) -> list[str]:
        return list(self.parts.redis.zrange(self.parts.keys.runs, 0, -1))

    def tree(self, run_id: str) -> str:
        return git(self.checkout, "rev-parse", f"coord/{run_id}^{{tree}}")

    def log(self, run_id: str) -> str:
        pieces = self.parts.redis.xrange(self.parts.keys.run(run_id).log("T"))
        return "".join(fields["text"] for _, fields in pieces)


@pytest.fixture
def bench(tmp_path: Path, redis_url: str) -> Iterator[Bench]:
    made = Bench(tmp_path, redis_url)
    yield made
    made.locks.close()
    made.parts.close()


def test_an_earlier_result_is_restored_with_output_changes_and_source(bench: Bench):
    first, second = bench.do(), bench.do()

    before, after = bench.runs()
    assert bench.ran == 1
    assert (first.cached, second.cached) == (None, Source(run=before, todo="T"))
    assert (second.state, second.output, second.exit_code) == (TodoState.SUCCEEDED, first.output, None)
    assert bench.tree(after) == bench.tree(before) != git(bench.checkout, "rev-parse", "main^{tree}")
    trailers = git(bench.checkout, "log", "-1", "--format=%(trailers)", f"coord/{after}")
    assert f"Coord-Run: {after}" in trailers
    assert f"Coord-Cached: {before}/T" in trailers
    assert f"cached: from T of run {before} (" in bench.log(after)


def test_a_todo_runs_again_if_any_input_of_its_cache_key_differs(bench: Bench):
    todo = {"action": "echo ran >> $LEDGER; cp README copy", "after": "echo 1 > $COORD_OUTPUT"}
    base = {**todo, "cache": {"inputs": ["*.conf", "none/**"]}}
    bench.do(**base)
    bench.do(**base, timeout="5m", labels=["x"], retry={"attempts": 2})
    assert bench.ran == 1

    ledger = {"LEDGER": str(bench.folder / "ledger")}
    for n, other in enumerate(
        [
            {"action": todo["action"] + " # another"},
            {"env": ledger | {"LEVEL": 3}},
            {"after": "echo 2 > $COORD_OUTPUT"},
            {"after": "echo 1 > $COORD_OUTPUT; echo > x"},
            {"after": "echo 1 > $COORD_OUTPUT; echo a.conf > .gitignore; echo 1 > a.conf"},
            {"after": "echo 1 > $COORD_OUTPUT; echo a.conf > .gitignore; echo 2 > a.conf"},
        ],
        start=2,
    ):
        bench.do(**base | other)
        assert bench.ran == n, other
        assert bench.do(**base | other).cached, other
        assert bench.ran == n, other
    bench.commit(README="another tree\n")
    bench.do(**base)
    assert bench.ran == 8
    assert "its input none/** names no file" in bench.log(bench.runs()[-1])


def test_a_result_that_is_damaged_too_old_or_unwanted_is_not_taken(bench: Bench):
    bench.do()
    store = Store(bench.parts.redis, "coord", "results")
    (entries,) = bench.parts.redis.keys("coord:cache-entries:*")
    (key,) = bench.parts.redis.hkeys(entries)
    sound = store.get(key)
    assert sound is not None

    store.put(key, sound.replace(b"[1,", b"[2,"))
    assert bench.do().cached is None
    assert bench.do(cache={"ttl": "1ms"}).cached is None
    assert bench.do(no_cache=True).cached is None
    assert bench.ran == 4
    assert bench.do().cached == Source(run=bench.runs()[3], todo="T")


def test_a_result_that_leads_to_another_tree_is_dropped_and_the_todo_runs_cleanly(bench: Bench):
    bench.do()
    store = Store(bench.parts.redis, "coord", "results")
    (key,) = bench.parts.redis.hkeys(bench.parts.redis.keys("coord:cache-entries:*")[0])
    value = store.get(key)
    assert value is not None
    kept = CachedResult.unpacked(value)
    assert kept is not None
    wrong = replace(kept, tree="0" * 40)
    store.put(key, wrong.packed)

    assert bench.do().cached is None
    assert bench.ran == 2
    first, second = bench.runs()
    assert bench.tree(second) == bench.tree(first)
    assert f"the result of T of run {first} is dropped" in bench.log(second)
    assert bench.do().cached == Source(run=second, todo="T")


def test_results_that_failed_or_did_not_count_are_not_kept(bench: Bench):
    failed = bench.submit(action="echo ran >> $LEDGER; exit 1")
    assert bench.deliver(failed).kind is TaskResultKind.FAILED
    again = bench.submit(action="echo ran >> $LEDGER; exit 1")
    assert bench.deliver(again).kind is TaskResultKind.FAILED

    lost = bench.submit(action=WAITING)
    verdicts: list[TaskResult] = []
    body = threading.Thread(target=lambda: verdicts.append(bench.deliver(lost)))
    body.start()
    until(lambda: bench.ran == 3)
    bench.parts.redis.zadd(bench.parts.keys.leases, {member(lost, "T"): 1})
    assert bench.parts.store.lose(lost, "T", 1).word == "settled"
    (bench.folder / "ledger.go").touch()
    body.join()
    assert verdicts == [TaskResult(TaskResultKind.LATER, "its lease was lost")]
    assert bench.parts.redis.keys("coord:cache-entries:*") == []
    assert not bench.locks.list()


def test_a_result_that_is_too_large_is_not_kept_and_the_log_says_so(bench: Bench):
    bench.use(cache_value_bytes=1024)
    action = "echo ran >> $LEDGER; head -c 2000 /dev/urandom > noise"
    bench.do(action=action)

    assert bench.do(action=action).cached is None
    assert "its result is not kept: it has " in bench.log(bench.runs()[0])


def test_prepare_is_spared_where_nothing_that_it_makes_counts(bench: Bench):
    bench.do(prepare="echo made > made.o")
    spared = bench.do(prepare="echo made > made.o")
    assert spared.cached
    assert "prepare" not in bench.log(bench.runs()[1])

    inputs = {"inputs": ["*.o"]}
    bench.do(prepare="cp ../../../../r1/README made.o", cache=inputs)
    found = bench.do(prepare="cp ../../../../r1/README made.o", cache=inputs)
    assert found.cached
    assert "prepare" in bench.log(bench.runs()[3])
    (bench.checkout / "README").write_text("not committed\n")
    assert bench.do(prepare="cp ../../../../r1/README made.o", cache=inputs).cached is None
    assert bench.ran == 3


def test_a_todo_that_works_in_place_and_a_worker_that_uses_no_results_run_it(bench: Bench):
    bench.do()
    assert bench.do(action="echo ran >> $LEDGER", place="in-place").cached is None
    assert bench.do(action="echo ran >> $LEDGER", place="in-place").cached is None

    bench.use(cache_todos=False)
    assert bench.do(action="echo ran >> $LEDGER").cached is None
    assert "cache: not used by this worker" in bench.log(bench.runs()[3])
    assert bench.ran == 4


def test_a_todo_with_the_same_cache_key_waits_without_a_slot_and_gets_the_result(bench: Bench):
    first, second = bench.submit(action=WAITING), bench.submit(action=WAITING)
    body = threading.Thread(target=bench.deliver, args=[first])
    body.start()
    until(lambda: bench.ran)

    assert bench.deliver(second).kind is TaskResultKind.LATER
    waiting = bench.view(second)
    assert (waiting.state, waiting.waits_for) == (
        TodoState.PARKED,
        f"T of run {first}, which computes the same result",
    )
    (bench.folder / "ledger.go").touch()
    body.join()
    bench.fire(second)

    assert bench.deliver(second).kind is TaskResultKind.DONE
    assert bench.view(second).cached == Source(run=first, todo="T")
    assert (bench.view(second).output, bench.ran) == (7, 1)


def test_the_next_attempt_computes_if_the_first_one_fails_or_dies(bench: Bench):
    failing = WAITING + "; exit 1"
    first, second = bench.submit(action=failing), bench.submit(action=failing)
    body = threading.Thread(target=bench.deliver, args=[first])
    body.start()
    until(lambda: bench.ran)
    assert bench.deliver(second).kind is TaskResultKind.LATER
    (held,) = (held.name for held in bench.locks.list() if held.name.startswith("cache:"))
    (bench.folder / "ledger.go").touch()
    body.join()
    bench.fire(second)
    assert bench.deliver(second).kind is TaskResultKind.FAILED
    assert bench.ran == 2

    bench.locks.acquire(held, ttl=timedelta(seconds=1), keep=False, owner="one that died")
    third = bench.submit(action=failing)
    assert bench.deliver(third).kind is TaskResultKind.LATER
    assert bench.view(third).waits_for == "one that died, which computes the same result"
    until(lambda: not [held for held in bench.locks.list() if held.name.startswith("cache:")])
    bench.fire(third)
    assert bench.deliver(third).kind is TaskResultKind.FAILED
    assert bench.ran == 3
