"""Counting users and ending what they needed. The worker is a stand-in: the real one has its own tests."""

from __future__ import annotations

import base64
import contextlib
import errno
import os
import signal
import socket
import ssl
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest
import redis

from coordination.backend import daemon
from coordination.environment import LISTENING
from coordination.errors import CoordinationError, Unreachable, UsageError
from coordination.operations import local as local_module
from coordination.operations import pages
from coordination.operations.listening import Address, listen
from coordination.operations.local import Local
from coordination.operations.state import Need, state_folder
from coordination.processes import is_stopped, start_time
from coordination.settings import Settings
from tests.endpoints import Certificates
from tests.fork_client import PipedFork
from tests.local_users import Make, begin_user, names
from tests.waiting import until


@pytest.mark.parametrize(
    ("needs", "ended"),
    [
        (["worker"], ["worker", "server"]),
        (["server"], ["server"]),
        (["server", "worker", "server"], ["worker", "server"]),  # one user
    ],
)
def test_the_only_user_ends_what_it_needed_by_leaving(user: Make, needs: list[str], ended: list[str]):
    sweep = user()
    for need in needs:
        url = getattr(sweep, f"ensure_{need}")()
    assert redis.Redis.from_url(url).ping()
    assert sweep.taken_down() is ("worker" not in needs)

    stopped = sweep.leave()

    assert names(stopped) == ended
    assert all(start_time(one.pid) is None for one in stopped)


def test_leaving_while_another_lives_stops_nothing(user: Make, other: Callable[[str], PipedFork]):
    other("ensure_worker")
    sweep = user()
    sweep.ensure_worker()

    assert sweep.leave() == ()
    assert not sweep.taken_down()


def test_a_killed_user_no_longer_counts(user: Make, other: Callable[[str], PipedFork]):
    killed = other("ensure_worker")
    sweep = user()
    sweep.ensure_worker()
    killed.kill()
    killed.wait()

    assert names(sweep.leave()) == ["worker", "server"]


def test_a_reader_does_not_end_the_run_of_a_killed_sweep(user: Make, other: Callable[[str], PipedFork]):
    killed = other("ensure_worker")
    killed.kill()
    killed.wait()
    reader = user()
    reader.ensure_server()

    assert reader.leave() == ()
    assert not reader.taken_down()


def test_a_reader_keeps_the_server_but_not_the_worker(user: Make, other: Callable[[str], PipedFork]):
    watch = other("ensure_server")
    sweep = user()
    sweep.ensure_worker()

    assert names(sweep.leave()) == ["worker"]

    stopped, _ = watch.communicate("leave\n")
    assert "server" in stopped


def test_what_was_detached_stays_until_down(user: Make, fleet_file: Path):
    assert user().down() == ()
    assert not state_folder(fleet_file).exists()
    sweep = user()
    sweep.ensure_worker()
    sweep.detach()
    assert sweep.leave() == ()
    later = user()
    later.ensure_worker()
    assert later.leave() == ()

    stopped = user().down()

    assert names(stopped) == ["worker", "server"]
    assert user().down() == ()
    again = user()
    again.ensure_worker()
    assert names(again.leave()) == ["worker", "server"]


def test_down_stops_what_others_use_and_they_see_it(user: Make):
    up = user()
    up.ensure_worker()

    user().down()

    assert up.taken_down()
    assert up.leave() == ()


def test_many_at_once_share_one_server_and_one_worker(fleet_file: Path, tmp_path: Path):
    crowd = [begin_user(fleet_file, tmp_path, "ensure_worker") for _ in range(4)]

    urls = {one.stdout.readline() for one in crowd}
    until(lambda: len(list(state_folder(fleet_file).glob("ready-*"))) >= 1)

    assert len(urls) == 1
    assert len(list(state_folder(fleet_file).glob("ready-*"))) == 1
    ended = [one.communicate("leave\n")[0] for one in crowd]
    assert sum("worker" in said for said in ended) == 1


