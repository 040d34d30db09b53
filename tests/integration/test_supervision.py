"""Processes that died are started again for their users, until they die too often. The worker is a
stand-in.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import redis

from coordination.backend.daemon import alive
from coordination.errors import Unreachable
from coordination.operations import supervision
from coordination.operations.state import Need, state_folder
from coordination.operations.supervision import FILE, LIMIT, Restart
from coordination.processes import start_time
from tests.local_users import Make
from tests.waiting import until


def test_a_worker_that_died_is_started_again_for_who_needs_it(user: Make):
    with user() as sweep:
        sweep.ensure_worker(jobs=3)
        first = sweep._worker.running()
        assert first
        os.kill(first.pid, signal.SIGKILL)

        until(lambda: not alive(first))
        second = until(sweep._worker.running)

        assert second.facts == first.facts
        (line,) = until(sweep.news)
        assert str(first.pid) in line
        assert str(second.pid) in line
        assert line.partition(" (")[0] in sweep._worker.log.read_text()
        assert sweep.news() == []
        assert not sweep.taken_down()


def test_a_killed_server_is_started_again_at_its_address_and_its_worker_kept(user: Make, free_port: int):
    with user(server_port=free_port) as sweep:
        url = sweep.ensure_worker()
        worker = sweep._worker.running()
        server = sweep.server.running()
        assert server
        os.kill(server.pid, signal.SIGKILL)

        until(sweep.news)

        assert redis.Redis.from_url(url).ping()
        assert sweep._worker.running() == worker


def test_a_worker_that_dies_too_often_is_given_up(
    user: Make, fleet_file: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(supervision, "FIRST_DELAY_S", 0.01)
    with user() as sweep:
        sweep.ensure_worker()
        sweep._worker_command = user("broken")._worker_command
        first = sweep._worker.running()
        assert first
        os.kill(first.pid, signal.SIGKILL)

        with pytest.raises(Unreachable, match="no such repo: acme"):
            until(lambda: sweep.news() and False)
        found = sweep.restarts.read()
        sweep._worker_command = user()._worker_command
        sweep.ensure_worker()

        assert [restart.given_up for restart in found] == [False] * LIMIT + [True]
        assert sweep.restarts.read() == ()


def test_what_was_detached_has_a_supervisor_until_down_and_the_next_command_replaces_a_killed_one(user: Make):
    sweep = user()
    sweep.ensure_worker()
    sweep.detach()
    sweep.leave()
    supervisor = sweep._supervisor.running()
    assert supervisor
    os.kill(supervisor.pid, signal.SIGKILL)
    until(lambda: not sweep._supervisor.running())
    with user() as reader:
        reader.ensure_server()

    another = sweep._supervisor.running()
    user().down()

    assert another
    assert start_time(another.pid) is None


def test_a_reader_starts_nothing_again(user: Make, other: Callable[[str], subprocess.Popen[str]]):
    killed = other("ensure_worker")
    killed.kill()
    killed.wait()
    with user() as reader:
        reader.ensure_server()
        worker = reader._worker.running()
        assert worker
        os.kill(worker.pid, signal.SIGKILL)
        until(lambda: not reader._worker.running())

        reader.revive(Need.SERVER)

        assert reader._worker.running() is None
        assert reader.restarts.read() == ()


def test_a_list_of_restarts_that_cannot_be_read_counts_as_none(user: Make, fleet_file: Path):
    with user() as sweep:
        sweep.ensure_worker()
        for text in ("[", "{}", '[{"name": 1}]', "[1]", "null"):
            (state_folder(fleet_file) / FILE).write_text(text)

            assert sweep.news() == []

        sweep.restarts.add(Restart(name="worker", at=1.0, died=1))
        assert len(sweep.restarts.read()) == 1
