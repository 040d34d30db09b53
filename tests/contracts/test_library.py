"""The library of steps: loading, functions without state, and calls that are checked on both sides."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from pathlib import Path

import pytest
import redis
from lupa.lua51 import LuaRuntime
from mypy import api

from coordination.backend import library
from coordination.backend.client import address_of
from coordination.backend.step_connection import StepCaller, StepConnection
from coordination.backend.steps import STEPS, StepMisuse, cache, lock, namespace, run
from coordination.errors import Unusable

HEAD = ["test:"]
ROOT = Path(__file__).parents[2]
FOLDER = files("coordination.backend") / "lua"
SETUPVAL = 8
STATE_IS_ASSIGNED_BY = {"begin", "begin_run"}


def test_each_lua_file_is_declared_or_shared():
    of_packages = {
        f"{package.name}/{file.name.removesuffix('.lua')}"
        for package in FOLDER.iterdir()
        if package.is_dir()
        for file in package.iterdir()
    }

    def shared(packages: tuple[library.Package, ...]) -> Iterator[str]:
        for package in packages:
            yield from (f"{package.name}/{name}" for name in package.shared)
            yield from shared(package.inner)

    assert of_packages == {*STEPS, *shared(library.PACKAGES)}


def test_a_server_has_a_function_for_each_step_and_loading_again_is_harmless(client: redis.Redis):
    assert library.load(client, "here") == []
    assert library.load(client, "here") == []

    (row,) = client.execute_command("FUNCTION", "LIST", "LIBRARYNAME", f"*{library.digest()}")
    assert len(row["functions"] if isinstance(row, dict) else row[5]) == len(STEPS)
    assert library.digest() in library.loaded(client)


@dataclass
class Function:
    """A function of Lua's bytecode."""

    line: int
    upvalues: list[str]
    assigned: set[str]
    inner: list[Function]


class Bytecode:
    """Reads bytecode of Lua 5.1 (lundump.c), as far as it tells which upvalues a function assigns."""

    def __init__(self, dumped: bytes) -> None:
        self._bytes, self._at = dumped, 12
        self._int, self._size, self._instruction = dumped[7], dumped[8], dumped[9]

    def function(self) -> Function:
        self._text()
        line = self._number()
        self._number()
        self._at += 4
        code = [self._read("<I", self._instruction) for _ in range(self._number())]
        for _ in range(self._number()):
            self._constant()
        inner = [self.function() for _ in range(self._number())]
        lines = self._number()
        self._at += self._int * lines
        for _ in range(self._number()):
            self._text()
            self._at += 2 * self._int
        upvalues = [self._text() for _ in range(self._number())]
        assigned = {upvalues[word >> 23] for word in code if word & 0x3F == SETUPVAL}
        return Function(line, upvalues, assigned, inner)

    def _constant(self) -> None:
        kind = self._read("<B", 1)
        if kind == 4:
            self._text()
        else:
            self._at += {0: 0, 1: 1, 3: 8}[kind]

    def _text(self) -> str:
        length = self._read("<Q", self._size)
        text = self._bytes[self._at : self._at + length]
        self._at += length
        return text.rstrip(b"\0").decode("latin-1")

    def _number(self) -> int:
        return self._read("<I", self._int)

    def _read(self, form: str, size: int) -> int:
        (value,) = struct.unpack_from(form, self._bytes, self._at)
        self._at += size
        return int(value)


def test_only_the_functions_that_begin_a_call_assign_variables_of_the_library():
    text = library.source("20261122").partition("\n")[2]
    lua = LuaRuntime(encoding=None)
    dumped = lua.eval(b"function(text) return string.dump(assert(loadstring(text))) end")(text.encode())

    chunk = Bytecode(dumped).function()

    lines = text.splitlines()
    of_library = {name for function in chunk.inner for name in function.upvalues}
    assigning = {
        lines[function.line - 1].split("function ")[1].split("(")[0]
        for function in chunk.inner
        if function.assigned & of_library
    }
    assert assigning == STATE_IS_ASSIGNED_BY
    deeper = [
        lines[f.line - 1] for function in chunk.inner for f in function.inner if f.assigned & of_library
    ]
    assert deeper == [], "a function within a function assigns what may be the library's"


