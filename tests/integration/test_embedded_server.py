from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from coordination.backend import embedded
from coordination.backend.daemon import Record, alive
from coordination.backend.embedded import EmbeddedServer
from coordination.errors import CoordinationError, Unreachable
from coordination.processes import start_time
from coordination.settings import Settings
from tests.testbed import FORKS
from tests.waiting import until

START = """
import sys
from pathlib import Path
from coordination.settings import Settings
from coordination.backend.embedded import EmbeddedServer
print(EmbeddedServer(Path(sys.argv[1]), Settings()).start())
"""


@pytest.fixture
def state(tmp_path: Path) -> Iterator[Path]:
    """A state folder; whatever serves it at the end is ended, by its record."""
    folder = tmp_path / "eco" / ".coord"
    yield folder
    for found in tmp_path.rglob("server.json"):
        facts = json.loads(found.read_text())
        if start_time(facts["pid"]) == facts["started"]:
            os.kill(facts["pid"], signal.SIGKILL)


def a_server(state: Path, **settings: object) -> EmbeddedServer:
    return EmbeddedServer(state, Settings(**settings))  # type: ignore[arg-type]


def kill(server: EmbeddedServer) -> None:
    record = server.running()
    assert record
    os.kill(record.pid, signal.SIGKILL)
    until(lambda: not alive(record))


def test_a_second_start_joins_the_first(state: Path):
    first = a_server(state).start()

    second = a_server(state).start()

    assert first == second == a_server(state).url
    assert (state / ".gitignore").read_text() == "*\n"


def test_many_starters_at_once_result_in_one_server_that_outlives_them(state: Path):
    starters = [FORKS.piped([sys.executable, "-c", START, str(state)]) for _ in range(4)]

    urls = [starter.communicate(timeout=60)[0].strip() for starter in starters]

    assert len(set(urls)) == 1
    record = a_server(state).running()
    assert record
    assert redis.Redis.from_url(urls[0]).info()["process_id"] == record.pid == os.getsid(record.pid)


@pytest.mark.parametrize(
    ("end", "folder"),
    [
        ("stopped", "eco"),
        ("stopped", 'a "b" c\'s ü\\n'),
        ("killed", "eco"),
        ("killed, record cut short", "eco"),
    ],
)
def test_a_server_starts_again_with_its_data(tmp_path: Path, state: Path, end: str, folder: str):
    server = a_server(tmp_path / folder / ".coord", appendfsync="always")
    redis.Redis.from_url(server.start()).set("run", "kept")
    if end == "stopped":
        assert server.stop()
        assert not server.stop()
    else:
        kill(server)
    if "cut" in end:
        (server.state / "server.json").write_text('{"pid": 1')

    assert redis.Redis.from_url(server.start()).get("run") == b"kept"


def test_a_state_folder_that_cannot_be_written_is_named(tmp_path: Path):
    (tmp_path / "file").write_text("")

    with pytest.raises(CoordinationError, match=r"cannot start the embedded server in .*file"):
        a_server(tmp_path / "file" / ".coord").start()


def test_an_append_only_file_cut_short_by_a_power_loss_loads(state: Path):
    server = a_server(state, appendfsync="always")
    client = redis.Redis.from_url(server.start())
    client.set("first", "kept")
    client.set("second", "x" * 100)
    kill(server)
    file = next((state / "appendonlydir").glob("*.incr.aof"))
    os.truncate(file, file.stat().st_size - 20)

    url = a_server(state).start()

    assert redis.Redis.from_url(url).mget("first", "second") == [b"kept", None]


def test_a_broken_append_only_file_is_named_with_what_the_server_says(state: Path):
    server = a_server(state)
    redis.Redis.from_url(server.start()).set("first", "x")
    server.stop()
    next((state / "appendonlydir").glob("*.incr.aof")).write_bytes(b"not a protocol\n" * 100)

    with pytest.raises(Unreachable) as error:
        a_server(state).start()

    assert "Bad file format" in error.value.message
    assert "appendonlydir" in error.value.hint


def test_a_stranger_with_the_recorded_pid_is_neither_joined_nor_killed(state: Path):
    server = a_server(state)
    server.start()
    kill(server)
    stranger = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    path = state / "server.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "pid": stranger.pid}))

    assert not server.stop()
    server.start()

    assert stranger.poll() is None
    assert server.running().pid != stranger.pid
    stranger.communicate(b"\n")


