"""Programs of the user that are told of runs: notices once for each occurrence, progress as it changes."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from coordination.events.stream import EventStream
from coordination.models import Command, OnFailure
from coordination.runs.maintenance.notifier import KINDS, SINGLE, TRIES, Notifier
from coordination.runs.maintenance.progress_feed import ProgressFeed
from coordination.runs.store import RunStore
from coordination.user_program import run as run_program
from tests.engine import BAD, Engine
from tests.waiting import until

HOSTILE = "\x1b[2J$(touch pwned); `id` \udcff"


@pytest.fixture
def run(store: RunStore) -> Engine:
    return Engine(store)


@pytest.fixture
def told(tmp_path: Path) -> Callable[[], list[dict[str, Any]]]:
    """Return the input that the command of `recorder` got."""
    return lambda: [
        json.loads(line) for file in sorted(tmp_path.glob("told*")) for line in file.read_text().splitlines()
    ]


def recorder(folder: Path, then: str = "") -> Command:
    """A program that writes its standard input and COORD_* into a file."""
    code = (
        "import json, os, sys\n"
        f"out = open({str(folder / 'told')!r}, 'a')\n"
        "for line in sys.stdin:\n"
        "    given = {k: v for k, v in os.environ.items() if k.startswith('COORD_')}\n"
        "    out.write(json.dumps({**json.loads(line), 'environment': given}) + '\\n')\n"
        "    out.flush()\n"
        f"{then}\n"
    )
    file = folder / "program.py"
    file.write_text(code)
    return (sys.executable, str(file))


def notifier(store: RunStore, command: Command, **more: Any) -> Notifier:
    settings = {"kill_grace": timedelta(seconds=0.2), **more}
    return Notifier(store.redis, store.keys, command, **settings)


def failed(run: Engine) -> None:
    run.begin({"A": "r1"})
    run.drain(lambda _: BAD)


def again_at_once(store: RunStore) -> None:
    """The pause before the next try is over."""
    store.redis.hdel(store.keys.notices, "due")


def test_the_notify_command_gets_every_fact_that_people_must_know(run: Engine, tmp_path: Path, told: Any):
    failed(run)
    failed_id = run.run_id
    run.begin({"A": "r1"}, more={"A": {"gate": {}}})
    gated = run.run_id
    run.begin({"B": "r2"}, more={"B": {"compensate": "false"}})
    run.drain()
    run.roll_back()
    run.drain(lambda _: BAD)
    run.store.report_stuck(gated, "nothing moves it", "here")

    for _ in range(2):
        notifier(run.store, recorder(tmp_path)).run_once()

    summary = told()
    assert [one["event"] for one in summary] == [
        "run.failed",
        "todo.waiting",
        "todo.compensation_failed",
        "run.rollback_failed",
        "run.stuck",
    ]
    assert all(one["event"] in KINDS and one["plan"] == "PLAN-001" for one in summary)
    assert [one["run"] for one in summary] == [failed_id, gated, run.run_id, run.run_id, gated]
    waiting = summary[1]
    assert waiting["environment"]["COORD_TODO"] == waiting["todo"] == "A"
    assert waiting["environment"]["COORD_EVENT"] == "todo.waiting"


def test_the_notify_command_gets_an_automatic_rollback(run: Engine, tmp_path: Path, told: Any):
    run.begin({"A": "r1"}, on_failure=OnFailure.ROLLBACK)
    run.drain(lambda _: BAD)

    notifier(run.store, recorder(tmp_path)).run_once()

    assert "run.rolling_back" in [one["event"] for one in told()]


def test_several_workers_tell_each_occurrence_once(run: Engine, tmp_path: Path, told: Any):
    workers = [notifier(run.store, recorder(tmp_path)) for _ in range(4)]
    for _ in range(3):
        failed(run)
        threads = [threading.Thread(target=worker.run_once) for worker in workers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    found = [one["id"] for one in told()]
    assert len(found) == len(set(found)) == 3


def test_the_notify_command_gets_what_happened_before_the_leader_stops(
    run: Engine, tmp_path: Path, told: Any
):
    leader = notifier(run.store, recorder(tmp_path))
    failed(run)

    leader.start()
    leader.stop()

    assert [one["event"] for one in told()] == ["run.failed"]


def test_calls_of_a_worker_that_died_are_made_by_another(run: Engine, tmp_path: Path, told: Any):
    failed(run)
    dead = notifier(run.store, recorder(tmp_path))
    assert dead._claim() is not None
    heir = notifier(run.store, recorder(tmp_path))

    assert heir.run_once() == 0, "it may still be at it"
    run.store.redis.hset(run.store.keys.notices, "until", "1")
    assert heir.run_once() == 1
    assert len(told()) == 1


def test_a_thousand_failures_are_one_call(run: Engine, tmp_path: Path, told: Any):
    stream = EventStream(run.store.redis, run.store.keys.namespace)
    for i in range(1000):
        stream.append("run.ended", f"R{i}", run=f"R{i}", data={"status": "failed", "plan": "P"})

    assert notifier(run.store, recorder(tmp_path)).run_once() == 1

    [summary] = told()
    assert (summary["event"], summary["count"], summary["events"]) == ("summary", 1000, {"run.failed": 1000})
    assert SINGLE < len(summary["notices"]) < 100


def test_texts_of_others_reach_no_command_line(run: Engine, tmp_path: Path, told: Any):
    stream = EventStream(run.store.redis, run.store.keys.namespace)
    title = HOSTILE.encode("utf-8", errors="replace").decode() + "x" * 100_000
    stream.append("run.stuck", "R", run="R; touch pwned", title=title)

    command = f"cd {tmp_path} && cat > told.json && env | grep COORD_TITLE > environment"
    assert notifier(run.store, command).run_once() == 1

    notice = json.loads((tmp_path / "told.json").read_text())
    assert "touch pwned" in notice["title"]
    assert "\x1b" not in notice["title"]
    assert len(notice["title"]) < 2000
    assert not (tmp_path / "pwned").exists()
    assert "\x1b" not in (tmp_path / "environment").read_text()


BROKEN = {
    "missing": ("/does/not/exist",), "not executable": ("/etc/passwd",), "fails": "exit 3",
    "prints without end": "yes; true", "prints errors without end": "yes >&2",
    "ignores TERM": "trap '' TERM; sleep 60", "hangs": "exec sleep 60",
}  # fmt: skip


@pytest.mark.parametrize("command", BROKEN.values(), ids=BROKEN)
def test_a_broken_program_is_tried_three_times_and_holds_nothing_up(
    run: Engine, command: Command, caplog: pytest.LogCaptureFixture
):
    failed(run)
    told = notifier(run.store, command, timeout=timedelta(seconds=0.3))

    for _ in range(TRIES):
        assert told.run_once() == 0
        again_at_once(run.store)
    assert told.run_once() == 0

    assert len([line for line in caplog.messages if "notify_command failed" in line]) == TRIES
    assert "calls" not in run.store.redis.hgetall(run.store.keys.notices), "it is dropped"


def test_a_program_that_reads_nothing_is_given_all_it_can_take():
    assert run_program(("sleep", "0"), given=b"x" * 1_000_000, timeout_s=10).failure == ""


@pytest.mark.parametrize(
    "record",
    [
        {"position": "rubbish"},
        {"position": "0-0", "calls": "{"},
        {"calls": "[1]"},
        {"position": "9" * 17 + "-1"},
        {"position": "0-0", "calls": "[]", "due": "soon", "until": "-1"},
    ],
)
def test_a_damaged_record_is_written_anew(run: Engine, tmp_path: Path, told: Any, record: Mapping[str, str]):
    run.store.redis.hset(run.store.keys.notices, mapping=dict(record))
    program = notifier(run.store, recorder(tmp_path))
    program.run_once()
    failed(run)

    program.run_once()
    program.run_once()

    assert "run.failed" in [one["event"] for one in told()]


# Progress


def feed(store: RunStore, command: Command) -> ProgressFeed:
    return ProgressFeed(store.redis, store.keys, command, kill_grace=timedelta(seconds=0.2))


def percents(lines: list[dict[str, Any]], run_id: str) -> list[float]:
    return [line["percent"] for line in lines if line["run"] == run_id]


def test_a_program_is_started_once_for_each_run_and_ends_with_it(run: Engine, tmp_path: Path, told: Any):
    told_of = feed(run.store, recorder(tmp_path, then=f"open({str(tmp_path / 'ended')!r}, 'w').close()"))
    run.begin({"A": "r1", "B": ("r1", ["A"])}, more={n: {"estimated_hours": 1} for n in "AB"})
    told_of.run_once()
    until(lambda: percents(told(), run.run_id) == [0.0])

    run.settle(run.take("A"))
    for fed in told_of._feeds.values():
        fed.due = 0.0
    told_of.run_once()
    until(lambda: percents(told(), run.run_id) == [0.0, 50.0])
    run.drain()
    for fed in told_of._feeds.values():
        fed.due = 0.0
    told_of.run_once()
    until(lambda: (tmp_path / "ended").exists())

    last = told()[-1]
    assert (last["percent"], last["status"], last["plan"]) == (100.0, "succeeded", "PLAN-001")
    assert {line["environment"]["COORD_RUN"] for line in told()} == {run.run_id}
    told_of.run_once()
    assert told_of.run_once() == []


def test_the_progress_command_gets_a_run_that_ended_meanwhile(run: Engine, tmp_path: Path, told: Any):
    told_of = feed(run.store, recorder(tmp_path))
    run.begin({"A": "r1"})
    run.drain()

    told_of.stopping.set()  # the worker stops before its next look
    told_of.finish()

    assert percents(told(), run.run_id) == [100.0]


@pytest.mark.parametrize("command", BROKEN.values(), ids=BROKEN)
def test_a_program_that_does_not_read_holds_nothing_up_and_is_ended(run: Engine, command: Command):
    told_of = feed(run.store, command)
    run.begin({f"T{i}": "r1" for i in range(40)})
    told_of.run_once()
    for _ in range(40):
        run.settle(run.take(next(d.todo_id for d in run.mail)))
        for fed in told_of._feeds.values():
            fed.due = 0.0
        told_of.run_once()
    programs = [fed.program for fed in told_of._feeds.values()]

    told_of.start()
    told_of.stop()

    until(lambda: not told_of.is_running)
    assert all(program.has_ended for program in programs)


def test_the_latest_progress_wins(run: Engine, tmp_path: Path, told: Any):
    """A program that reads slowly is given the newest line, not a backlog."""
    gate = tmp_path / "gate"
    command = recorder(tmp_path, then="")
    program = Path(command[1])
    program.write_text(
        f"import os, time\nwhile not os.path.exists({str(gate)!r}): time.sleep(0.01)\n" + program.read_text()
    )
    told_of = feed(run.store, command)
    many = {f"T{i:04}": f"r{i}" for i in range(60)}
    run.begin(many, more={name: {"labels": ["x" * 60], "estimated_hours": 1} for name in many})
    told_of.run_once()
    [fed] = told_of._feeds.values()
    line = b" " * 200_000 + json.dumps({"run": "filler", "percent": 0}).encode() + b"\n"
    for _ in range(50):
        fed.latest.put(line)
    while run.mail:
        grant = run.next()
        if grant:
            run.settle(grant)
        fed.due = 0.0
        told_of.run_once()
    gate.touch()
    until(lambda: fed.program.has_ended)

    assert percents(told(), run.run_id)[-1] == 100.0
    assert len(told()) <= 6, "the pipe takes some, the rest was replaced"


def test_another_leader_takes_the_runs_over(run: Engine, tmp_path: Path):
    former = feed(run.store, "cat > /dev/null")
    run.begin({"A": "r1"})
    assert former.run_once() == [run.run_id]
    [fed] = former._feeds.values()

    former.start()
    former.stop()
    assert fed.program.has_ended
    heir = feed(run.store, "cat > /dev/null")
    assert heir.run_once() == [run.run_id]
    heir.start()
    heir.stop()
