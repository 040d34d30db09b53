"""Failpoints: the syntax of COORD_FAILPOINTS, the faults, the list of points, and a short sweep."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import redis

from tests.chaos.failpoints import points
from tests.chaos.failpoints.hooks import Fault, parse
from tests.testbed import plain


@pytest.mark.long
def test_a_handful_of_processes_fail_at_some_point_and_nothing_is_lost_done_twice_or_too_early():
    done = subprocess.run(  # a process of its own: it forks, and may have no threads
        [sys.executable, "-m", "tests.chaos.failpoints", "--short"],
        cwd=points.ROOT, env=plain(), capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert "6 of 6 faults struck" in done.stdout
    print(done.stdout.splitlines()[-1])  # noqa: T201 (the seed)


def test_a_fault_strikes_at_its_hit_and_what_was_reached_is_written_down(tmp_path: Path):
    log = tmp_path / "reached"
    found = parse(f"run/claim.before=lost@2,publish.level.after=unheard,run/seal.after=error,log={log}")

    with found.around("run/claim"):
        pass
    with pytest.raises(redis.TimeoutError, match=r"run/claim\.before"), found.around("run/claim"):
        raise AssertionError("it was never asked")
    done = []
    with pytest.raises(redis.TimeoutError), found.around("publish.level"):
        done.append("published")
    with pytest.raises(redis.ResponseError), found.around("run/seal"):
        done.append("sealed")

    assert done == ["published", "sealed"]
    assert log.read_text().splitlines() == [
        "run/claim.before", "run/claim.after", "run/claim.before lost", "publish.level.before",
        "publish.level.after unheard",
        "run/seal.before", "run/seal.after error",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "words",
    [
        "run/claim=kill",
        "run/claim.before=unheard",
        "run/claim.after=lost",
        "run/claim.after",
        "x.before=kill@second",
    ],
)
def test_a_fault_that_cannot_be_there_is_refused(words: str):
    with pytest.raises(ValueError, match="COORD_FAILPOINTS"):
        parse(words)


def test_a_process_can_be_killed_at_a_point(tmp_path: Path):
    text = (
        "from tests.chaos.failpoints.hooks import parse; f = parse('a.before=kill,log=l'); "
        "f.reach('a.before'); print('alive')"
    )
    env, command = plain({"PYTHONPATH": str(points.ROOT)}), [sys.executable, "-c", text]
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)

    assert (done.returncode, done.stdout) == (-9, "")
    assert (tmp_path / "l").read_text() == f"a.before {Fault.KILL}\n"


def test_the_list_has_each_lua_step_and_the_calls_that_stand_in_the_code():
    names = points.names()

    assert {"run/claim", "lock/acquire", "lease/renew", "run/rollback"} <= names
    assert "runs.attempt_store.AttemptStore.handed_over.read:execute" in names
    assert "messages.steps._try:watch" in names
    assert "compensate.end" in names
    assert not any(step.rpartition("/")[2].startswith("_") for step in names)


def test_what_the_sweep_leaves_out_is_little_and_none_of_it_is_a_step_of_a_run():
    assert not any(
        points.elsewhere(name)
        for name in points.names()
        if name.startswith(("run/", "lease/", "publish.", "celery."))
    )
    assert len(points.ELSEWHERE) <= 51


def test_what_the_sweep_leaves_out_is_still_in_the_code_and_so_are_the_tests_that_are_named_instead():
    names = points.names()
    named = set(re.findall(r"tests/[\w/]+\.py", " ".join(points.ELSEWHERE.values())))

    assert [one for one in points.ELSEWHERE if not any(name.startswith(one) for name in names)] == []
    assert [file for file in named if not (points.ROOT / file).exists()] == []
