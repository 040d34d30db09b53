"""Tab: what the real `coord` offers, asked as the shells ask it, and through bash itself."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from contextlib import closing

import pytest

from coordination.locks import LockManager
from tests.testbed import COORD, FORKS, Testbed, plain

FILE = """\
repos: [{name: api}, {name: web}]
coordination:
  issues: [{id: ISSUE-001, title: Old, labels: ["area:core", "two words", "area:ui"]}]
  todos: [{id: TODO-001, task: Lift it, repo: api}, {id: TODO-002, task: Use it, repo: web}]
"""
Offered = Callable[..., list[str]]


@pytest.fixture
def declared(testbed: Testbed) -> Testbed:
    testbed.file.write_text(FILE)
    return testbed


@pytest.fixture
def offered(declared: Testbed) -> Offered:
    """Return the completions of `coord WORDS…`, whose last word is being typed."""

    def ask(*words: str) -> list[str]:
        env = {"COMP_WORDS": "\n".join(["coord", *words]), "COMP_CWORD": str(len(words))}
        done = declared.coord(**env, _COORD_COMPLETE="bash_complete")
        assert done.err == ""
        return [row.partition(",")[2] for row in done.out.splitlines() if row]

    return ask


def test_runs_are_offered_while_a_server_runs(declared: Testbed, offered: Offered) -> None:
    assert offered("show-run", "") == []

    with declared.redis() as redis:
        redis.zadd("coord:runs", {"20260101-aaaa": 1, "20260102-bbbb": 2})
        for run in redis.zrange("coord:runs", 0, -1):
            redis.hset(f"coord:run:{run}:meta", mapping={"plan_id": "PLAN-001", "status": "failed"})

    for words in (("show-run",), ("run", "clean")):
        assert offered(*words, "") == ["last", "20260102-bbbb", "20260101-aaaa"]
    assert offered("logs", "20260101") == ["20260101-aaaa"]


def test_locks_that_are_held_are_offered_while_a_server_runs(declared: Testbed, offered: Offered) -> None:
    assert offered("lock", "release", "") == []

    with declared.redis() as redis, closing(LockManager(redis, "coord")) as locks, locks.acquire("deploy"):
        locks.resources.declare({"db": 2})
        with locks.resources.acquire("db"):
            assert offered("lock", "release", "") == ["deploy", "resource:db"]
            assert offered("lock", "release", "d") == ["deploy"]


def test_zsh_and_fish_are_told_what_each_name_is(declared: Testbed) -> None:
    zsh = declared.ok(COMP_WORDS="coord todo show ", COMP_CWORD="3", _COORD_COMPLETE="zsh_complete")
    fish = declared.ok(COMP_WORDS="coord todo show T", COMP_CWORD="T", _COORD_COMPLETE="fish_complete")

    assert zsh.out.splitlines() == ["plain", "TODO-001", "Lift it", "plain", "TODO-002", "Use it"]
    assert fish.out.splitlines() == ["plain,TODO-001\tLift it", "plain,TODO-002\tUse it"]


@pytest.fixture(scope="module")
def script() -> str:
    return subprocess.run([COORD, "completion", "bash"], capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize(
    ("words", "reply"),
    [
        (["show-todo", ""], ["TODO-001", "TODO-002"]),
        (["list-todos", "--repo", "=", "a"], ["api"]),
        (["list-todos", "--repo", "="], ["api", "web"]),
        (["list-todos", "--label", "area", ":", ""], ["core", "ui"]),
        (["list-todos", "--label", "area", ":", "u"], ["ui"]),
        (["list-todos", "--label", "tw"], [r"two\ words"]),
        (["--ecosystem", "ecosystem.yaml", "list-plans", "--form"], ["--format"]),
    ],
)
def test_bash_itself_completes(declared: Testbed, script: str, words: list[str], reply: list[str]) -> None:
    """The words as bash takes them apart, at blanks and at = and :."""
    lines = [
        script,
        'COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))',
        f'_coord_completion "{FORKS.programs}/coord"',
        r"""printf '%s\n' "${COMPREPLY[@]}" """,
    ]

    done = subprocess.run(
        ["bash", "--norc", "-c", "\n".join(lines), "bash", "coord", *words],
        cwd=declared.folder,
        env=plain(),
        capture_output=True,
        text=True,
        check=True,
    )

    assert [line for line in done.stdout.splitlines() if line] == reply
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("shell", "holds"), [("bash", "complete "), ("zsh", "compset -P 1 '*='"), ("fish", "split -m 1")]
)
def test_the_script_asks_coord_and_keeps_errors_to_itself(declared: Testbed, shell: str, holds: str) -> None:
    script = declared.ok("completion", shell).out

    assert holds in script

    assert f"_COORD_COMPLETE={shell}_complete" in script
    assert "2>/dev/null" in script


def test_an_unknown_shell_is_refused_with_those_there_are(testbed: Testbed) -> None:
    answer = testbed.coord("completion", "tcsh")

    assert answer.code == 2
    assert "'bash', 'zsh', 'fish'" in answer.err
