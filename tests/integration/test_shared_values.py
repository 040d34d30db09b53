"""`coord context`, the library and agents on shared values: what they print, refuse, and end with."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from coordination.api.coord import Coord
from coordination.backend.client import Profile, connect
from coordination.cache.connection import here
from coordination.cli import app
from coordination.errors import CoordinationError, NotAllowed, NotFound, Unreachable, UsageError
from coordination.runs.store import RunStore
from tests.agent import agent_of
from tests.engine import Engine
from tests.plans import PLAN, ecosystem, graph, order

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def call(
    redis_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Call:
    monkeypatch.setenv("COORD_REDIS_URL", redis_url)
    monkeypatch.delenv("COORD_CONNECTION", raising=False)
    monkeypatch.chdir(tmp_path)

    def made(*words: str, stdin: bytes = b"") -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        with pytest.raises(SystemExit) as exit_:
            app.run(["context", *words])
        out, err = capsys.readouterr()
        return int(exit_.value.code or 0), out, err

    return made


def test_a_value_comes_from_the_command_line_standard_input_or_a_file(call: Call, tmp_path: Path):
    (tmp_path / "value.json").write_text('{"n": 1}')
    call("set", "a", "[1, null]")
    call("set", "b", "-", stdin='"ü"'.encode())
    call("set", "c", "@value.json")
    call("set", "d", "as it is", "--text")

    assert [call("get", key)[1] for key in "abcd"] == ["[1, null]\n", "ü\n", '{"n": 1}\n', "as it is\n"]
    assert json.loads(call("get", "b", "--json")[1]) == "ü"


def test_what_is_not_kept_is_exit_1_and_may_have_a_default(call: Call):
    assert call("get", "a") == (
        1,
        "",
        "error: there is no value 'a'\n  list the values: coord context list\n",
    )
    assert call("get", "a", "--default", "[]")[:2] == (0, "[]\n")
    assert call("delete", "a", "--json")[:2] == (0, '{\n  "deleted": 0\n}\n')


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("set", "a", "not JSON"), "add --text"),
        (("set", "a", "NaN"), "cannot be represented in JSON"),
        (("set", "a", "@none.json"), "No such file"),
        (("set", "a", "1", "--ttl", "soon"), "90s"),
        (("set", "a", "1", "--scope", "world"), "'ecosystem', 'plan', 'run', 'todo'"),
        (("set", "a", "1", "--scope", "run"), "there is no context of scope run here"),
        (("set", "a\nb", "1"), "is not a key"),
        (("set", "", "1"), "non-empty"),
        (("get", "a*"), "are for patterns"),
        (("get", "a", "--default", "{"), "--default is not JSON"),
        (("get", "a", "--run", "none"), "there is no run"),
        (("get", "a", "--todo", "T"), "say of which run"),
        (("list", "[a"), "is not a pattern"),
        (("delete",), "Missing argument"),
        (("import", "none.jsonl"), "No such file"),
    ],
)
def test_what_cannot_be_meant_is_exit_2_with_what_to_do(call: Call, words: tuple[str, ...], said: str):
    code, out, err = call(*words)

    assert (code, out) == (2, "")
    assert said in " ".join(err.split())


def test_bytes_that_are_no_text_are_refused(call: Call):
    assert call("set", "a", "-", stdin=b"\xff")[0] == 2


def test_a_value_that_is_too_large_is_refused(call: Call, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COORD_CACHE_VALUE_BYTES", "1024")
    code, _, err = call("set", "a", "-", stdin=b'"' + b"x" * 2000 + b'"')

    assert (code, "raise cache_value_bytes" in err) == (2, True)


def test_what_is_listed_deleted_exported_and_imported(call: Call):
    for key in ("build.a", "build.b", "test"):
        call("set", key, "1")
    call("set", "build.a", "2", "--plan", "PLAN-001")

    listed = json.loads(call("list", "build.*", "--plan", "PLAN-001", "--json")[1])
    assert [(one["key"], one["scope"]) for one in listed] == [("build.a", "plan"), ("build.b", "ecosystem")]
    assert call("export", "kept.jsonl")[0] == 0
    assert "3 values deleted" in call("delete", "*")[2]
    assert call("list", "--format", "{key}")[1] == ""
    assert "4 values" in call("import", "kept.jsonl")[2]
    assert call("list", "--format", "{key}")[1].split() == ["build.a", "build.b", "test"]
    stats = json.loads(call("stats", "--json")[1])
    assert (stats["entries"], stats["values"], stats["contexts"]) == (4, 2, 2)


def test_a_regular_expression_lists_and_deletes_the_keys_in_which_it_is_found(call: Call):
    for key in ("build.a", "build.b2", "rebuild"):
        call("set", key, "1")

    assert call("list", "--regex", r"^build\.", "--format", "{key}")[1].split() == ["build.a", "build.b2"]
    assert call("list", "--regex", "--format", "{key}")[1].split() == ["build.a", "build.b2", "rebuild"]
    assert call("list", "--regex", "a(")[0] == 2
    assert json.loads(call("delete", "--regex", r"[a-z]\d$", "^re", "--json")[1]) == {"deleted": 2}
    assert call("list", "--format", "{key}")[1].split() == ["build.a"]


def test_a_redis_that_is_not_there_is_exit_7(call: Call, free_port: int):
    assert call("get", "a", "--redis", f"redis://127.0.0.1:{free_port}")[0] == 7


TODOS = {"A": "r1"}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "ecosystem.yaml"
    path.write_text("repos: [{name: r1, path: r1}]\n")
    return path


@pytest.fixture
def run(redis_url: str) -> Iterator[str]:
    with connect(redis_url, Profile.COMMAND) as client:
        engine = Engine(RunStore(client, "coord"))
        engine.submit(graph(TODOS), ecosystem(TODOS), order())
        yield engine.run_id


def test_the_library_has_the_context_of_whom_it_names(file: Path, redis_url: str, run: str):
    with Coord(file, redis_url) as coord:
        coord.context(plan=PLAN).set("a", 1)
        coord.context(run="last", todo="A").set("b", 2)

        assert coord.context(run=run).get("a") == 1
        assert [kept.scope for kept in coord.context(run=run).list()] == ["plan", "run"]
        assert coord.context().get("a") is None
        assert coord.stats()["cache"]["entries"] == 2
        kept = file.with_name("contexts.jsonl")
        assert (coord.context.export(kept).values, coord.context(plan=PLAN).clear()) == (2, 1)
        assert coord.context(plan=PLAN).get("a") is None
        assert coord.context.import_(kept, keep=True).values == 1, "the run still has its own"
        assert coord.context(plan=PLAN).get("a") == 1
        with pytest.raises(UsageError):
            coord.context.import_(file)
        with pytest.raises(NotFound, match="no todo 'B'"):
            coord.context(run="last", todo="B")
        with pytest.raises(UsageError):
            coord.context(todo="A")
        with pytest.raises(UsageError):
            coord.context(run=run, plan=PLAN)


def test_an_agent_reads_and_shares_values(file: Path, redis_url: str, run: str):
    with agent_of(file, redis_url) as ai:
        ai.call("coord_context_set", key="a", value={"n": [1]}, plan=PLAN, ttl="60s")

        assert ai.call("coord_context_get", key="a", run=run) == {
            "key": "a",
            "found": True,
            "value": {"n": [1]},
        }
        assert ai.call("coord_context_get", key="a") == {"key": "a", "found": False, "value": None}


def test_outside_of_a_todo_there_is_no_context_here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.delenv("COORD_CONNECTION", raising=False)
    with pytest.raises(UsageError, match="not a todo"), here():
        pass

    monkeypatch.setenv("COORD_CONNECTION", str(tmp_path / "gone.json"))
    with pytest.raises(CoordinationError, match="cannot be read"), here():
        pass

    (tmp_path / "other.json").write_text("{}")
    monkeypatch.setenv("COORD_CONNECTION", str(tmp_path / "other.json"))
    with pytest.raises(CoordinationError, match="another version"), here():
        pass

    (tmp_path / "over.json").write_text('{"socket": "/nowhere.sock", "token": "x"}')
    monkeypatch.setenv("COORD_CONNECTION", str(tmp_path / "over.json"))
    with here() as context, pytest.raises(Unreachable):
        context.get("a")


def test_within_a_todo_the_library_is_refused_and_what_runs_beside_its_command_has_no_context(
    file: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("COORD_TODO_ID", "A")
    with pytest.raises(NotAllowed):
        Coord(file)
    with pytest.raises(NotAllowed), here():
        pass
