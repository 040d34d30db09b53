"""The story *three phases*: six repositories on two hosts, with HTTP, TCP and command services."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from coordination.services.host import ServiceHost
from tests.machines import Loopback, Machine, Site
from tests.ports import free_port
from tests.testbed import Testbed
from tests.waiting import until

HOSTS = {"left": ("db", "api", "jobs"), "right": ("web", "mail", "docs")}
REPOS = tuple(repo for repos in HOSTS.values() for repo in repos)
SERVE = "exec python3 -m http.server --bind 127.0.0.1 {port}"


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    found = Site(tmp_path, Loopback())
    yield found
    found.end()


def declared(ports: dict[str, int]) -> list[dict[str, Any]]:
    def http(repo: str) -> dict[str, Any]:
        return {
            "command": SERVE.format(port=ports[repo]),
            "probe": {"http": {"url": f"http://127.0.0.1:{ports[repo]}/"}},
        }

    def tcp(repo: str) -> dict[str, Any]:
        return {"command": SERVE.format(port=ports[repo]), "probe": {"tcp": ports[repo]}}

    ready = {"command": "touch up; exec sleep 600", "probe": {"command": "test -f up"}}
    rows: dict[str, dict[str, Any]] = {
        "db": {**tcp("db"), "required": True},
        "api": {**http("api"), "required": True, "depends_on": ["db"]},
        "jobs": {**ready, "depends_on": ["db"]},
        "web": {**http("web"), "depends_on": ["api"]},
        "mail": ready,
        "docs": {**tcp("docs"), "depends_on": ["web"]},
    }
    return [{"name": name, "repo": name, **fields} for name, fields in rows.items()]


def rows_of(desk: Testbed, *names: str) -> dict[str, dict[str, Any]]:
    return {one["name"]: one for one in desk.ok("service", "list", *names, "--json").json}


def test_services_of_two_hosts_start_in_order_and_are_seen_from_a_third(site: Site):
    quick = {"COORD_HEARTBEAT": "500ms", "COORD_LEASE_TTL": "10s", "COORD_JOBS": "4"}
    desk = site.submitter()
    ports = {repo: free_port() for repo in ("db", "api", "web", "docs")}
    check = {"name": "front", "repo": "mail", "command": f"exec 3<>/dev/tcp/127.0.0.1/{ports['web']}"}
    check["command"] = ["bash", "-c", check["command"]]
    desk.write(repos=REPOS, services=declared(ports), checks=[check])
    machines = {name: site.machine(name, **quick) for name in HOSTS}
    workers = {}
    for name, machine in machines.items():
        for repo in HOSTS[name]:
            machine.clone(desk.folder / repo, repo)
        workers[name] = machine.worker(**{repo: repo for repo in HOSTS[name]})
        workers[name].says("ready")
    try:
        _story(desk, machines, workers["right"].pid)
    finally:
        for machine in machines.values():
            _end(machine)


def _story(desk: Testbed, machines: dict[str, Machine], right: int) -> None:
    first = desk.ok("service", "start", "--json").json
    assert first["success"], first
    assert {one["name"]: one["host"] for one in first["details"] if one["phase"] != "integration"} == {
        repo: host for host, repos in HOSTS.items() for repo in repos
    }
    phases = {one["name"]: one["phase"] for one in first["details"]}
    assert [name for name, phase in phases.items() if phase == "core"] == ["db", "api"]
    todos = {one["id"]: one for one in desk.run(first["run"])["todos"]}
    assert todos["service.mail"]["started_at"] >= todos["service.api"]["finished_at"]
    assert todos["check.front"]["started_at"] >= todos["service.docs"]["finished_at"]

    found = until(lambda: (r := rows_of(desk)) and {o["state"] for o in r.values()} == {"healthy"} and r)
    assert found["web"]["host"] == "right"
    assert found["web"]["pid"] == next(one["pid"] for one in first["details"] if one["name"] == "web")
    desk.ok("exec", "--repo", "web", "--", "true")
    assert desk.coord("service", "logs", "jobs").code == 0
    assert "GET / HTTP" in desk.ok("service", "logs", "web").out

    again = desk.ok("service", "start", "--json").json
    assert {one["name"]: one["pid"] for one in again["details"]} == {
        one["name"]: one["pid"] for one in first["details"]
    }

    desk.write(
        repos=REPOS,
        services=[one for one in declared({"db": 1, "api": 1, "web": 1, "docs": 1}) if one["name"] != "mail"],
    )
    gone = rows_of(desk)["mail"]
    assert (gone["phase"], gone["state"]) == (None, "healthy")
    assert desk.ok("service", "stop", "mail", "--json").json["stopped"] == ["mail"]

    os.kill(right, signal.SIGKILL)
    away = until(lambda: (r := rows_of(desk, "web")["web"])["state"] == "unreachable" and r)
    assert (away["host"], away["age_s"] > 0, "healthy" in away["why"]) == ("right", True, True)
    assert desk.coord("service", "forget", "jobs", "--host", "left").code == 6
    assert desk.coord("service", "forget", "jobs", "--host", "right").code == 2
    docs = rows_of(desk, "docs")["docs"]["state"]
    assert desk.ok("service", "forget", "docs", "--host", "right", "--json").json == ["docs"]
    assert (docs, rows_of(desk, "docs")["docs"]["state"]) == ("unreachable", "not_started")
    machines["right"].worker(**{repo: repo for repo in HOSTS["right"]}).says("ready")
    until(lambda: {rows_of(desk, one)[one]["state"] for one in ("web", "docs")} == {"healthy"})
    assert desk.ok("service", "stop", "--json").json["success"]
    until(lambda: {one["state"] for one in rows_of(desk).values()} == {"stopped"})


def _end(machine: Machine) -> None:
    host = ServiceHost(machine.state)
    for name in list(host.desired()):
        host.stop(name, lambda: False)