def test_a_step_refuses_wrong_keys_and_arguments_on_both_sides(client: redis.Redis):
    caller = StepCaller(client)
    for call in (
        lambda: caller(lock.Renew(request="a"), []),
        lambda: caller(lock.Graph(request="a", limit="many"), HEAD),
        lambda: caller(lock.Renew(), HEAD),
        lambda: caller(lock.Renew(request="a", party="b"), HEAD),
    ):
        with pytest.raises(StepMisuse):
            call()
    caller.load()

    with pytest.raises(redis.ResponseError, match="lock_renew was called with 1 keys and 3 arguments"):
        client.fcall(library.function("lock/renew"), 1, "test:", "a", "b", "c")


def test_arguments_follow_the_declared_order_and_lists_come_last():
    park = run.Park(fence=7, delay_ms=5, run="R", waits_for="gpu", todo="A")
    strand = run.Strand(run="R", served={("api", "here"): 1})
    delete = cache.Delete(ttl_ms=1, policy="lru", max_bytes=2, contexts=["a", "b"], keys=["k"])

    assert park.arguments() == ["R", "A", 7, "gpu", 5]
    assert strand.arguments() == ["R", "api", "here"]
    assert delete.arguments() == [1, "lru", 2, 2, "a", "b", "k"]


def test_a_reply_of_another_shape_is_a_fault_of_coord():
    for step, reply in (
        (lock.Renew(request="a"), "1"),
        (lock.Census(), [1, 2, 3]),
        (run.Fire(run="R", todo="A"), ["fired"]),
        (namespace.RenewLeases(lease_ms=1, leases=()), None),
    ):
        with pytest.raises(StepMisuse, match=step.name):
            step.result(reply)


def test_mypy_refuses_calls_and_readers_of_other_types(tmp_path: Path):
    script = tmp_path / "wrong.py"
    script.write_text(
        "from coordination.backend.step_connection import StepCaller\n"
        "from coordination.backend.steps.lock import Release, Use\n"
        "def wrong(call: StepCaller) -> None:\n"
        "    call(Release(request=1, party='p'), ['test:'])\n"
        "    call(Release(request='r'), ['test:'])\n"
        "    call(Release(request='r', party='p'), ['test:']).party\n"
        "    call(Use(names=['a']), ['test:'])[0].share\n"
        "    call('lock/release', ['test:'])\n"
    )

    # With the options of `make lint`, whose cache has the modules that the script imports.
    found, _, status = api.run(["--config-file", str(ROOT / "pyproject.toml"), str(script)])

    assert status == 1
    assert {line.split(":")[1] for line in found.splitlines() if ": error:" in line} == set("45678")


def test_a_library_that_a_server_lost_is_loaded_again(client: redis.Redis):
    steps = StepConnection(client)
    assert steps(lock.Census(), HEAD) == (0, 0)
    client.execute_command("FUNCTION", "FLUSH")

    assert steps(lock.Census(), HEAD) == (0, 0)

    client.execute_command("FUNCTION", "FLUSH")
    assert StepCaller(client)(lock.Census(), HEAD) == (0, 0)
    steps.close()


def test_a_user_who_may_not_load_the_library_learns_who_may(client: redis.Redis):
    client.execute_command("FUNCTION", "FLUSH")
    client.execute_command("ACL", "SETUSER", "bob", "on", ">pw", "~*", "&*", "+@all", "-function")
    path = client.connection_pool.connection_kwargs["path"]
    with redis.Redis(unix_socket_path=path, username="bob", password="pw") as bob:
        for steps in (StepConnection(bob), StepCaller(bob)):
            with pytest.raises(Unusable, match="coord steps load") as told:
                steps(lock.Census(), HEAD)
            assert told.value.exit_code == 7

    library.load(client, address_of(client))
    client.execute_command("ACL", "DELUSER", "bob")


def test_libraries_of_other_versions_are_deleted_after_their_time_and_no_others(client: redis.Redis):
    today = datetime.now(UTC)
    days = [(today - library.KEPT + timedelta(days=n)).strftime("%Y%m%d") for n in (-1, 1)]
    code = "redis.register_function('{}', function() return 1 end)"
    for day, other in zip(days, ("0000aaaa", "0000bbbb"), strict=True):
        client.execute_command(
            "FUNCTION", "LOAD", f"#!lua name=coord_{day}_{other}\n{code.format('f_' + other)}"
        )
    client.execute_command("FUNCTION", "LOAD", f"#!lua name=theirs\n{code.format('theirs')}")

    assert library.load(client, "here") == [f"coord_{days[0]}_0000aaaa"]

    assert client.fcall("theirs", 0) == client.fcall("f_0000bbbb", 0) == 1
    client.execute_command("FUNCTION", "FLUSH")