def test_a_busy_worker_is_told_twice(user: Make, fleet_file: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(local_module, "FINISH_S", 0.1)
    sweep = user("busy")
    sweep.ensure_worker()

    assert names(sweep.leave()) == ["worker", "server"]
    assert (state_folder(fleet_file) / "terms").read_text() == "2"


def test_a_deaf_worker_is_killed(user: Make, monkeypatch: pytest.MonkeyPatch):
    sweep = user("deaf")
    monkeypatch.setattr(sweep, "_worker_steps", lambda: ((signal.SIGTERM, 0.1), (signal.SIGKILL, 60.0)))
    sweep.ensure_worker()

    assert names(sweep.leave()) == ["worker", "server"]


def test_a_worker_that_ends_while_it_is_joined_is_replaced(user: Make):
    first, second = user(), user()
    first.ensure_worker()
    worker = daemon.Daemon(first.state, "worker")
    joined = worker.running()

    second.ensure_worker(meanwhile=lambda: worker.stop([(signal.SIGKILL, 10.0)]))

    replaced = worker.running()
    assert joined
    assert replaced
    assert replaced.pid != joined.pid


def test_a_worker_that_is_stopped_or_silent_is_named_with_the_next_command(
    user: Make, monkeypatch: pytest.MonkeyPatch
):
    first, second = user(), user()
    first.ensure_worker()
    worker = daemon.Daemon(first.state, "worker").running()
    assert worker
    monkeypatch.setattr(pages, "START_TIMEOUT_S", 0.1)
    (first.state / f"ready-{worker.pid}").unlink()

    os.kill(worker.pid, signal.SIGSTOP)
    until(lambda: is_stopped(worker.pid))
    with pytest.raises(Unreachable, match="a signal has stopped it") as stopped:
        second.ensure_worker()
    assert f"kill -CONT {worker.pid}" in stopped.value.hint
    os.kill(worker.pid, signal.SIGCONT)
    with pytest.raises(Unreachable, match=rf"\(pid {worker.pid}\) does not answer") as silent:
        second.ensure_worker()
    assert "worker.log" in silent.value.hint
    assert "the stacks of its threads" in (first.state / "worker.log").read_text()
    assert names(first.down()) == ["worker", "server"]


def test_down_forgets_a_worker_and_a_server_that_had_died(user: Make, monkeypatch: pytest.MonkeyPatch):
    up = user()
    monkeypatch.setattr(up._revival, "start", lambda: None)  # its rounds are called here
    up.ensure_worker()
    for name in ("worker", "server"):
        died = daemon.Daemon(up.state, name).running()
        assert died
        os.kill(died.pid, signal.SIGKILL)
        until(lambda died=died: not daemon.alive(died))
        user().down()

        up.revive(Need.WORKER)

        assert not daemon.Daemon(up.state, "worker").running()
        assert up.server.running() is None
        up.ensure_worker()


def test_a_worker_that_cannot_start_says_why_at_once(user: Make):
    with pytest.raises(Unreachable, match=r"no such repo: acme"), user("broken") as sweep:
        sweep.ensure_worker()

    assert sweep.down() == ()


@pytest.mark.parametrize("secret", [False, True], ids=["socket", "port with a password"])
def test_the_worker_serves_every_repo_of_this_file_and_its_password_is_in_no_command_line(
    user: Make, fleet_file: Path, free_port: int, secret: bool
):
    state = state_folder(fleet_file)
    with user(**({"server_port": free_port} if secret else {})) as sweep:
        url = sweep.ensure_worker(jobs=3)

        argv = (state / "argv").read_text().splitlines()[2:]
        env = (state / "env").read_text()

    where = ["--all", "--ecosystem", str(fleet_file), "--state", str(state)]
    assert argv == [*where, *([] if secret else ["--redis", url]), "--jobs", "3"]
    assert env == url or not secret


def test_a_configured_redis_starts_nothing(user: Make, fleet_file: Path):
    sweep = user(redis_url="redis://elsewhere:6379/0")

    assert sweep.ensure_server() == sweep.ensure_worker() == "redis://elsewhere:6379/0"
    with pytest.raises(UsageError, match="coord worker"):
        sweep.up(with_flower=True)
    sweep.detach()
    assert sweep.leave() == ()
    assert not state_folder(fleet_file).exists()


def test_two_files_in_one_folder_do_not_meet(fleet_file: Path):
    assert state_folder(fleet_file) != state_folder(fleet_file.with_name("other.yaml"))
    assert state_folder(fleet_file) == fleet_file.parent / ".coord"


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path):
    (tmp_path / "file").write_text("")

    with pytest.raises(CoordinationError, match="--redis URL"):
        Local(tmp_path / "file" / "ecosystem.yaml", Settings(), ready=lambda *_: True).ensure_server()


