"""The socket by which a todo reaches its context: what it answers, to whom, for how long, and what no client
can do to it.
"""

from __future__ import annotations

import json
import socket
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path

import pytest
import redis

from coordination.backend.client import Profile, connect
from coordination.cache.connection import Connection, TodoContext
from coordination.cache.contexts import Cache
from coordination.cache.names import Scope
from coordination.errors import CoordinationError, NotAllowed, Unreachable, UsageError
from coordination.runs.run_contexts import ContextCalls
from coordination.runs.store import RunStore
from coordination.settings import Settings
from tests.engine import Engine
from tests.plans import PLAN, ecosystem, graph, order
from tests.waiting import until
from workers.attempt import context_socket
from workers.attempt.context_socket import ContextSocket

TODOS = {"A": "r1", "B": "r1"}
SETTINGS = Settings(cache_value_bytes=4096)


class Scene:
    def __init__(self, client: redis.Redis) -> None:
        self.store = RunStore(client, "coord")
        engine = Engine(self.store)
        engine.submit(graph(TODOS), ecosystem(TODOS), order())
        self.run = engine.run_id
        self.calls = ContextCalls(self.store, SETTINGS, self.store.brief)

    @contextmanager
    def todo(self, name: str) -> Iterator[Connection]:
        with ContextSocket(self.calls, self.run, name, SETTINGS.cache_value_bytes) as told:
            yield Connection.model_validate_json(told)


@pytest.fixture
def scene(redis_url: str) -> Iterator[Scene]:
    with connect(redis_url, Profile.COMMAND) as client:
        made = Scene(client)
        yield made
        made.calls.close()


def dialled(to: Connection) -> socket.socket:
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(60)
    client.connect(to.socket)
    return client


def answer(to: Connection, words: bytes) -> bytes:
    """Send these words as a client and return the reply; empty if it is disconnected without one."""
    with dialled(to) as client:
        try:
            client.sendall(words)
            client.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # it was let go before it had said all
        with client.makefile("rb") as heard:
            try:
                return heard.readline()
            except ConnectionResetError:
                return b""


def test_a_todo_reads_its_own_context_and_writes_that_of_its_run(scene: Scene):
    with scene.todo("A") as of_a, scene.todo("B") as of_b:
        a, b = TodoContext(of_a), TodoContext(of_b)
        a.set("shared", {"n": [1, "é", None]}, timedelta(minutes=1))
        a.set("own", 1, scope=Scope.TODO)
        a.set("wide", 2, scope=Scope.PLAN)

        assert b.get("shared") == {"n": [1, "é", None]}
        assert b.get("own", "nothing") == "nothing"
        assert {(kept.scope, kept.key) for kept in b.list()} == {("run", "shared"), ("plan", "wide")}
        assert a.delete("sh*", scope=Scope.RUN) == 1
        assert b.get("shared") is None
        a.set("shared", None)
        assert b.get("shared", "nothing") is None

    cache = Cache(scene.store.redis, "coord")
    assert cache.at(PLAN).get("wide") == 2
    cache.close()


@pytest.mark.parametrize(
    ("error", "ask"),
    [
        (UsageError, lambda todo: todo.set("a", "x" * 5000)),
        (UsageError, lambda todo: todo.set("a", "x" * 2_000_000)),
        (UsageError, lambda todo: todo.set("a", object())),
        (UsageError, lambda todo: todo.set("*", 1)),
        (UsageError, lambda todo: todo.set("a", 1, timedelta(days=1000))),
        (UsageError, lambda todo: todo.get("")),
        (UsageError, lambda todo: list(todo.list("["))),
        (NotAllowed, lambda todo: todo._ask("stats")),
        (NotAllowed, lambda todo: todo._ask("_at")),
        (UsageError, lambda todo: todo._ask("get", key="a", cache=1)),
    ],
)
def test_a_todo_is_refused_by_the_error_of_its_context(scene: Scene, error: type[Exception], ask):
    with scene.todo("A") as told, pytest.raises(error) as refused:
        ask(TodoContext(told))
    assert type(refused.value) is error


def test_a_todo_deletes_more_names_than_one_call_may_have(scene: Scene):
    names = [f"k{n}" for n in range(1500)]
    with scene.todo("A") as told:
        todo = TodoContext(told)
        todo.set(names[0], 1)
        todo.set(names[-1], 1)

        assert todo.delete(*names) == 2
        assert todo.delete() == 0
        with pytest.raises(UsageError):
            todo._ask("delete", names=names)
        with pytest.raises(UsageError):
            todo._ask("delete", names=["*"] * 21)
        assert todo.delete(*(f"k{n}*" for n in range(30))) == 0


