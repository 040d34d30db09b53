"""Failpoints: what is written in COORD_FAILPOINTS, and that nothing of it is there without."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import redis

from coordination.broker.failpoints import Fault, parse
from coordination.errors import UsageError
from tests.chaos.failpoints import points
from tests.stage import plain

HOOKED = """
import sys
import redis
from kombu.transport.redis import QoS
from redis.client import Pipeline, PubSub
from coordination.broker.celery_app import JoinBackend
from coordination.backend.step_connection import StepConnection
from coordination.backend.step_connection import StepCaller
from coordination.broker.kombu_transport import TolerantChannel
from workers.attempt.actions import Compensate
classes = (
    redis.Redis, Pipeline, PubSub, StepCaller, StepConnection, TolerantChannel, QoS, JoinBackend, Compensate
)
codes = [getattr(method, "__code__", None) for owner in classes for method in vars(owner).values()]
print(sum(code is not None and code.co_filename.endswith("failpoints.py") for code in codes))
print("coordination.broker.failpoints" in sys.modules)
"""
WORKER = "import workers.worker_process as worker; worker.main(['--repo', 'nowhere'])\n"
COMMAND = "from coordination.cli.app import coord; coord.main(['list-repos'], standalone_mode=False)\n"
"""Both refuse soon; by then failpoints would be there."""


def hooked(program: str, folder: Path, **env: str) -> list[str]:
    """How many methods are not the plain ones after the program was begun, and whether failpoints were
    imported.
    """
    text = f"try:\n    {program.replace(chr(10), '')}\nexcept BaseException:\n    pass\n{HOOKED}"
    done = subprocess.run(
        [sys.executable, "-c", text], env=plain(env), cwd=folder, capture_output=True, text=True, check=True
    )
    return done.stdout.split()[-2:]


@pytest.mark.parametrize("program", [WORKER, COMMAND])
def test_classes_are_hooked_only_with_the_variable(program: str, tmp_path: Path):
    assert hooked(program, tmp_path) == ["0", "False"]

    count, imported = hooked(program, tmp_path, COORD_FAILPOINTS="log=reached")

    assert int(count) >= 12
    assert imported == "True"


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
    with pytest.raises(UsageError, match="COORD_FAILPOINTS"):
        parse(words)


def test_a_process_can_be_killed_at_a_point(tmp_path: Path):
    text = (
        "from coordination.broker.failpoints import parse; f = parse('a.before=kill,log=l'); "
        "f.reach('a.before'); print('alive')"
    )
    done = subprocess.run(
        [sys.executable, "-c", text], cwd=tmp_path, env=plain(), capture_output=True, text=True, check=False
    )

    assert (done.returncode, done.stdout) == (-9, "")
    assert (tmp_path / "l").read_text() == f"a.before {Fault.KILL}\n"


def test_the_list_has_each_lua_step_and_the_calls_that_stand_in_the_code():
    names = points.names()

    assert {"run/claim", "lock/acquire", "lease/renew", "run/rollback"} <= names
    assert "runs.replies.InputsReader.read:execute" in names
    assert "messages.steps._try:watch" in names
    assert "compensate.end" in names
    assert not any(step.rpartition("/")[2].startswith("_") for step in names)


def test_what_the_sweep_leaves_out_is_little_and_none_of_it_is_a_step_of_a_run():
    assert not any(
        points.elsewhere(name)
        for name in points.names()
        if name.startswith(("run/", "lease/", "publish.", "carrier."))
    )
    assert len(points.ELSEWHERE) <= 33
