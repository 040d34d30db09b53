"""What runs on this machine, through the real command, with the real server, worker and Flower."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from coordination.fleet.answers import worker_answers
from coordination.settings import Settings
from coordination.wire.daemon import Daemon, Record, alive, start_time
from coordination.wire.embedded import EmbeddedServer
from tests.waiting import until

COORD = Path(sys.executable).with_name("coord")
STARTED: list[subprocess.Popen[str]] = []
FILE = """\
repos:
  - {name: api, path: api}
coordination:
  plans:
    - {id: PLAN-001, title: One, repos: [api]}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """An ecosystem; whatever was started for it is ended at the end, by its records."""
    subprocess.run(["git", "init", "-q", "-b", "main", tmp_path / "api"], check=True)
    (tmp_path / "ecosystem.yaml").write_text(FILE)
    yield tmp_path
    for process in STARTED:
        process.kill()
        process.communicate()
    STARTED.clear()
    for found in (tmp_path / ".coord").glob("*.json"):
        facts = json.loads(found.read_text())
        if start_time(facts["pid"]) == facts["started"]:
            os.kill(facts["pid"], signal.SIGKILL)


def begin(folder: Path, *words: str) -> subprocess.Popen[str]:
    plain = {name: value for name, value in os.environ.items() if not name.startswith("COORD_")}
    process = subprocess.Popen(
        [COORD, *words], cwd=folder, env=plain, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    STARTED.append(process)
    return process


def coord(folder: Path, *words: str) -> tuple[int, str, str]:
    process = begin(folder, *words)
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


def running(folder: Path, name: str) -> Record:
    record = Daemon(folder / ".coord", name).running()
    assert record, f"the {name} does not run"
    return record


def test_up_detached_returns_when_all_answers_a_second_one_joins_and_down_ends_it(folder: Path) -> None:
    first = coord(folder, "up", "--detach")
    second = coord(folder, "up", "--detach")
    records = [running(folder, name) for name in ("server", "worker", "flower")]
    ended = coord(folder, "down")

    assert first[0] == second[0] == ended[0] == 0
    assert first[1] == second[1]
    assert re.search(r"Flower  http://127\.0\.0\.1:\d+  user coord  password \S+", first[1])
    assert all(f"pid {record.pid}" in ended[2] for record in records)
    assert not any(map(alive, records))


def test_up_in_the_foreground_stops_what_it_started_when_it_is_stopped(folder: Path) -> None:
    up = begin(folder, "up", "--no-flower")
    assert up.stdout
    said = up.stdout.readline() + up.stdout.readline()
    until(lambda: (folder / ".coord" / "worker.json").exists())
    server = running(folder, "server")
    assert up.stderr
    up.stderr.readline()

    up.send_signal(signal.SIGINT)
    _, err = up.communicate(timeout=30)

    assert up.returncode == 0
    assert "unix://" in said
    assert str(server.pid) in err
    assert not alive(server)


def test_up_in_the_foreground_sees_that_somebody_said_down(folder: Path) -> None:
    up = begin(folder, "up", "--no-flower")
    assert up.stderr
    up.stderr.readline()

    coord(folder, "down")
    _, err = up.communicate(timeout=30)

    assert up.returncode == 1
    assert "somebody said coord down" in err


def test_everything_killed_is_up_again_with_its_data(folder: Path) -> None:
    coord(folder, "up", "--detach", "--no-flower")
    server = EmbeddedServer(folder / ".coord", Settings())
    redis.Redis.from_url(str(server.url)).set("kept", "yes")
    before = [running(folder, name) for name in ("server", "worker")]
    redis.Redis.from_url(str(server.url)).waitaof(1, 0, 5000)
    for record in before:
        os.kill(record.pid, signal.SIGKILL)
    until(lambda: not any(map(alive, before)))

    again = coord(folder, "up", "--detach", "--no-flower")

    assert again[0] == 0
    assert redis.Redis.from_url(str(server.url)).get("kept") == b"yes"
    assert not {running(folder, name).pid for name in ("server", "worker")} & {record.pid for record in before}
    coord(folder, "down")


def test_a_worker_of_ones_own_serves_through_the_embedded_server(folder: Path) -> None:
    url = EmbeddedServer(folder / ".coord", Settings()).start()
    worker = begin(folder, "worker", "--all")

    until(lambda: worker_answers("coord", url, worker.pid), 30)
    worker.terminate()
    worker.communicate(timeout=30)

    assert worker.returncode == 0
    assert coord(folder, "down")[0] == 0