def test_an_attempt_ends_while_all_readers_wait_for_a_compute(scene: Scene, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(context_socket, "CLIENTS", 4)
    with scene.todo("B") as of_b, dialled(of_b) as holder:
        compute = b'\n{"call": "compute", "given": {"key": "slow"}}\n'
        holder.sendall(of_b.token.encode() + compute)
        assert b"compute" in holder.recv(100)
        of_a = ContextSocket(scene.calls, scene.run, "A", SETTINGS.cache_value_bytes)
        told = Connection.model_validate_json(of_a.__enter__())
        waiting = [dialled(told) for _ in range(5)]
        for client in waiting[:4]:
            client.sendall(told.token.encode() + compute)
        until(lambda: of_a._free._value == 0 and of_a._readers._value == context_socket.READERS)

        leaving = threading.Thread(target=of_a.__exit__, daemon=True)
        leaving.start()
        leaving.join(60)

        assert not leaving.is_alive()
        holder.sendall(b'{"value": "1"}\n')
        for client in waiting:
            client.close()


def test_one_of_many_todos_computes_a_value_and_the_next_one_does_if_it_dies(scene: Scene):
    computed: list[int] = []

    def compute() -> int:
        computed.append(1)
        return 42

    with scene.todo("A") as of_a, scene.todo("B") as of_b:
        with pytest.raises(ZeroDivisionError):
            TodoContext(of_a).get_or_compute("made", lambda: 1 // 0)
        found: list[int] = []
        threads = [
            threading.Thread(
                target=lambda to=to: found.append(TodoContext(to).get_or_compute("made", compute))
            )
            for to in (of_a, of_b) * 10
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)

    assert found == [42] * 20
    assert computed == [1]


def test_promise_a_todo_names_no_other_context_than_its_own(scene: Scene):
    with scene.todo("A") as of_a, scene.todo("B") as of_b:
        TodoContext(of_b).set("own", "of B", scope=Scope.TODO)
        mine = TodoContext(of_a)

        assert mine._ask("get", key="own", scope="todo", run_id=scene.run, todo_id="B") == []
        with pytest.raises(NotAllowed):
            TodoContext(Connection(socket=of_b.socket, token=of_a.token)).get("own")
        assert answer(of_b, b"\n") == answer(of_b, of_b.token[:-1].encode() + b"\n{}\n")
        assert "refused" in json.loads(answer(of_b, b"\n"))


@pytest.mark.parametrize(
    "words",
    [
        b"",
        b"\0" * 1000,
        b"GET / HTTP/1.1\r\n\r\n",
        b"x" * 10_000_000,
        b"TOKEN\n",
        b"TOKEN\nnull\n",
        b"TOKEN\n[]\n",
        b'TOKEN\n{"call": "get"}\n',
        b'TOKEN\n{"call": "get", "given": [1]}\n',
        b'TOKEN\n{"call": "__init__", "given": {}}\n',
        b'TOKEN\n{"call": "set", "given": {"key": "a", "value": "{"}}\n',
        b'TOKEN\n{"call": "set", "given": {"key": "a", "value": "1", "ttl_s": 1e300}}\n',
        b'TOKEN\n{"call": "compute", "given": {"key": "a"}}\nnull\n',
        b"TOKEN\n" + b"[" * 1_000_000 + b"\n",
        b"TOKEN\n" + b"x" * 10_000_000,
    ],
)
def test_promise_no_request_disturbs_the_worker(scene: Scene, words: bytes):
    with scene.todo("A") as told:
        heard = answer(told, words.replace(b"TOKEN", told.token.encode()))

        assert heard == b"" or "done" not in json.loads(heard)
        TodoContext(told).set("after", 1)
        assert TodoContext(told).get("after") == 1


def test_promise_silent_clients_delay_no_other_client(scene: Scene, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(context_socket, "REQUEST_S", 1.5)
    with scene.todo("A") as told:
        silent = [dialled(told) for _ in range(2 * context_socket.READERS)]
        TodoContext(told).set("after", 1)
        for client in silent:
            assert client.recv(1) == b""
            client.close()


def test_promise_the_socket_is_private_and_ends_with_the_attempt(scene: Scene):
    before = threading.active_count()
    with scene.todo("A") as told:
        path = Path(told.socket)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        assert len(told.socket) < 108
        waiting = dialled(told)
        waiting.sendall(f"{told.token}\n".encode())

    with waiting, suppress(ConnectionResetError):
        assert waiting.recv(1) == b""
    assert not path.exists()
    with pytest.raises(Unreachable):
        TodoContext(told).get("a")
    until(lambda: threading.active_count() <= before)


def test_promise_a_process_of_another_user_is_not_answered(scene: Scene, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(context_socket, "_peer", lambda _: 65534)
    with scene.todo("A") as told:
        assert answer(told, f'{told.token}\n{{"call": "get", "given": {{"key": "a"}}}}\n'.encode()) == b""


def test_a_redis_that_is_away_is_unreachable_and_no_more(scene: Scene):
    with connect("redis://127.0.0.1:1", Profile.COMMAND) as nobody:
        store = RunStore(nobody, "coord")
        calls = ContextCalls(store, SETTINGS, scene.store.brief)
        with (
            ContextSocket(calls, scene.run, "A", 100) as connection,
            pytest.raises(CoordinationError) as refused,
        ):
            TodoContext(Connection.model_validate_json(connection)).get("a")
        assert type(refused.value) is Unreachable
