"""Every MCP tool, called as an agent calls it, on a real file: answers, refusals, annotations."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from coordination.ecosystem.document import load
from tests.agent import Agent, agent, agent_of
from tests.testbed import COORD, Testbed
from tests.waiting import until

if TYPE_CHECKING:  # FastMCP takes 3 s to import, so tests import it when they run
    from coordination.mcp.session import Session

FILE = """\
# what we own
repos:
  - {name: api, path: api, role: service, tags: [core]}
  - {name: web, path: web}
coordination:
  issues:
    - {id: ISSUE-001, title: Ends of life, priority: high, repos: [api], blocking: [TODO-001]}  # soon
    - {id: ISSUE-002, title: Typos, status: in_progress, repos: [web], assignee: ann, labels: [docs]}
  plans:
    - {id: PLAN-001, title: Python 3.13, repos: [api, web], milestones: [{id: M1, name: released}]}
  todos:
    - {id: TODO-001, task: raise it, repo: api, plan: PLAN-001, status: blocked, estimated_hours: 2,
       action: "true"}
    - {id: TODO-002, task: follow, repo: web, plan: PLAN-001, blocked_by: [TODO-001], action: "true"}
    - {id: TODO-003, task: think, repo: web, priority: low}
  dependencies:
    - {id: DEP-001, consumer: web, provider: api, version_constraint: ">=2", type: runtime}
