"""`coord mcp` as a client starts it: a process that is spoken to on standard input and output, with real
workers behind.
"""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from coordination.backend.daemon import Daemon
from coordination.backend.embedded import EmbeddedServer
from coordination.settings import Settings
from tests.acceptance.gate import Gate
from tests.agent import Agent, agent, all_tools, over_stdio
from tests.testbed import COORD, FORKS, PLAN, Testbed, plain
from tests.waiting import until

if TYPE_CHECKING:
    from fastmcp.client.transports import ClientTransport

TODOS = [
    {"id": "TODO-001", "repo": "api", "action": "seq 1 5000; echo found 42"},
    {"id": "TODO-002", "repo": "web", "action": "[ -e $LEDGER ] && echo mended", "blocked_by": ["TODO-001"]},
]


def server_of(testbed: Testbed, **env: str) -> ClientTransport:
    words = [str(FORKS.programs / "coord"), "mcp", "--tools", "all", "--ecosystem", str(testbed.file)]
    return over_stdio(words, plain(env), "/")


@pytest.fixture(scope="module")
def testbed(new_testbed: Callable[[], Testbed]) -> Testbed:
    testbed = new_testbed()
    testbed.write(TODOS)
    return testbed


@pytest.fixture(scope="module")
def ai(testbed: Testbed) -> Iterator[Agent]:
    """Started as the configuration for clients says."""
    found = testbed.ok("mcp", "--config", "--tools", "all").json["mcpServers"]["coord"]
    with agent(over_stdio([found["command"], *found["args"]], plain(), "/")) as ai:
        yield ai


def test_a_plan_is_swept_followed_mended_and_retried(ai: Agent, testbed: Testbed) -> None:
    testbed.write(TODOS)
    assert set(ai.tools()) == all_tools()
    assert "coord_run_sweep" in ai.instructions()

    begun = ai.call("coord_run_sweep", plan=PLAN)
    assert begun["status"] == "running"
    failed = ai.call("coord_run_show", run=begun["run_id"], wait_s=60)
    assert (failed["status"], failed["counts"]) == ("failed", {"succeeded": 1, "failed": 1})
    assert failed.pop("left_out") == {}
    assert failed.pop("progress")["percent"] == 100
    shown = testbed.run(begun["run_id"])
    assert failed == {name: value for name, value in shown.items() if name != "progress"}
    assert testbed.ok("show-todo", "TODO-001", "--json").json["status"] == "completed"

    (testbed.folder / "ledger").write_text("mended\n")
    again = ai.call("coord_run_retry", run=begun["run_id"], wait_s=60)
    assert (again["status"], again["carried_from"]) == ("succeeded", begun["run_id"])
    newest = [run["run_id"] for run in ai.call("coord_run_list")["result"]][:2]
    assert newest == [again["run_id"], begun["run_id"]]
    assert {todo["status"] for todo in ai.call("coord_list_todos")["result"]} == {"completed"}

    log = ai.call("coord_run_logs", run=begun["run_id"], todo="TODO-001", limit=16)
    assert log["text"] == f"[coord] {log['offset']} characters before this: offset=0\n5000\nfound 42\n"
    assert log["end"] == log["total"]
    head = ai.call("coord_run_logs", run=begun["run_id"], todo="TODO-001", limit=4, offset=0)
    assert head["text"] == f"1\n2\n\n[coord] {log['total'] - 4} characters after this: offset=4\n"
    assert "TODO-002 | mended" in ai.call("coord_run_logs")["text"]
    assert ai.read("coord://runs/last/todos/TODO-002/log").endswith("\nmended\n")
    assert json.loads(ai.read(f"coord://runs/{begun['run_id']}")).items() >= failed.items()
    assert "did you mean 'TODO-001'" in ai.refused("coord_run_logs", run=begun["run_id"], todo="TODO-01")
    assert "it ended as succeeded" in ai.refused("coord_run_cancel", run="last")
    assert "there is no run" in ai.refused("coord_run_show", run="nothing")
    assert "is completed" in ai.refused("coord_todo_execute", todo="TODO-001")
    assert "can start" in ai.refused("coord_run_sweep", plan=PLAN)
    only = ai.call("coord_run_show", run=begun["run_id"], states=["failed"])["todos"]
    assert [todo["id"] for todo in only] == ["TODO-002"]
    assert ai.call("coord_run_show", run=begun["run_id"], limit=1)["left_out"] == {"todos": 1}


def test_one_todo_is_run_and_a_run_is_cancelled(ai: Agent, testbed: Testbed) -> None:
    gate = Gate(testbed.folder)
    testbed.write([{"id": "A", "repo": "api", "action": gate.action}, {"id": "B", "repo": "web"}])

    assert ai.call("coord_todo_execute", todo="B", wait_s=60)["counts"] == {"succeeded": 1}
    begun = ai.call("coord_todo_execute", todo="A")["run_id"]
    gate.wait()
    assert "running" in ai.refused("coord_run_retry", run=begun)
    cancelled = ai.call("coord_run_cancel", run=begun, wait_s=60)

    assert cancelled["status"] == "cancelled"


