"""Services in bubblewrap, under a real supervisor: honest ones stay up as ever, hostile ones stay inside."""

from __future__ import annotations

import os
import secrets
import signal
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from coordination.backend.daemon import Daemon, alive, wait_until
from coordination.errors import GitRefused
from coordination.models import Repo, Service, ServiceAction, Todo
from coordination.processes import all_pids, kill_group
from coordination.sandbox import NoSandbox
from coordination.services.confined import ServiceSandbox
from coordination.services.host import ServiceHost, ServiceState, ServiceStatus, log_lines
from coordination.settings import Settings
from tests.attempts import Bench
from tests.ports import free_port
from tests.sandboxes import needs_bubblewrap
from tests.testbed import FORKS
from workers.outcome import AttemptOutcome, OutcomeKind
from workers.sandbox import Sandboxes

pytestmark = needs_bubblewrap
PATIENCE_S = 60.0
SECRET = "secret-of-the-worker"


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    """A checkout whose services are demanded to run in a sandbox, and a home folder with a secret."""
    bench = Bench(tmp_path)
    bench.make_repository()
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "secret").write_text(SECRET)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("DEPLOY_TOKEN", SECRET)
    monkeypatch.setattr(Daemon, "_spawn", FORKS.spawner())
    monkeypatch.setattr("coordination.services.host.STARTED_S", PATIENCE_S)
    yield bench
    host = ServiceHost(bench.state)
    for name in host.desired():
        host.stop(name, lambda: False)
    for daemon in (host.supervisor, *(host.daemon(name) for name in host.states())):
        if record := daemon.running():
            kill_group(record.pid)


def a_service(**fields: object) -> Service:
    return Service.model_validate({"name": "web", "repo": "api", "command": "exec sleep 600", **fields})


def sandbox_of(bench: Bench, service: Service, settings: Settings, **repo: object) -> ServiceSandbox | None:
    action = ServiceAction(type="service", step="start", name=service.name, service=service)
    todo = Todo.model_validate({"id": "T", "task": "start", "repo": "api", "action": action})
    declared = Repo.model_validate({"name": "api", **repo})
    return Sandboxes(settings, bench.state).of_service(service, todo, declared, bench.checkout, demanded=True)


def started(bench: Bench, service: Service, *, again: bool = False, **settings: object) -> ServiceStatus:
    """Start the service in its sandbox, and wait for the end of that."""
    host, sandbox = ServiceHost(bench.state), sandbox_of(bench, service, Settings.model_validate(settings))
    order = host.order_restart if again else host.order_start
    order(service, bench.checkout, secrets.token_hex(4), sandbox)
    assert wait_until(lambda: host.settled(service.name) is not None, PATIENCE_S)
    return host.states()[service.name]


def status(bench: Bench) -> ServiceStatus:
    return ServiceHost(bench.state).states()["web"]


def start_todo(bench: Bench, service: Service, **how: object) -> AttemptOutcome:
    """Execute a todo that starts the service, until the start has ended."""
    action = {"type": "service", "step": "start", "name": service.name, "service": service.model_dump()}
    outcome = AttemptOutcome(kind=OutcomeKind.DEFERRED)

    def ended() -> bool:
        nonlocal outcome
        outcome = bench.attempt(action, **how)
        return outcome.kind is not OutcomeKind.DEFERRED

    assert wait_until(ended, PATIENCE_S)
    return outcome


def with_words(text: str) -> set[int]:
    """Return the processes of the machine whose command line has the text."""
    found = set()
    for pid in all_pids():
        with suppress(OSError):
            if text in Path(f"/proc/{pid}/cmdline").read_text(errors="replace"):
                found.add(pid)
    return found - {os.getpid()}


def test_a_service_has_its_port_its_log_and_its_folder_and_nothing_of_its_user(bench: Bench) -> None:
    port = free_port()
    reach = f'cat {bench.folder}/home/secret; ls "$HOME"; echo "token <$DEPLOY_TOKEN> own <$OWN> <$OWN_KEY>"'
    inside = f"echo x > made; git init -q sub; echo x > $HOME/own; {reach}; echo $LD_PRELOAD"
    web = a_service(
        command=f"{inside}; exec {sys.executable} -m http.server --bind 127.0.0.1 {port}",
        probe={"http": {"url": f"http://127.0.0.1:{port}/code"}},
        env={"OWN": "one", "OWN_KEY": "two", "LD_PRELOAD": "/no/such.so"},
    )

    up = started(bench, web)

    lines = log_lines(ServiceHost(bench.state), "web", 50)
    assert up.state is ServiceState.HEALTHY, (up.why, lines)
    assert "token <> own <one> <two>" in lines
    assert not any(SECRET in line for line in lines)
    assert "own" in lines
    assert not (bench.checkout / "made").exists()
    assert not (bench.checkout / "sub").exists()


def test_a_stop_lets_it_end_in_its_own_way_and_leaves_no_process(bench: Bench) -> None:
    mark = f"confined-{secrets.token_hex(4)}"
    code = f"""
import os, signal, sys, time
if os.fork() == 0:
    os.setsid()  # {mark}
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(600)
def end(*_):
    print("ended orderly", flush=True)
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
open("/tmp/ready", "w").write("")
time.sleep(600)
"""
    ready = {"command": "test -e /tmp/ready"}
    assert started(bench, a_service(command=[sys.executable, "-c", code], probe=ready)).pid
    assert with_words(mark)

    stopped = ServiceHost(bench.state).stop("web", lambda: False)

    assert stopped is not None
    assert stopped.state is ServiceState.STOPPED
    assert "ended orderly" in log_lines(ServiceHost(bench.state), "web", 50)
    assert wait_until(lambda: not with_words(mark), PATIENCE_S)
    assert not (bench.state / "services" / "private" / "web").exists()