"""


@pytest.fixture(scope="module")
def testbed(new_testbed: Callable[[], Testbed]) -> Testbed:
    return new_testbed()


@pytest.fixture
def file(testbed: Testbed) -> Path:
    testbed.file.write_text(FILE)
    return testbed.file


@pytest.fixture(scope="module")
def office(testbed: Testbed) -> Iterator[Session]:
    from coordination.mcp.session import Session

    office = Session(testbed.file)
    yield office
    office.close()


@pytest.fixture(scope="module")
def connected(office: Session) -> Iterator[Agent]:
    """For all tests: to build a server takes as long as a dozen of them."""
    from coordination.mcp.server import build

    with agent(build(office)) as made:
        yield made


@pytest.fixture
def ai(connected: Agent, file: Path) -> Agent:
    return connected


def test_every_tool_has_a_title_a_description_and_hints(ai: Agent):
    for tool in ai.tools().values():
        hints = tool.annotations
        assert hints is not None
        assert None not in (hints.read_only_hint, hints.destructive_hint)
        assert None not in (hints.idempotent_hint, hints.open_world_hint)
        assert tool.title
        assert tool.description
        assert tool.output_schema is None
        assert all(tool.input_schema["properties"].values())


def test_records_are_listed_by_filters_that_intersect(ai: Agent):
    def ids(tool: str, **filters: object) -> list[str]:
        return [record["id"] for record in ai.call(tool, **filters)["result"]]

    assert ids("coord_list_issues") == ["ISSUE-001", "ISSUE-002"]
    assert ids("coord_list_issues", status="in_progress,blocked", repo=["web", "api"], assignee="ann") == [
        "ISSUE-002"
    ]
    assert ids("coord_list_todos", repo=["web"], priority=["low"]) == ["TODO-003"]
    assert ids("coord_list_todos", plan=["PLAN-001"], status=["pending"]) == ["TODO-002"]
    assert ids("coord_list_plans", repo=["api"]) == ["PLAN-001"]
    assert ids("coord_list_dependencies", consumer=["web"], type=["runtime"]) == ["DEP-001"]


def test_a_long_list_comes_in_pages(ai: Agent):
    first = ai.call("coord_list_todos", limit=2)
    second = ai.call("coord_list_todos", limit=2, offset=2)

    assert [t["id"] for t in first["result"] + second["result"]] == ["TODO-001", "TODO-002", "TODO-003"]
    assert first["total"] == second["total"] == 3


def test_what_no_agent_would_read_is_cut_and_counted(ai: Agent):
    status = ai.call("coord_get_repo_status", repo="web", limit=1)

    assert [todo["id"] for todo in ai.call("coord_get_ecosystem_status", limit=1)["ready"]] == ["TODO-003"]
    assert status["counts"]["todos"] == {"pending": 2}
    assert (len(status["plans"]), status["left_out"]) == (1, {})
    standing = ai.call("coord_plan_validate", plan="PLAN-001", limit=1)
    assert (len(standing["open_todos"]), standing["left_out"]["open_todos"]) == (1, 1)


def test_an_issue_is_created_changed_and_closed(ai: Agent, file: Path):
    created = ai.call(
        "coord_create_issue", title="Slow start", repos=["api"], priority="low", target="2026-12-31"
    )
    changed = ai.call(
        "coord_update_issue", issue=created["id"], assignee="bob", labels=["speed"], clear=["target"]
    )
    closed = ai.call("coord_close_issue", issue="ISSUE-001")

    assert (created["id"], created["target"], created["status"]) == ("ISSUE-003", "2026-12-31", "pending")
    assert (changed["assignee"], changed["labels"], changed["target"]) == ("bob", ["speed"], None)
    assert (closed["status"], closed["ready"]) == ("closed", ["TODO-001"])
    assert ai.call("coord_get_issue", issue="ISSUE-003")["assignee"] == "bob"
    assert "# soon" in file.read_text()
    assert load(file).ecosystem.coordination.todos[0].status == "pending"


def test_a_todo_is_created_and_completed(ai: Agent, file: Path):
    created = ai.call(
        "coord_create_todo",
        task="measure",
        repo="api",
        plan="PLAN-001",
        estimated_hours=1.5,
        blocked_by=["TODO-002"],
        acceptance_criteria=["figures, with commas"],
        run="make bench",
        timeout="5m",
        resources=["bench-host", {"name": "gpu", "amount": 2}],
    )
    done = ai.call("coord_complete_todo", todo="TODO-003", actual_hours=0.5)

    assert created["task"] == "measure"
    assert created["action"] == {"type": "shell", "run": "make bench", "read_only": False}
    assert created["resources"] == [{"name": "bench-host", "amount": 1}, {"name": "gpu", "amount": 2}]
    assert "[bench-host, {name: gpu, amount: 2}]" in file.read_text()
    assert created["acceptance_criteria"] == ["figures, with commas"]
    assert (done["status"], done["actual_hours"]) == ("completed", 0.5)
    assert ai.call("coord_get_todo", todo=created["id"])["blocked_by"] == ["TODO-002"]


def test_what_stands_where_is_asked(ai: Agent):
    (found,) = ai.call("coord_get_blocking_issues", repo="api")["result"]
    assert found["issue"]["id"] == "ISSUE-001"
    assert ai.call("coord_get_repo_status", repo="web")["needs"][0]["id"] == "DEP-001"
    assert {line["name"] for line in ai.call("coord_get_ecosystem_status")["repos"]} == {"api", "web"}
    assert ai.call("coord_plan_validate", plan="PLAN-001")["complete"] is False
    first = ai.call("coord_create_todo", task="one", repo="api", plan="PLAN-001", estimated_hours=1)["id"]
    ai.call("coord_create_todo", task="two", repo="web", plan="PLAN-001", blocked_by=[first])
    forecast = ai.call("coord_plan_forecast", plan="PLAN-001")
    cut = ai.call("coord_plan_forecast", plan="PLAN-001", limit=1)
    assert (forecast["plan_id"], forecast["strategy"]) == ("PLAN-001", "levels")
    assert (forecast["bottleneck"]["kind"], forecast["one_more_slot"]["saves_h"]) == ("path", 0)
    assert len(forecast["critical_path"]) > len(cut["critical_path"]) == 1
    assert cut["left_out"] == {"critical_path": len(forecast["critical_path"]) - 1}


def test_a_plan_is_completed_over_what_it_lacks_by_force_alone(ai: Agent, file: Path):
    file.write_text(FILE.replace("Python 3.13,", "Python 3.13, status: active,"))

    assert "TODO-001 is blocked" in ai.refused("coord_plan_complete", plan="PLAN-001")
    assert "reason" in ai.refused("coord_plan_complete", plan="PLAN-001", force=True)
    reached = ai.call("coord_plan_complete", plan="PLAN-001", milestones=["M1"])
    assert (reached["status"], reached["milestones"][0]["status"]) == ("active", "completed")
    done = ai.call("coord_plan_complete", plan="PLAN-001", force=True, reason="ann agreed")
    assert (done["status"], len(done["notes"])) == ("completed", 2)


@pytest.mark.parametrize(
    ("tool", "arguments", "words"),
    [
        ("coord_get_issue", {"issue": "ISUE-001"}, "did you mean ISSUE-001"),
        ("coord_get_todo", {"todo": "TODO-01"}, "did you mean TODO-001"),
        ("coord_list_todos", {"repo": ["wbe"]}, "did you mean web"),
        ("coord_get_repo_status", {"repo": "ap"}, "did you mean api"),
        ("coord_plan_forecast", {"plan": "PLAN-01"}, "did you mean 'PLAN-001'"),
        ("coord_list_issues", {"status": ["pendng"]}, "must be one of pending, in_progress, blocked,"),
        ("coord_list_issues", {"status": ["pendng"]}, "did you mean 'pending'"),
        ("coord_list_issues", {"stat": "pending"}, "unknown argument 'stat' (did you mean 'status'?)"),
        ("coord_create_issue", {"title": "x", "priority": "hihg"}, "did you mean 'high'"),
        ("coord_create_issue", {"title": "x", "target": "soon"}, "a date like 2026-01-31"),
        ("coord_update_issue", {"issue": "ISSUE-001", "clear": ["asignee"]}, "assignee"),
        ("coord_close_issue", {}, "issue: is required"),
        ("coord_create_todo", {"task": "x", "repo": "api", "estimated_hours": 0}, "must be more than 0"),
        ("coord_create_todo", {"task": "x", "repo": "api", "run": "a", "manual": True}, "exclude each other"),
        ("coord_create_todo", {"task": "x", "repo": "apii"}, "did you mean"),
        ("coord_run_show", {"wait_s": 61}, "wait_s: must be at most 60, got 61"),
    ],
)
def test_what_is_refused_says_what_to_do(
    ai: Agent, file: Path, tool: str, arguments: dict[str, object], words: str
):
    assert words in ai.refused(tool, **arguments)
    assert file.read_text() == FILE


def test_what_is_closed_cannot_be_closed_again(ai: Agent):
    ai.call("coord_close_issue", issue="ISSUE-002")

    assert "closed" in ai.refused("coord_close_issue", issue="ISSUE-002")


def test_edits_of_others_are_seen_and_a_broken_file_is_named_until_it_is_mended(ai: Agent, file: Path):
    assert ai.call("coord_get_issue", issue="ISSUE-002")["title"] == "Typos"

    file.write_text(FILE.replace("title: Typos", "title: Mistakes"))
    assert ai.call("coord_get_issue", issue="ISSUE-002")["title"] == "Mistakes"

    file.write_text(FILE.replace("status: in_progress", "status: inprogress"))
    broken = ai.refused("coord_close_issue", issue="ISSUE-001")
    assert "ecosystem.yaml:8" in broken
    assert "did you mean 'in_progress'" in broken

    file.write_text(FILE)
    assert ai.call("coord_close_issue", issue="ISSUE-001")["status"] == "closed"


def test_a_server_that_starts_on_a_broken_file_works_once_it_is_mended(tmp_path: Path):
    file = tmp_path / "ecosystem.yaml"
    file.write_text("repos: 3\n")
    with agent_of(file) as ai:
        assert "ecosystem.yaml:1" in ai.refused("coord_list_plans")
        file.write_text(FILE)
        assert ai.call("coord_list_plans")["total"] == 1


def test_settings_that_change_are_in_force_at_the_next_call(office: Session, file: Path):
    assert office.coord.settings.agent_command is None
    file.write_text("settings: {agent_command: echo}\n" + FILE)

    assert office.coord.settings.agent_command == "echo"
    assert office.coord is office.coord


def test_tools_at_the_same_time_do_not_lose_each_others_edits(ai: Agent, file: Path):
    with ThreadPoolExecutor(8) as pool:
        made = list(
            pool.map(lambda n: ai.call("coord_create_todo", task=f"no {n}", repo="api")["id"], range(16))
        )

    assert len(set(made)) == 16
    assert {todo.id for todo in load(file).ecosystem.coordination.todos} >= set(made)


def test_an_internal_error_is_logged_and_hidden_from_the_client(
    office: Session, caplog: pytest.LogCaptureFixture
):
    def coord_breaks(office: object, secret: str) -> str:
        """It breaks."""
        raise ValueError(secret)

    from fastmcp.tools import FunctionTool

    from coordination.mcp.declaration import bound
    from coordination.mcp.server import build

    server = build(office)
    server.add_tool(FunctionTool.from_function(bound(coord_breaks, office)))
    logging.getLogger("fastmcp").addHandler(caplog.handler)

    with agent(server) as ai:
        assert ai.refused("coord_breaks", secret="hush") == "Error calling tool 'coord_breaks'"
    logging.getLogger("fastmcp").removeHandler(caplog.handler)
    assert "ValueError: hush" in caplog.text


def test_the_way_to_a_plan_names_what_there_is(ai: Agent):
    text = ai.prompt("plan_change", change="Drop Python 3.9")
    narrowed = ai.prompt("plan_change", change="Drop Python 3.9", repos="api")

    for words in ("Drop Python 3.9", "- web", "web needs api >=2", "PLAN-001 (draft)", "coord_create_todo"):
        assert words in text
    assert "- web" not in narrowed
    with pytest.raises(Exception, match="did you mean api"):
        ai.prompt("plan_change", change="x", repos="ap")
    with pytest.raises(Exception, match="change: is required"):
        ai.prompt("plan_change", repos="api")
    with pytest.raises(Exception, match=r"unknown argument 'repo'.*did you mean 'repos'"):
        ai.prompt("plan_change", change="x", repo="api")


def test_a_proposed_plan_is_validated_and_shown_and_not_written(ai: Agent, file: Path):
    todos = [
        {"key": "b", "repo": "web", "task": "Read it", "blocked_by": ["a"]},
        {"key": "a", "repo": "api", "task": "Write it"},
    ]

    shown = ai.call("coord_propose_plan", proposal={"title": "Zones", "todos": todos})

    assert [(one["repo"], one["blocked_by"]) for one in shown["todos"]] == [
        ("api", []),
        ("web", [shown["todos"][0]["id"]]),
    ]
    assert "+    - {id: PLAN-002, title: Zones" in shown["diff"]
    assert "coord plan create --proposal FILE" in shown["apply"]
    assert not shown["written"]
    refused = ai.refused(
        "coord_propose_plan", proposal={"title": "x", "todos": [{**todos[1], "run": "true"}]}
    )
    assert "todos[0].run is no field of a proposal" in refused
    assert "web, which is not selected" in ai.refused(
        "coord_propose_plan", proposal={"title": "x", "todos": todos}, repos=["api"]
    )
    assert file.read_text() == FILE
    assert ai.tools()["coord_propose_plan"].annotations.read_only_hint  # type: ignore[union-attr]
    schema = ai.tools()["coord_propose_plan"].input_schema["properties"]["proposal"]
    assert schema["properties"]["todos"]["maxItems"] == 50


def test_the_file_is_a_resource(ai: Agent):
    assert ai.read("coord://ecosystem") == FILE
    assert ai.templates() == {
        "coord://runs/{run_id}", "coord://runs/{run_id}/todos/{todo_id}/log", "coord://events/{position}"
    }  # fmt: skip


@pytest.mark.parametrize(
    ("command", "tool", "arguments"),
    [
        ("list-issues", "coord_list_issues", {}),
        ("list-todos", "coord_list_todos", {}),
        ("list-plans", "coord_list_plans", {}),
        ("list-deps", "coord_list_dependencies", {}),
        ("show-issue ISSUE-001", "coord_get_issue", {"issue": "ISSUE-001"}),
        ("show-todo TODO-001", "coord_get_todo", {"todo": "TODO-001"}),
        ("blocking api", "coord_get_blocking_issues", {"repo": "api"}),
        ("status api", "coord_get_repo_status", {"repo": "api"}),
        ("ecosystem status", "coord_get_ecosystem_status", {}),
        ("plan forecast PLAN-001", "coord_plan_forecast", {"plan": "PLAN-001"}),
        ("plan validate PLAN-001", "coord_plan_validate", {"plan": "PLAN-001"}),
    ],
)
def test_tools_and_commands_answer_alike(
    ai: Agent, testbed: Testbed, command: str, tool: str, arguments: dict[str, str]
):
    answer = ai.call(tool, **arguments)
    assert not answer.pop("left_out", {})
    page = answer.get("result", answer)
    assert page == json.loads(testbed.coord(*command.split(), "--json").out)


def test_without_fastmcp_it_says_how_to_install_it(file: Path, testbed: Testbed):
    blocked = "import sys; sys.modules['fastmcp'] = None; from coordination.cli import main; main()"

    answer = testbed.begin("-c", blocked, "mcp", command=(COORD.with_name("python"),)).done()

    assert answer.code == 1
    assert "pip install '.[mcp]'" in answer.err


def test_an_agent_waits_for_what_is_published_on_a_topic(ai: Agent, office: Session):
    bus = office.coord.messages
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(lambda: ai.call("coord_topic_subscribe", topics="a.*, b", wait_s=30, most=2))
        until(lambda: bus.publish("a.ready", "?") == 1)
        bus.publish("elsewhere", 1)
        bus.publish("b", {"n": 2})
        heard = waiting.result(30)

    assert heard["gap"] is False
    assert [event["payload"] for event in heard["events"]] == ["?", {"n": 2}]
    assert ai.call("coord_topic_publish", topic="b", payload=[1]) == {"topic": "b", "reached": 0}
    assert ai.call("coord_topic_subscribe", topics=["b"], wait_s=0.1)["events"] == []


def test_arguments_are_known_by_their_other_names(ai: Agent):
    made = ai.call("coord_create_todo", task="measure", repo_name="api", estimate_hours=1.5)

    assert (made["repo"], made["estimated_hours"]) == ("api", 1.5)
    assert ai.call("coord_get_todo", todo_id=made["id"])["id"] == made["id"]
    assert ai.call("coord_get_issue", issue_id="ISSUE-001")["id"] == "ISSUE-001"
    assert ai.call("coord_get_repo_status", repo_name="web")["repo"]["name"] == "web"
