"""Counting users and ending what they needed. The worker is a stand-in: the real one has its own tests."""

from __future__ import annotations

import base64
import contextlib
import errno
import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from coordination.backend import daemon
from coordination.backend.daemon import alive
from coordination.errors import CoordinationError, Unreachable, UsageError
from coordination.operations import local as local_module
from coordination.operations import supervision
from coordination.operations.folder import state_folder
from coordination.operations.local import Local, Stopped
from coordination.operations.supervision import FILE, LIMIT, Restart
from coordination.operations.users import Need
from coordination.processes import start_time
from coordination.settings import Settings
from tests.waiting import until

WORKER = """
import os, pathlib, signal, sys
mode, state = sys.argv[1], pathlib.Path(sys.argv[sys.argv.index("--state") + 1])
if mode == "broken":
    sys.exit("no such repo: acme")
heard = 0
def term(*_):
    global heard
    heard += 1
    (state / "terms").write_text(str(heard))
    if heard == {"prompt": 1, "busy": 2, "deaf": 99}[mode]:
        sys.exit(0)
signal.signal(signal.SIGTERM, term)
(state / "argv").write_text("\\n".join(sys.argv))
(state / "env").write_text(os.environ.get("COORD_REDIS_URL", ""))
(state / f"ready-{os.getpid()}").write_text("")
while True:
    signal.pause()
"""
USER = """
import sys
from pathlib import Path
from coordination.operations.local import Local
from coordination.settings import Settings
user = Local(Path(sys.argv[1]), Settings(), ready=lambda url, pid: True, worker_command=sys.argv[3:])
print(getattr(user, sys.argv[2])(), flush=True)
for line in sys.stdin:
    print(getattr(user, line.strip())(), flush=True)
"""

Make = Callable[..., Local]


@pytest.fixture
def ecosystem(tmp_path: Path) -> Iterator[Path]:
    """An ecosystem file; whatever was started for it is ended, by its records."""
    path = tmp_path / "eco" / "ecosystem.yaml"
    path.parent.mkdir()
    path.write_text("repos: []\n")
    (tmp_path / "worker.py").write_text(WORKER)
    yield path
    for found in sorted(path.parent.rglob("*.json"), key=lambda found: found.stem != "supervisor"):
        if found.name == FILE:
            continue
        facts = json.loads(found.read_text())
        if start_time(facts["pid"]) == facts["started"]:
            os.kill(facts["pid"], signal.SIGKILL)


@pytest.fixture
def user(ecosystem: Path, tmp_path: Path) -> Make:
    def make(mode: str = "prompt", **settings: object) -> Local:
        return Local(
            ecosystem,
            Settings(**settings),  # type: ignore[arg-type]
            ready=lambda _, pid: (state_folder(ecosystem) / f"ready-{pid}").exists(),
            worker_command=(sys.executable, str(tmp_path / "worker.py"), mode),
        )

    return make


def begin_user(ecosystem: Path, folder: Path, need: str) -> subprocess.Popen[str]:
    worker = [sys.executable, str(folder / "worker.py"), "prompt"]
    command = [sys.executable, "-c", USER, str(ecosystem), need, *worker]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


@pytest.fixture
def other(ecosystem: Path, tmp_path: Path) -> Iterator[Callable[[str], subprocess.Popen[str]]]:
    """A user in a process of its own; returns when it has what it needs."""
    started: list[subprocess.Popen[str]] = []

    def begin(need: str) -> subprocess.Popen[str]:
        process = begin_user(ecosystem, tmp_path, need)
        started.append(process)
        assert process.stdout
        assert process.stdout.readline().startswith("unix://")
        return process

    yield begin
    for process in started:
        process.kill()
        process.communicate()


def names(stopped: tuple[Stopped, ...]) -> list[str]:
    return [one.name for one in stopped]


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


def test_leaving_while_another_lives_stops_nothing(user: Make, other: Callable[[str], subprocess.Popen[str]]):
    other("ensure_worker")
    sweep = user()
    sweep.ensure_worker()

    assert sweep.leave() == ()
    assert not sweep.taken_down()


def test_a_killed_user_no_longer_counts(user: Make, other: Callable[[str], subprocess.Popen[str]]):
    killed = other("ensure_worker")
    sweep = user()
    sweep.ensure_worker()
    killed.kill()
    killed.wait()

    assert names(sweep.leave()) == ["worker", "server"]


def test_a_reader_does_not_end_the_run_of_a_killed_sweep(
    user: Make, other: Callable[[str], subprocess.Popen[str]]
):
    killed = other("ensure_worker")
    killed.kill()
    killed.wait()
    reader = user()
    reader.ensure_server()

    assert reader.leave() == ()
    assert not reader.taken_down()