def test_a_killed_supervisor_leaves_it_to_the_next_one_and_a_restart_stays_inside(bench: Bench) -> None:
    reads = f"cat {bench.folder}/home/secret; exec sleep 600"
    first = started(bench, a_service(command=reads))
    host = ServiceHost(bench.state)
    record = host.supervisor.running()
    assert record
    os.kill(record.pid, signal.SIGKILL)
    assert wait_until(lambda: not alive(record), PATIENCE_S)
    assert started(bench, a_service(command=reads)).pid == first.pid
    assert first.pid
    os.kill(first.pid, signal.SIGKILL)  # the shell; the sandbox ends with it
    assert wait_until(lambda: status(bench).pid not in (None, first.pid), PATIENCE_S)
    again = started(bench, a_service(command=reads), again=True)
    assert again.state is ServiceState.HEALTHY
    assert not any(SECRET in line for line in log_lines(host, "web", 50))


def test_a_start_without_a_sandbox_ends_the_one_inside(bench: Bench) -> None:
    inside = started(bench, a_service())
    host = ServiceHost(bench.state)
    host.order_start(a_service(), bench.checkout, "another")
    assert wait_until(lambda: status(bench).pid not in (None, inside.pid), PATIENCE_S)
    assert host.desired()["web"].sandbox is None


@pytest.mark.parametrize(
    ("settings", "command", "word"),
    [
        ({"sandbox_processes": 20}, "for i in $(seq 40); do sleep 600 & done; wait", "processes"),
        (
            {"sandbox_memory": "64MiB"},
            f"{sys.executable} -c \"import time; x = [b'x' * 2**20 for _ in range(200)]; time.sleep(600)\"",
            "MemoryError",
        ),
    ],
)
def test_its_limits_are_those_of_a_todo(
    bench: Bench, settings: dict[str, object], command: str, word: str
) -> None:
    started(bench, a_service(command=command, restart="no"), **settings)
    assert wait_until(lambda: status(bench).state is ServiceState.FAILED, PATIENCE_S)
    found = status(bench).why + "\n".join(log_lines(ServiceHost(bench.state), "web", 50))
    assert word in found


def test_the_command_of_a_probe_is_in_the_sandbox_of_its_service(bench: Bench) -> None:
    outside = f'test -e {bench.folder}/home/secret || test -n "$DEPLOY_TOKEN" || touch made'
    looks = f"({outside}) 2>/dev/null && exit 1; test -e /tmp/up"
    up = started(bench, a_service(command="touch /tmp/up; exec sleep 600", probe={"command": looks}))
    assert up.state is ServiceState.HEALTHY, up.why


@pytest.mark.parametrize(
    ("fields", "repo"),
    [
        ({"command": None, "unit": "db"}, {}),
        ({"probe": {"file": {"path": "beat", "max_age": "1h"}}}, {}),
        ({"probe": {"tcp": 5432}}, {"sandbox": {"network": False}}),
        ({"probe": {"http": {"url": "http://10.0.0.1/"}}}, {"sandbox": {"network": False}}),
    ],
)
def test_a_service_that_cannot_be_confined_is_refused(
    bench: Bench, fields: dict[str, object], repo: dict[str, object]
) -> None:
    with pytest.raises(NoSandbox):
        sandbox_of(bench, a_service(**fields), Settings(), **repo)


@pytest.mark.parametrize("holds", ["state", "repository"])
def test_a_checkout_that_holds_more_than_its_repository_is_not_shown(bench: Bench, holds: str) -> None:
    todo = Todo.model_validate({"id": "T", "task": "start", "repo": "api"})
    state = bench.checkout / ".coord" if holds == "state" else bench.state
    if holds == "repository":
        bench.make_repository(bench.checkout / "other")
    with pytest.raises(GitRefused):
        Sandboxes(Settings(sandbox="require"), state).of_service(
            a_service(), todo, Repo(name="api"), bench.checkout, demanded=False
        )


@pytest.mark.parametrize("how", ["role", "worker", "nobody"])
def test_the_role_or_the_worker_decides(bench: Bench, how: str) -> None:
    reads = a_service(command=f"cat {bench.folder}/home/secret; exec sleep 600")
    settings = Settings(sandbox="require") if how == "worker" else Settings()
    done = start_todo(bench, reads, demanded=how == "role", settings=settings, sandbox="off")
    assert done.kind is OutcomeKind.SUCCEEDED, bench.log
    seen = any(SECRET in line for line in log_lines(ServiceHost(bench.state), "web", 50))
    assert seen == (how == "nobody")


def test_a_machine_keeps_a_limited_number_of_services_in_sandboxes(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("coordination.services.host.MOST_CONFINED", 1)
    one, two = a_service(), a_service(name="two")
    assert started(bench, one).state is ServiceState.HEALTHY

    done = start_todo(bench, two, demanded=True)
    assert (done.kind, "stop one first" in bench.log) == (OutcomeKind.REFUSED, True), bench.log

    assert started(bench, one, again=True).state is ServiceState.HEALTHY
    assert list(ServiceHost(bench.state).desired()) == ["web"]


def test_a_machine_forgets_the_oldest_services_that_are_down(bench: Bench) -> None:
    host = ServiceHost(bench.state)
    down = {
        f"s{number}": ServiceStatus(
            name=f"s{number}", repo="api", order="o", state=ServiceState.STOPPED, since=float(number)
        )
        for number in range(250)
    }
    with host.lock():
        host.report(down)

    assert started(bench, a_service()).state is ServiceState.HEALTHY

    assert set(host.states()) == {"web", *list(down)[50:]}
