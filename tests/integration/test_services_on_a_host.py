"""Services of one machine under their supervisor: real processes, ports and files."""

from __future__ import annotations

import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from coordination.backend.daemon import Daemon, alive, wait_until
from coordination.models import Service
from coordination.processes import kill_group, look
from coordination.services.host import DesiredService, ServiceHost, ServiceState, ServiceStatus, log_lines
from coordination.services.runner import LOG_LIMIT, Runner
from tests import systemctl
from tests.ports import free_port
from tests.testbed import FORKS

SERVE = "exec python3 -m http.server --bind 127.0.0.1 {port}"
PATIENCE_S = 60.0


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ServiceHost]:
    monkeypatch.setattr(Daemon, "_spawn", FORKS.spawner())
    monkeypatch.setattr("coordination.services.host.STARTED_S", PATIENCE_S)
    found = ServiceHost(tmp_path / "state")
    yield found
    for name in found.desired():
        found.stop(name, never)
    for daemon in (found.supervisor, *(found.daemon(name) for name in found.states())):
        if record := daemon.running():
            kill_group(record.pid)


def never() -> bool:
    return False


def a_service(name: str = "web", **fields: object) -> Service:
    return Service.model_validate({"name": name, "repo": "api", "command": "exec sleep 600", **fields})


def started(host: ServiceHost, service: Service, folder: Path, *, again: bool = False) -> ServiceStatus:
    """Start the service and wait for the end of that."""
    (host.order_restart if again else host.order_start)(service, folder, secrets.token_hex(4))
    until(lambda: host.settled(service.name) is not None)
    return host.states()[service.name]


def until(condition: Callable[[], bool]) -> None:
    assert wait_until(condition, PATIENCE_S)


def test_a_service_is_healthy_when_its_probe_passes_and_is_started_once(
    host: ServiceHost, tmp_path: Path
) -> None:
    port = free_port()
    probe = {"http": {"url": f"http://127.0.0.1:{port}/"}}
    web = a_service(command=f"sleep 0.3; {SERVE.format(port=port)}", probe=probe)
    first = started(host, web, tmp_path)
    assert (first.state, first.failures) == (ServiceState.HEALTHY, 0)
    assert started(host, web, tmp_path).pid == first.pid
    other = started(host, web, tmp_path, again=True)
    assert other.state is ServiceState.HEALTHY
    assert other.pid != first.pid
    stopped = host.stop("web", never)
    assert stopped is not None
    assert stopped.state is ServiceState.STOPPED
    until(lambda: host.supervisor.running() is None)


def test_one_that_dies_is_started_again_and_given_up_after_six_ends(
    host: ServiceHost, tmp_path: Path
) -> None:
    pid = started(host, a_service(), tmp_path).pid
    assert pid
    os.kill(pid, signal.SIGKILL)
    until(lambda: host.states()["web"].restarts == 1 and host.states()["web"].state is ServiceState.HEALTHY)
    again = host.states()["web"]
    assert (again.exit_code, again.pid != pid) == (-signal.SIGKILL, True)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"command": "no-such-program"}, "ended with exit code 127"),
        ({"command": "echo sorry; exit 3"}, "sorry"),
        ({"probe": {"tcp": 1, "timeout": "1s"}, "start_timeout": "1s"}, "within 1 s"),
        ({"probe": {"command": "sleep 60", "timeout": "300ms"}, "start_timeout": "1s"}, "within 1 s"),
        ({"cwd": "nowhere"}, "nowhere"),
        ({"command": ["./README"]}, "ermission denied"),
    ],
)
def test_one_that_does_not_come_up_fails_with_the_reason(
    host: ServiceHost, tmp_path: Path, fields: dict[str, object], words: str
) -> None:
    (tmp_path / "README").write_text("no program")
    failed = started(host, a_service(**fields), tmp_path)
    assert failed.state is ServiceState.FAILED
    assert words in failed.why
    assert host.daemon("web").running() is None


