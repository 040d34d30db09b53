"""Services of one machine under their supervisor: real processes, ports and files."""

from __future__ import annotations

import os
import re
import secrets
import signal
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from coordination.backend.daemon import alive, wait_until
from coordination.models import Service
from coordination.processes import kill_group
from coordination.services.host import ServiceHost, ServiceState, ServiceStatus
from tests.ports import free_port

SERVE = "exec python3 -m http.server --bind 127.0.0.1 {port}"
PATIENCE_S = 30.0


@pytest.fixture
def host(tmp_path: Path) -> Iterator[ServiceHost]:
    found = ServiceHost(tmp_path / "state")
    yield found
    for name in found.wanted():
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
        ({"command": "no-such-program"}, "ended with 127"),
        ({"command": "echo sorry; exit 3"}, "sorry"),
        ({"probe": {"tcp": 1, "timeout": "1s"}, "start_timeout": "1s"}, "within 1 s"),
        ({"probe": {"command": "sleep 60", "timeout": "300ms"}, "start_timeout": "1s"}, "within 1 s"),
        ({"cwd": "nowhere"}, "nowhere"),
    ],
)
def test_one_that_does_not_come_up_fails_with_the_reason(
    host: ServiceHost, tmp_path: Path, fields: dict[str, object], words: str
) -> None:
    failed = started(host, a_service(**fields), tmp_path)
    assert failed.state is ServiceState.FAILED
    assert words in failed.why
    assert host.daemon("web").running() is None


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


def test_a_service_that_hangs_is_degraded_until_it_goes_on(host: ServiceHost, tmp_path: Path) -> None:
    port = free_port()
    probe = {"http": {"url": f"http://127.0.0.1:{port}/"}, "timeout": "300ms", "every": "100ms", "tries": 2}
    pid = started(host, a_service(command=SERVE.format(port=port), probe=probe), tmp_path).pid
    assert pid
    os.kill(pid, signal.SIGSTOP)
    until(lambda: host.states()["web"].state is ServiceState.DEGRADED)
    os.kill(pid, signal.SIGCONT)
    until(lambda: host.states()["web"].state is ServiceState.HEALTHY)
