"""`coord context` as people call it: what it prints, refuses, and ends with."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from coordination.cli import app

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
        "error: nothing is kept under 'a'\n  see what is: coord context list\n",
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
        (("get", "a", "--default", "{"), "--default is no JSON"),
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