def test_a_port_that_is_taken_makes_the_start_fail_and_leaves_the_other_program(
    host: ServiceHost, tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        probe = {"http": {"url": f"http://127.0.0.1:{port}/"}, "timeout": "300ms"}
        failed = started(host, a_service(command=SERVE.format(port=port), probe=probe), tmp_path)
        assert failed.state is ServiceState.FAILED
        assert "Address already in use" in failed.why


@pytest.mark.parametrize("kind", ["http", "tcp"])
def test_the_answer_of_another_program_on_its_port_does_not_count(
    host: ServiceHost, tmp_path: Path, kind: str
) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as foreign:
        threading.Thread(target=foreign.serve_forever, daemon=True).start()
        port = foreign.server_port
        by_kind = {"http": {"url": f"http://127.0.0.1:{port}/", "status": 501}, "tcp": port}
        web = a_service(
            command=f"touch began; sleep 1; {SERVE.format(port=port)}", probe={kind: by_kind[kind]}
        )
        failed = started(host, web, tmp_path)
        foreign.shutdown()
    assert failed.state is ServiceState.FAILED
    assert "another program" in failed.why
    assert not (tmp_path / "began").exists()


def test_a_probe_that_forks_leaves_no_process(host: ServiceHost, tmp_path: Path) -> None:
    forks = "sleep 611 & echo $! >> forked; sleep 612 & echo $! >> forked; exit 1"
    probe = {"command": forks, "timeout": "3s"}
    failed = started(host, a_service(probe=probe, start_timeout="3s"), tmp_path)
    assert failed.state is ServiceState.FAILED
    pids = [int(one) for one in (tmp_path / "forked").read_text().split()]
    until(lambda: not any((one := look(pid)) and not one.is_zombie for pid in pids))


def test_a_log_of_a_gigabyte_is_cut_and_its_end_is_read(host: ServiceHost, tmp_path: Path) -> None:
    started(host, a_service(), tmp_path)
    log = host.daemon("web").log
    with log.open("ab") as file:
        file.truncate(2**30)  # sparse
        file.write(b"\nthe end\n")
    assert log_lines(host, "web", 1) in (["the end"], [])  # empty: it was cut in the meantime
    until(lambda: log.stat().st_size < LOG_LIMIT)
    rotated = log.with_suffix(".log.1")
    assert rotated.stat().st_size <= LOG_LIMIT
    assert rotated.read_bytes().endswith(b"the end\n")


def test_one_that_flaps_waits_longer_each_time(host: ServiceHost, tmp_path: Path) -> None:
    probe = {"file": {"path": "up", "max_age": "1h"}}
    flaps = a_service(command="touch up; sleep 0.05; exit 1", probe=probe)
    (tmp_path / "up").touch()
    host.order_start(flaps, tmp_path, "first")
    until(lambda: "web" in (known := host.states()) and known["web"].restarts >= 3)
    now = host.states()["web"]
    assert (now.exit_code, now.state is ServiceState.STOPPED) == (1, False)
    assert host.stop("web", never)
    assert host.states()["web"].state is ServiceState.STOPPED


def test_a_killed_supervisor_leaves_the_service_to_the_next_one(host: ServiceHost, tmp_path: Path) -> None:
    pid = started(host, a_service(), tmp_path).pid
    record = host.supervisor.running()
    assert record
    os.kill(record.pid, signal.SIGKILL)
    with suppress(ChildProcessError):
        os.waitpid(record.pid, 0)
    until(lambda: not alive(record))
    assert host.states()["web"].state is ServiceState.UNREACHABLE
    wanted = host.folder / "wanted.json"  # ordered long ago
    wanted.write_text(re.sub(r'"at":[0-9.]+', '"at":1.0', wanted.read_text()))
    assert started(host, a_service(), tmp_path).pid == pid


def test_when_a_service_is_stopped_whose_process_has_just_ended_its_other_processes_are_killed(
    tmp_path: Path,
) -> None:
    web = a_service(command="sleep 600 & echo $! > other; exec sleep 600")
    desired = DesiredService(service=web, folder=tmp_path, order="R")
    runner = Runner(desired, Daemon(tmp_path, "web"), tmp_path / "private", lambda status: None)
    runner.run_once()
    until(lambda: (tmp_path / "other").exists() and bool((tmp_path / "other").read_text().strip()))
    first = runner.status.pid
    assert first
    os.kill(first, signal.SIGKILL)
    until(lambda: (seen := look(first)) is not None and seen.is_zombie)

    runner.finish()

    other = int((tmp_path / "other").read_text())
    try:
        until(lambda: (seen := look(other)) is None or seen.is_zombie)
    finally:
        with suppress(ProcessLookupError):
            os.kill(other, signal.SIGKILL)


def test_a_service_that_hangs_is_degraded_until_it_goes_on(host: ServiceHost, tmp_path: Path) -> None:
    port = free_port()
    probe = {"http": {"url": f"http://127.0.0.1:{port}/"}, "timeout": "300ms", "every": "100ms", "tries": 2}
    pid = started(host, a_service(command=SERVE.format(port=port), probe=probe), tmp_path).pid
    assert pid
    os.kill(pid, signal.SIGSTOP)
    until(lambda: host.states()["web"].state is ServiceState.DEGRADED)
    os.kill(pid, signal.SIGCONT)
    until(lambda: host.states()["web"].state is ServiceState.HEALTHY)


def test_every_decides_how_often_a_healthy_service_is_looked_at(host: ServiceHost, tmp_path: Path) -> None:
    looks = tmp_path / "looks"
    probe = {"command": f"echo look >> {looks}", "every": "100ms"}
    assert started(host, a_service(probe=probe), tmp_path).state is ServiceState.HEALTHY
    until(lambda: len(looks.read_text().splitlines()) > 5)


@pytest.fixture
def unit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Yield the file of a unit that sleeps. With TEST_SYSTEMD=1 the systemd of this user is asked for it,
    else tests/systemctl.py.
    """
    if "TEST_SYSTEMD" not in os.environ:
        program = tmp_path / "bin" / "systemctl"
        program.parent.mkdir()
        program.write_text(f'#!/bin/sh\nexec {sys.executable} {systemctl.__file__} "$@"\n')
        program.chmod(0o700)
        monkeypatch.setenv("PATH", str(program.parent), prepend=":")
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    folder = Path(os.environ["XDG_RUNTIME_DIR"]) / "systemd" / "user"
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"coord-test-{secrets.token_hex(4)}.service"
    file.write_text("[Service]\nExecStart=/bin/sleep 600\nRestart=on-failure\n")
    yield file
    systemctl_user("stop", file.name)
    file.unlink()


def systemctl_user(verb: str, name: str) -> None:
    subprocess.run(["systemctl", "--user", verb, name], check=False, capture_output=True)


def of_unit(unit: Path) -> Service:
    return Service(name="web", repo="api", unit=unit.stem)


def test_a_unit_that_is_killed_is_restarted_by_systemd_and_one_that_is_stopped_is_not(
    host: ServiceHost, tmp_path: Path, unit: Path
) -> None:
    first = started(host, of_unit(unit), tmp_path)
    assert (first.state, first.unit, bool(first.pid)) == (ServiceState.HEALTHY, unit.name, True)
    assert started(host, of_unit(unit), tmp_path).pid == first.pid
    os.kill(first.pid or 0, signal.SIGKILL)
    until(lambda: host.states()["web"].restarts == 1 and host.states()["web"].state is ServiceState.HEALTHY)
    again = started(host, of_unit(unit), tmp_path, again=True)
    assert again.pid not in (None, first.pid)
    stopped = host.stop("web", never)
    assert stopped is not None
    left = look(again.pid or 0)
    assert (stopped.state, left is None or left.is_zombie) == (ServiceState.STOPPED, True)
    until(lambda: host.supervisor.running() is None)


def test_a_unit_that_is_active_is_adopted_and_one_that_has_failed_starts_with_the_next_order(
    host: ServiceHost, tmp_path: Path, unit: Path
) -> None:
    unit.write_text("[Service]\nExecStart=/bin/sleep 600\n")
    systemctl_user("restart", unit.name)
    first = started(host, of_unit(unit), tmp_path)
    record = host.supervisor.running()
    assert record
    os.kill(record.pid, signal.SIGKILL)
    until(lambda: not alive(record))
    assert started(host, of_unit(unit), tmp_path).pid == first.pid
    os.kill(first.pid or 0, signal.SIGKILL)
    until(lambda: host.states()["web"].state is ServiceState.FAILED)
    assert "signal" in host.states()["web"].why
    assert started(host, of_unit(unit), tmp_path).state is ServiceState.HEALTHY


@pytest.mark.parametrize(
    ("fault", "words"), [("unit", "not found"), ("bus", "enable-linger"), ("systemctl", "`command`")]
)
def test_a_unit_that_systemd_does_not_start_fails_with_the_reason(
    host: ServiceHost, tmp_path: Path, unit: Path, fault: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if fault != "unit":
        folder = tmp_path / fault
        folder.mkdir()
        monkeypatch.setenv("PATH", str(folder))
    if fault == "bus":
        (folder / "systemctl").write_text("#!/bin/sh\necho Failed to connect to bus: No medium found\nexit 1")
        (folder / "systemctl").chmod(0o700)
    missing = Service(name="web", repo="api", unit="coord-no-such-unit" if fault == "unit" else unit.stem)
    failed = started(host, missing, tmp_path)
    assert failed.state is ServiceState.FAILED
    assert words in failed.why
    stopped = host.stop("web", never)
    assert stopped is not None
    assert stopped.state is ServiceState.STOPPED
    monkeypatch.undo()