def test_a_reader_keeps_the_server_but_not_the_worker(
    user: Make, other: Callable[[str], subprocess.Popen[str]]
):
    watch = other("ensure_server")
    sweep = user()
    sweep.ensure_worker()

    assert names(sweep.leave()) == ["worker"]

    stopped, _ = watch.communicate("leave\n")
    assert "server" in stopped


def test_what_was_detached_stays_until_down(user: Make, ecosystem: Path):
    assert user().down() == ()
    assert not state_folder(ecosystem).exists()
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


def test_many_at_once_share_one_server_and_one_worker(ecosystem: Path, tmp_path: Path):
    crowd = [begin_user(ecosystem, tmp_path, "ensure_worker") for _ in range(4)]

    urls = {one.stdout.readline() for one in crowd if one.stdout}
    until(lambda: len(list(state_folder(ecosystem).glob("ready-*"))) >= 1)

    assert len(urls) == 1
    assert len(list(state_folder(ecosystem).glob("ready-*"))) == 1
    ended = [one.communicate("leave\n")[0] for one in crowd]
    assert sum("worker" in said for said in ended) == 1


def test_a_busy_worker_is_told_twice(user: Make, ecosystem: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(local_module, "FINISH_S", 0.1)
    sweep = user("busy")
    sweep.ensure_worker()

    assert names(sweep.leave()) == ["worker", "server"]
    assert (state_folder(ecosystem) / "terms").read_text() == "2"


def test_a_deaf_worker_is_killed(user: Make, monkeypatch: pytest.MonkeyPatch):
    sweep = user("deaf")
    monkeypatch.setattr(sweep, "_worker_steps", lambda: ((signal.SIGTERM, 0.1), (signal.SIGKILL, 5.0)))
    sweep.ensure_worker()

    assert names(sweep.leave()) == ["worker", "server"]


def test_a_worker_that_cannot_start_says_why_at_once(user: Make):
    with pytest.raises(Unreachable, match=r"no such repo: acme"), user("broken") as sweep:
        sweep.ensure_worker()

    assert sweep.down() == ()


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
    user: Make, ecosystem: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(supervision, "FIRST_DELAY_S", 0.01)
    with user() as sweep:
        sweep.ensure_worker()
        sweep._worker_command = user("broken")._worker_command
        first = sweep._worker.running()
        assert first
        os.kill(first.pid, signal.SIGKILL)

        with pytest.raises(Unreachable, match="no such repo: acme"):
            until(lambda: sweep.news() and False, 30)
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


def test_a_list_of_restarts_that_cannot_be_read_counts_as_none(user: Make, ecosystem: Path):
    with user() as sweep:
        sweep.ensure_worker()
        for text in ("[", "{}", '[{"name": 1}]', "[1]", "null"):
            (state_folder(ecosystem) / FILE).write_text(text)

            assert sweep.news() == []

        sweep.restarts.add(Restart(name="worker", at=1.0, died=1))
        assert len(sweep.restarts.read()) == 1


@pytest.mark.parametrize("secret", [False, True], ids=["socket", "port with a password"])
def test_the_worker_serves_every_repo_of_this_file_and_its_password_is_in_no_command_line(
    user: Make, ecosystem: Path, free_port: int, secret: bool
):
    state = state_folder(ecosystem)
    with user(**({"server_port": free_port} if secret else {})) as sweep:
        url = sweep.ensure_worker(jobs=3)

        argv = (state / "argv").read_text().splitlines()[2:]
        env = (state / "env").read_text()

    where = ["--all", "--ecosystem", str(ecosystem), "--state", str(state)]
    assert argv == [*where, *([] if secret else ["--redis", url]), "--jobs", "3"]
    assert env == url or not secret


def test_a_configured_redis_starts_nothing(user: Make, ecosystem: Path):
    sweep = user(redis_url="redis://elsewhere:6379/0")

    assert sweep.ensure_server() == sweep.ensure_worker() == "redis://elsewhere:6379/0"
    with pytest.raises(UsageError, match="coord worker"):
        sweep.up(with_flower=True)
    sweep.detach()
    assert sweep.leave() == ()
    assert not state_folder(ecosystem).exists()


def test_two_files_in_one_folder_do_not_meet(ecosystem: Path):
    assert state_folder(ecosystem) != state_folder(ecosystem.with_name("other.yaml"))
    assert state_folder(ecosystem) == ecosystem.parent / ".coord"


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