def test_a_socket_that_was_tidied_away_makes_the_next_start_begin_anew(
    state: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(embedded, "SOCKET_TIMEOUT_S", 1.0)
    server = a_server(state)
    url = server.start()
    redis.Redis.from_url(url).set("run", "kept")
    before = server.running()
    Path(url.removeprefix("unix://")).unlink()

    again = server.start()

    assert server.running() != before
    assert redis.Redis.from_url(again).get("run") == b"kept"


def test_a_copied_folder_gets_a_server_of_its_own(tmp_path: Path, state: Path):
    original = a_server(state, appendfsync="always")
    redis.Redis.from_url(original.start()).set("run", "kept")
    shutil.copytree(state, tmp_path / "copy")

    copy = a_server(tmp_path / "copy")
    url = copy.start()

    assert url != original.url
    assert redis.Redis.from_url(url).get("run") == b"kept"


def test_a_moved_folder_is_still_served_by_its_server_and_its_old_place_is_free(tmp_path: Path, state: Path):
    url = a_server(state).start()
    moved = state.parent.rename(tmp_path / "moved") / ".coord"

    assert a_server(moved).start() == url
    assert a_server(state).start() != url
    assert a_server(moved).stop()


def test_a_folder_moved_to_another_disk_while_it_was_served_says_whom_to_end(tmp_path: Path, state: Path):
    server = a_server(state)
    server.start()
    record = server.running()
    shutil.copytree(state, tmp_path / "moved")
    shutil.rmtree(state)
    assert record

    with pytest.raises(CoordinationError, match=f"kill {record.pid}"):
        a_server(tmp_path / "moved").start()


def test_the_server_of_another_container_is_not_doubled(state: Path, monkeypatch: pytest.MonkeyPatch):
    a_server(state).start()
    path = state / "server.json"
    whole = path.read_text()
    path.write_text(json.dumps({**json.loads(whole), "started": "another kernel's"}))
    monkeypatch.setattr(embedded, "HELD_TIMEOUT_S", 0.2)

    with pytest.raises(Unreachable, match=r"another machine or container"):
        a_server(state).start()

    path.write_text(whole)


def test_a_socket_folder_that_is_not_ours_alone_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    for trap in ("link", "open"):
        base = tmp_path / trap
        base.mkdir()
        monkeypatch.setattr(tempfile, "tempdir", str(base))
        monkeypatch.setattr(embedded, "LONGEST_SOCKET", 500)
        folder = base / f"coord-{os.geteuid()}"
        folder.symlink_to(tmp_path / "elsewhere") if trap == "link" else folder.mkdir(mode=0o755)

        with pytest.raises(CoordinationError, match="TMPDIR"):
            embedded.socket_folder()


def test_any_temporary_folder_gives_a_short_plain_socket(
    state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    for name in ("x" * 90, "a b"):
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / name))

        url = a_server(state).start()

        assert len(url.removeprefix("unix://")) < 100
        assert " " not in url


def test_a_port_opens_loopback_with_a_password_that_no_other_process_can_read(state: Path, free_port: int):
    server = a_server(state, server_port=free_port)
    url = server.start()

    with pytest.raises(redis.AuthenticationError):
        redis.Redis(port=free_port, retry=Retry(NoBackoff(), 0)).ping()
    password = redis.connection.parse_url(url)["password"]
    assert redis.Redis(port=free_port, password=password).ping()
    assert redis.Redis.from_url(url).ping()
    assert stat.S_IMODE((state / "server.conf").stat().st_mode) == 0o600
    record = server.running()
    assert record
    assert (
        password
        not in subprocess.run(
            ["ps", "-p", str(record.pid), "-o", "args="], capture_output=True, text=True
        ).stdout
    )


