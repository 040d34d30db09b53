"""`coord service`: services start in phases, and what depends on a failed one is skipped."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from coordination.processes import look
from tests.agent import agent_of
from tests.ports import free_port
from tests.testbed import Testbed
from tests.waiting import until

REPOS = ("api", "web")
FAILS = "echo sorry; exit 4"


@pytest.fixture(scope="module")
def testbed(new_testbed: Callable[[], Testbed]) -> Iterator[Testbed]:
    testbed = new_testbed()
    testbed.write(repos=REPOS)
    testbed.up()
    yield testbed
    testbed.coord("down")  # also services that a failed test declared


def declared(testbed: Testbed, check: str = "", **commands: str) -> int:
    """Write a file with a required service `store`, `front` that needs it, what else is given, and a check;
    return the port of `store`.
    """
    port = free_port()
    serve = f"exec python3 -m http.server --bind 127.0.0.1 {port}"
    probe = {"http": {"url": f"http://127.0.0.1:{port}/"}}
    store = {"repo": "api", "command": commands.pop("store", serve), "required": True, "probe": probe}
    services: list[dict[str, Any]] = [
        {"name": "store", **store},
        {"name": "front", "repo": "web", "command": "exec sleep 600", "depends_on": ["store"]},
        *({"name": name, "repo": "web", "command": what} for name, what in commands.items()),
        {"name": "last", "repo": "web", "command": "exec sleep 600", "depends_on": list(commands)},
    ]
    checks = [{"name": "smoke", "repo": "web", "command": check}] if check else []
    testbed.write(repos=REPOS, services=services, checks=checks)
    return port


def states(testbed: Testbed) -> dict[str, str]:
    return {one["name"]: one["state"] for one in testbed.ok("service", "list", "--json").json}


def test_all_start_once_in_order_and_stop(testbed: Testbed):
    declared(testbed)
    first = testbed.ok("service", "start", "--json").json
    assert (first["success"], first["degraded"]) == (True, False)
    assert first["started"] == ["store", "front", "last"]
    assert [one["phase"] for one in first["details"]] == ["core", "external", "external"]
    shown = testbed.run(first["run"])
    assert shown["status"] == "succeeded"
    assert all(todo["duration_s"] >= 1 for todo in shown["todos"] if todo["id"] != "service.store")
    pids = [one["pid"] for one in first["details"]]
    assert all(look(pid) for pid in pids)
    again = testbed.ok("service", "start", "front", "--json").json
    assert [one["pid"] for one in again["details"]] == pids[:2]
    assert testbed.ok("service", "restart", "store", "--json").json["started"] == ["store", "front"]
    stopped = testbed.ok("service", "stop", "--json").json
    assert (stopped["success"], stopped["started"]) == (True, [])
    assert sorted(stopped["stopped"]) == ["front", "last", "store"]
    assert set(states(testbed).values()) == {"stopped"}
    assert not any(look(pid) for pid in pids)


def test_an_agent_starts_reads_and_stops_them(testbed: Testbed):
    declared(testbed, never="exec sleep 600")
    with agent_of(testbed.file) as ai:
        begun = ai.call("coord_service_start", names=["front"], wait_s=60)
        assert (begun["outcome"]["success"], begun["outcome"]["started"]) == (True, ["store", "front"])
        listed = {one["name"]: one["state"] for one in ai.call("coord_service_list")["result"]}
        assert (listed["store"], listed["front"], listed["never"]) == ("healthy", "healthy", "not_started")
        until(lambda: "GET / HTTP" in "".join(ai.call("coord_service_logs", name="store")["result"]))
        assert "stor" in ai.refused("coord_service_stop", names=["stor"])
        assert ai.call("coord_service_stop", wait_s=60)["outcome"]["success"]
    after = states(testbed)
    assert (after["front"], after["never"]) == ("stopped", "not_started")  # the one that was never up


def test_an_optional_one_that_fails_degrades_and_skips_what_needs_it(testbed: Testbed):
    declared(testbed, broken=FAILS)
    done = testbed.coord("service", "start", "--json")
    assert (done.code, done.json["degraded"]) == (3, True)
    assert (done.json["failed"], done.json["skipped"]) == (["broken"], ["last"])
    begun, *said = testbed.ok("service", "logs", "broken").out.splitlines()
    assert " coord: started broken (pid " in begun
    assert [said[0], said[-1].partition(") ")[2]] == ["sorry", "ended with exit code 4"]
    assert states(testbed)["front"] == "healthy"
    assert "coord service logs broken" in testbed.coord("service", "start", "broken").err
    again = testbed.ok("service", "restart", "front")
    assert "✓ service.front" in again.out + again.err
    assert " 0.0 s" not in again.out + again.err
    refused = testbed.coord("retry", done.json["run"])
    assert (refused.code, "coord service start" in refused.err) == (2, True)
    until(lambda: testbed.coord("service", "stop").code == 0)  # the monitor may be restarting `broken`


def test_a_start_goes_on_without_its_command(testbed: Testbed):
    declared(testbed, slow="sleep 2; exec sleep 600")
    begun = testbed.begin("service", "start")
    begun.says("run ")
    second = testbed.coord("service", "restart", "slow")
    assert (second.code, testbed.run()["run_id"] in second.err) == (6, True)
    begun.kill()
    begun.wait()
    until(lambda: testbed.run()["status"] == "succeeded", 90)
    assert set(states(testbed).values()) == {"healthy"}
    testbed.ok("service", "stop")


@pytest.mark.parametrize(("check", "code", "failed"), [("test -f README", 0, []), ("exit 7", 3, ["smoke"])])
def test_a_failed_check_degrades(testbed: Testbed, check: str, code: int, failed: list[str]):
    declared(testbed, check)
    done = testbed.coord("service", "start", "--json")
    assert (done.code, done.json["failed"], done.json["degraded"]) == (code, failed, bool(code))
    assert done.json["details"][-1]["phase"] == "integration"
    assert set(states(testbed).values()) == {"healthy"}
    again = testbed.coord("service", "start", "--phase", "integration", "--json")
    assert (again.code, len(again.json["details"])) == (code, 1)
    testbed.ok("service", "stop")


def test_a_required_one_that_fails_stops_what_was_started_with_it(testbed: Testbed):
    declared(testbed)
    testbed.ok("service", "start", "front")
    declared(testbed, store=FAILS)
    done = testbed.coord("service", "start", "--json")
    assert (done.code, done.json["success"], done.json["degraded"]) == (3, False, False)
    assert done.json["failed"] == ["store"], done.json
    assert done.json["skipped"] == ["front", "last"]
    assert "sorry" in done.json["details"][0]["why"]
    testbed.ok("service", "stop")


def test_a_dry_run_bad_input_and_a_circle_start_nothing(testbed: Testbed):
    declared(testbed)
    runs = testbed.ok("list-runs", "--json").json

    def refused(*words: str) -> str:
        done = testbed.coord("service", *words)
        assert done.code == 2
        return done.err

    rows = testbed.ok("service", "start", "--dry-run", "--json").json
    assert [row["name"] for row in rows] == ["store", "front", "last"]
    assert "there is no service 'nothing'" in refused("start", "nothing")
    assert "there is no service 'nothing'" in refused("logs", "nothing")
    assert "none" in refused("start", "--phase", "none")
    row = {"repo": "api", "command": "sleep 1"}
    circle = [{"name": name, "depends_on": [other], **row} for name, other in (("a", "b"), ("b", "a"))]
    testbed.write(repos=REPOS, services=circle)
    assert "circle" in refused("start")
    assert testbed.ok("list-runs", "--json").json == runs
    declared(testbed)
