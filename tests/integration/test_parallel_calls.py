"""Several threads at once: the tools of agents, the parts of the library, the history."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property, partial
from threading import Barrier
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

from coordination.api.coord import Coord
from coordination.errors import CoordinationError
from tests.agent import Agent, agent_of
from tests.testbed import PLAN, Testbed

if TYPE_CHECKING:  # FastMCP takes 3 s to import
    from mcp_types import Tool

T = TypeVar("T")
AT_ONCE = 4
ARGUMENTS: dict[str, Any] = {
    "id": "1-1",
    "actor": "ann", "command": "true", "host": "elsewhere", "ids": ["1-1"], "issue": "ISSUE-001", "key": "k",
    "name": "n", "names": ["k"], "payload": 1, "plan": PLAN, "repo": "api", "run": "last", "task": "look",
    "template": "T", "text": "hello", "title": "t", "to": "api",
    "todo": "A", "topic": "a", "topics": ["a"], "value": 1,
    "proposal": {"title": "t", "todos": [{"key": "a", "repo": "api", "task": "look"}]},
}  # fmt: skip
"""Argument that a tool requires → its value."""
PARTS = sorted(
    name for name, found in inspect.getmembers(Coord) if isinstance(found, property | cached_property)
)


def at_once(*calls: Callable[[], T]) -> list[T]:
    """Return the results of calls that begin at the same time, each in a thread of its own."""
    barrier = Barrier(len(calls))

    def begin(call: Callable[[], T]) -> T:
        barrier.wait(60)
        return call()

    with ThreadPoolExecutor(len(calls)) as threads:
        return list(threads.map(begin, calls))


@pytest.fixture
def testbed(testbed: Testbed) -> Testbed:
    testbed.write([{"id": "A", "repo": "api"}, {"id": "B", "repo": "web", "blocked_by": ["A"]}])
    testbed.ok("create-issue", "--title", "slow", "--repos", "api")
    return testbed


def answer(ai: Agent, tool: Tool) -> Any:
    """Return the tool's answer, or its refusal."""
    schema = tool.input_schema
    given = {name: ARGUMENTS[name] for name in schema.get("required", ())}
    if "wait_s" in schema["properties"]:
        given["wait_s"] = 0.01
    got = ai.answer(tool.name, **given)
    return got.content[0].text if got.is_error else got.structured_content  # type: ignore[union-attr]


def reads(tool: Tool) -> bool:
    return tool.annotations is not None and bool(tool.annotations.read_only_hint)


def test_every_tool_answers_many_clients_at_once(testbed: Testbed, redis_url: str, caplog: Any) -> None:
    with agent_of(testbed.file, redis_url) as ai:
        for name, tool in sorted(ai.tools().items(), key=lambda found: not reads(found[1])):
            with caplog.at_level(logging.WARNING):
                answers = at_once(*AT_ONCE * [partial(answer, ai, tool)])
            # the text of an error that coord does not know is hidden from the client
            assert f"Error calling tool '{name}'" not in answers, name
            assert "history" not in caplog.text, name
            if reads(tool):
                assert all(one == answers[0] for one in answers), name


READS: dict[str, Callable[[Coord], object]] = {
    "breakers": lambda coord: coord.breakers.list(),
    "cache": lambda coord: coord.cache.at(plan=PLAN).get("version"),
    "context": lambda coord: coord.context(plan=PLAN).get("version"),
    "changes": lambda coord: coord.changes.list(),
    "checks": lambda coord: coord.checks.report(),
    "events": lambda coord: coord.events.list(),
    "lock": lambda coord: coord.lock.list(),
    "resource": lambda coord: coord.resource.list(),
    "template": lambda coord: coord.template.list(),
    "health": lambda coord: coord.health(),
    "message": lambda coord: coord.message.list("api"),
    "live": lambda coord: coord.live.newest_runs(),
    "locks": lambda coord: coord.locks.list(),
    "manager": lambda coord: coord.manager.list_todos(),
    "memory": lambda coord: (coord.memory.search("slow"), coord.memory.trends(), [*coord.memory.export()]),
    "messages": lambda coord: coord.messages.recipients(),
    "planner": lambda coord: coord.planner.forecast(PLAN).critical_path,
    "repo": lambda coord: coord.repo.list(),
    "issue": lambda coord: coord.issue.list(),
    "todo": lambda coord: coord.todo.list(),
    "plan": lambda coord: coord.plan.list(),
    "dep": lambda coord: coord.dep.list(),
    "requests": lambda coord: coord.pr.list(),
    "runs": lambda coord: coord.runs.list(),
    "services": lambda coord: coord.services.list(),
}
"""Part of the library → a question to it."""


def outcome(call: Callable[[], object]) -> object:
    """Return what a call returns, or the message of its refusal."""
    try:
        return call()
    except CoordinationError as error:
        return error.message


def test_a_part_of_the_library_is_opened_once_and_answers_several_threads(
    testbed: Testbed, redis_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    with Coord(testbed.file, redis_url) as coord:
        for part in PARTS:
            opened = at_once(*AT_ONCE * [partial(getattr, coord, part)])
            assert all(one is opened[0] or one == opened[0] for one in opened), part
            if (read := READS.get(part)) is not None:
                answers = at_once(*AT_ONCE * [partial(outcome, partial(read, coord))])
                assert all(one == answers[0] for one in answers), part
    assert not caplog.records


def test_a_library_that_several_threads_have_used_leaves_no_server_behind(testbed: Testbed) -> None:
    with Coord(testbed.file) as coord:
        opened = at_once(*AT_ONCE * [lambda: (coord.redis_url, len(coord.memory.search("slow")))])
        assert opened == [(testbed.server.url, 1)] * AT_ONCE

    assert testbed.server.running() is None