def test_a_run_that_waits_for_a_person_goes_on_when_they_say_so(ai: Agent, testbed: Testbed) -> None:
    ship = {"id": "ship", "repo": "web", "gate": True, "blocked_by": ["look"]}
    testbed.write([{"id": "look", "repo": "api", "action": {"type": "manual"}}, ship])

    begun = ai.call("coord_run_sweep", plan=PLAN)["run_id"]
    until(lambda: ai.call("coord_run_show", run=begun)["counts"] == {"parked": 1, "waiting": 1})
    assert ai.call("coord_get_todo", todo="look")["live"]["waits_for"] == "a person: coord todo complete look"
    assert "it waits for look" in ai.refused("coord_run_approve", todo="ship")
    assert ai.call("coord_complete_todo", todo="look")["run_id"] == begun
    assert ai.call("coord_run_show", run=begun, states=["parked"])["todos"][0]["id"] == "ship"
    assert ai.call("coord_run_approve", todo="ship", comment="they said so")["run_id"] == begun
    assert "ship was approved by" in ai.refused("coord_run_reject", todo="ship")

    assert ai.call("coord_run_show", run=begun, wait_s=60)["status"] == "succeeded"
    assert ai.call("coord_get_todo", todo="look")["status"] == "completed"


def test_what_was_started_goes_on_without_the_client(new_testbed: Callable[[], Testbed]) -> None:
    testbed = new_testbed()
    gate = Gate(testbed.folder)
    testbed.write([{"id": "A", "repo": "api", "action": gate.action}])
    with agent(server_of(testbed)) as ai:
        begun = ai.call("coord_run_sweep", plan=PLAN)["run_id"]

    gate.open()
    until(lambda: testbed.run(begun)["status"] == "succeeded")
    assert Daemon(testbed.state, "worker").running()
    until(lambda: testbed.ok("show-todo", "A", "--json").json["status"] == "completed")


def test_a_redis_that_goes_away_is_named_and_used_again_when_it_is_back(tmp_path: Path) -> None:
    testbed, redis = Testbed(tmp_path), EmbeddedServer(tmp_path / "elsewhere" / ".coord", Settings())
    testbed.write([{"id": "A", "repo": "api"}])
    try:
        with agent(server_of(testbed, COORD_REDIS_URL=redis.start())) as ai:
            assert ai.call("coord_run_list")["result"] == []
            redis.stop()
            assert "does not answer" in ai.refused("coord_run_list")
            assert ai.call("coord_list_todos")["total"] == 1
            redis.start()
            assert ai.call("coord_run_list")["result"] == []
    finally:
        redis.stop()
        testbed.end()


def test_the_embedded_server_is_started_again_when_it_was_killed(testbed: Testbed, ai: Agent) -> None:
    before = ai.call("coord_run_list")
    testbed.kill("server")

    assert ai.call("coord_run_list") == before


def test_a_client_that_hangs_up_ends_it(testbed: Testbed) -> None:
    ended = testbed.begin("mcp").done(60)

    assert (ended.code, ended.out, ended.err) == (0, "", "")


@pytest.mark.parametrize(("number", "hangs_up"), [(signal.SIGTERM, False), (signal.SIGINT, True)])
def test_a_signal_ends_it_and_what_it_started_for_itself(
    tmp_path: Path, number: signal.Signals, hangs_up: bool
) -> None:
    testbed = Testbed(tmp_path)
    testbed.write([{"id": "A", "repo": "api"}])
    hello = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "tools/call",
        "params": {"name": "coord_run_list", "arguments": {}},
    }
    first = {
        "jsonrpc": "2.0",
        "id": 0,
        "method": "initialize",
        "params": {
            "protocolVersion": "2025-06-18",
            "capabilities": {},
            "clientInfo": {"name": "t", "version": "1"},
        },
    }
    process = FORKS.piped([COORD, "mcp"], cwd=testbed.folder, env=plain())
    for message in (first, {"jsonrpc": "2.0", "method": "notifications/initialized"}, hello):
        process.stdin.write(f"{json.dumps(message)}\n")
    answers = [json.loads(process.stdout.readline()) for _ in range(2)]
    assert [answer["id"] for answer in answers] == [0, 1]
    assert Daemon(testbed.state, "server").running()

    if hangs_up:
        process.stdin.close()
    process.send_signal(number)

    assert process.wait(60) == 0
    assert process.stdout.read() == ""
    process.close()
    until(lambda: not list(testbed.alive()))


def test_a_clients_configuration_starts_it(testbed: Testbed, ai: Agent) -> None:
    found = testbed.ok("mcp", "--config", COORD_REDIS_URL="redis://elsewhere").json["mcpServers"]["coord"]

    assert found["args"] == ["mcp", "--ecosystem", str(testbed.file)]
    assert found["env"] == {"COORD_REDIS_URL": "redis://elsewhere"}
    assert ai.read("coord://ecosystem") == testbed.file.read_text()