def test_a_disk_that_fills_up_leaves_nothing_running(user: Make, monkeypatch: pytest.MonkeyPatch):
    sweep = user()
    sweep.ensure_server()
    server = sweep.server.running()

    def full(path: Path, content: bytes, *, durable: bool) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(daemon, "replace_file", full)
        with pytest.raises(CoordinationError, match="No space left on device"):
            sweep.ensure_worker()

    assert sweep.server.running() == server
    assert names(sweep.leave()) == ["server"]


def test_the_port_of_a_dashboard_is_its_own_from_its_start_on(user: Make, fleet_file: Path, free_port: int):
    """Else the dashboard of another file, started at the same time, may take it and answer in its place."""
    local = user()
    dashboard = daemon.Daemon(local.state, "dashboard-server")
    record = pages.launch_dashboard(dashboard, fleet_file, local.ensure_server(), Settings(), free_port, 0)

    with pytest.raises(OSError, match="in use"):
        socket.create_server(("127.0.0.1", free_port))

    assert int(record.facts["port"]) == free_port
    until(lambda: pages.dashboard_answers(record))
    assert daemon.alive(record)
    another = daemon.Daemon(local.state, "second")
    second = pages.launch_dashboard(another, fleet_file, "", Settings(), free_port, 0)
    assert int(second.facts["port"]) != free_port
    for started in (dashboard, another):
        started.stop()


def test_a_program_that_the_dashboard_starts_does_not_hold_its_port(monkeypatch: pytest.MonkeyPatch):
    opened = socket.create_server(("127.0.0.1", 0))
    os.set_inheritable(opened.fileno(), True)
    monkeypatch.setenv(LISTENING, str(opened.detach()))

    with listen(Address(host="127.0.0.1", port=0)) as inherited:
        assert not inherited.get_inheritable()
        assert LISTENING not in os.environ


def test_up_names_https_where_the_dashboard_has_a_certificate(
    user: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    certificates = Certificates(tmp_path)
    file = certificates.issue("127.0.0.1")
    file.chmod(0o600)
    monkeypatch.setenv("COORD_TLS_CERTIFICATE", str(file))
    with user(tls_certificate=str(file)) as up:
        url = up.up(with_flower=False, with_dashboard=True).dashboard
        assert url == up.dashboard_url()
        assert url is not None
        context = ssl.create_default_context(cafile=str(certificates.ca))
        with urllib.request.urlopen(f"{url}sign-in", context=context) as page:
            assert page.status == 200

    stored = daemon.Record(pid=1, started="", facts={"redis": "", "port": "1"})
    assert pages.dashboard_url(stored) == "http://127.0.0.1:1/", "of an earlier version"


def test_flower_answers_on_loopback_to_its_password_alone_and_a_second_up_joins_it(user: Make):
    with user() as up:
        running = up.up(with_flower=True)
        access = running.flower
        assert access

        login = base64.b64encode(f"{access.user}:{access.password}".encode()).decode()
        request = urllib.request.Request(access.url, headers={"Authorization": f"Basic {login}"})
        with contextlib.closing(urllib.request.urlopen(request)) as page:
            assert page.status == 200
        with pytest.raises(urllib.error.HTTPError, match="401"):
            urllib.request.urlopen(access.url)
        record = up._flower.running()
        assert record
        argv = subprocess.run(
            ["ps", "-p", str(record.pid), "-o", "args="], capture_output=True, text=True
        ).stdout
        assert access.password not in argv
        assert access.url.startswith("http://127.0.0.1:")
        assert user().up(with_flower=True) == running

        stopped = up.down()

    assert names(stopped) == ["worker", "Flower", "server"]