@pytest.mark.parametrize(
    ("says", "taken"),
    [("Redis server v=6.0.16 sha=0", False), ("Redis server v=7.2.4 sha=0", True), ("", False)],
)
def test_a_server_from_the_path_is_taken_from_6_2_on_and_without_any_it_says_what_to_install(
    says: str, taken: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    program = tmp_path / "redis-server"
    program.write_text(f"#!/bin/sh\necho '{says}'\n")
    program.chmod(0o755 if says else 0o644)
    monkeypatch.setattr(embedded, "_bundled", lambda: None)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin")

    with contextlib.nullcontext() if taken else pytest.raises(Unreachable, match="install valkey-server"):
        assert embedded.server_binary() == str(program)


def test_no_data_is_given_up_to_save_room_and_all_of_it_is_logged(state: Path):
    client = redis.Redis.from_url(a_server(state, appendfsync="always").start())

    found = {
        name: client.config_get(name)[name]
        for name in ("maxmemory-policy", "appendonly", "appendfsync", "save")
    }

    assert found == {
        "maxmemory-policy": "noeviction",
        "appendonly": "yes",
        "appendfsync": "always",
        "save": "",
    }


def test_a_starter_killed_before_the_record_is_written_leaves_nobody_behind(tmp_path: Path):
    script = """
import os, sys
from pathlib import Path
from coordination.backend import daemon
daemon.replace_file = lambda *_, **_how: os.kill(os.getpid(), 9)
daemon.Daemon(Path(sys.argv[1]), "orphan").start(["touch", sys.argv[1] + "/ran"])
"""
    starter = FORKS.piped([sys.executable, "-c", script, str(tmp_path)])

    assert starter.wait(60) == -signal.SIGKILL
    until(lambda: not _mentions(str(tmp_path / "ran")))
    assert not (tmp_path / "ran").exists()


def test_a_zombie_and_a_process_of_an_earlier_boot_do_not_count_as_alive():
    child = subprocess.Popen(["cat"], stdin=subprocess.PIPE)
    record = Record(pid=child.pid, started=start_time(child.pid) or "")
    assert alive(record)
    assert not alive(replace(record, started="earlier:" + record.started))
    assert child.stdin
    child.stdin.close()

    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)

    assert not alive(record)
    child.wait()


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="only Linux tells how many threads are left")
def test_what_has_a_living_thread_is_alive_though_its_first_one_has_ended():
    script = """
import ctypes, sys, threading
threading.Thread(target=sys.stdin.read).start()
ctypes.CDLL(None).pthread_exit(None)
"""
    child = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE)
    record = Record(pid=child.pid, started=start_time(child.pid) or "")
    until(lambda: ") Z " in Path(f"/proc/{child.pid}/stat").read_text())

    assert alive(record)
    child.communicate()

    assert not alive(record)


def _mentions(word: str) -> bool:
    return word in subprocess.run(["ps", "-eo", "args="], capture_output=True, text=True, check=True).stdout


def test_dead_sockets_go_with_the_next_start(tmp_path: Path, state: Path, monkeypatch: pytest.MonkeyPatch):
    folder = tempfile.TemporaryDirectory(dir="/tmp")
    monkeypatch.setattr(tempfile, "tempdir", folder.name)
    killed, living = a_server(tmp_path / "killed" / ".coord"), a_server(tmp_path / "living" / ".coord")
    sockets = [Path(server.start().removeprefix("unix://")) for server in (killed, living)]
    kill(killed)
    for path in sockets:
        os.utime(path, (1, 1))
    just_now = sockets[0].with_name("0123456789abcdef.sock")
    with socket.socket(socket.AF_UNIX) as beginning:
        beginning.bind(str(just_now))

        url = a_server(state).start()

    assert {path.name for path in sockets[0].parent.iterdir()} == {
        sockets[1].name, just_now.name, Path(url.removeprefix("unix://")).name
    }  # fmt: skip
    assert living.stop()
    assert a_server(state).stop()
    folder.cleanup()


def test_a_socket_that_is_bound_again_while_dead_ones_are_removed_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)  # the path of a socket must be short
    path = Path("0123456789abcdef.sock")
    with socket.socket(socket.AF_UNIX) as killed, socket.socket(socket.AF_UNIX) as server:
        killed.bind(str(path))
        os.utime(path, (1, 1))

        def bound_again(_: Path) -> bool:
            path.unlink()
            server.bind(str(path))
            server.listen()
            return True

        monkeypatch.setattr(embedded, "_is_refused", bound_again)
        embedded.remove_stale(Path())

        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
    assert list(Path().iterdir()) == [path]
