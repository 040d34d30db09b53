"""The schema for editors says the same as the loader."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from coordination.ecosystem.document import parse
from coordination.ecosystem.schema import DESCRIPTIONS, json_schema
from coordination.errors import InvalidFile


@cache
def schema() -> dict[str, Any]:
    """Made by the first test that needs it: it takes half a second, and each pytest worker imports this."""
    return json_schema()


def accepted(data: dict[str, Any]) -> bool:
    return Draft202012Validator(schema()).is_valid(data)


def loads(data: dict[str, Any]) -> bool:
    try:
        parse(json.dumps(data).encode(), Path("ecosystem.yaml"))
    except InvalidFile:
        return False
    return True


def todo(**fields: Any) -> dict[str, Any]:
    return {"coordination": {"todos": [{"id": "T", "task": "t", "repo": "r", **fields}]}}


def plan(**fields: Any) -> dict[str, Any]:
    return {"coordination": {"plans": [{"id": "P", "title": "p", **fields}]}}


RIGHT = [
    {},
    {"settings": {"namespace": "shop", "lease_ttl": "20s", "todo_timeout": 5, "agent_command": ["x", "y"]}},
    {"repos": [{"name": "a", "tags": ["x"], "slots": 2, "qa": "make"}], "coordination": None},
    todo(action="make", timeout="90s"),
    todo(action=["make", "x"], timeout=1.5),
    todo(action={"type": "shell", "run": "x"}),
    todo(action={"type": "python", "call": "a.b:c", "args": {"x": [1]}}),
    todo(action={"type": "agent"}, labels=None, status=None),
    todo(action={"type": "manual"}, env={"A": 1, "B": "x", "C": 1.5}, created="2026-01-31"),
    todo(retry={"attempts": 2, "delay": 1}, estimated_hours=1, workspace="in-place"),
    todo(
        retry={
            "strategy": "fibonacci",
            "jitter": "none",
            "retry_on": [75, "timeout"],
            "stop_on": [{"output": "x"}],
        }
    ),
    plan(retry={"attempts": 2, "stop_on": None}),
    {"resources": [{"name": "a"}, {"name": "b", "type": "api", "capacity": 2}]},
    todo(resources=["gpu", {"name": "db"}, {"name": "x.y", "amount": 2}]),
    plan(milestones=[{"id": "m", "name": "m", "completion_criteria": ["a", {"text": "b", "check": "c"}]}]),
    plan(on_failure="continue", strategy="levels", max_parallel=3),
    plan(on_failure="rollback", milestones=[{"id": "m", "name": "m", "gate": True}]),
    todo(gate=True, compensate="make undo"),
    todo(cache=True),
    todo(sandbox="off"),
    todo(sandbox=False),
    todo(sandbox={"network": True, "memory": "2GiB", "processes": 9}),
    {"repos": [{"name": "a", "sandbox": "bubblewrap"}], "settings": {"sandbox": False}},
    todo(cache={"inputs": ["build/**", "a.conf"], "ttl": "7d"}),
    todo(gate={"timeout": "24h", "on_timeout": "approve"}, compensate={"type": "agent"}),
]
WRONG = [
    todo(sandbox=True),
    todo(sandbox="chroot"),
    todo(sandbox={"memory": "lots"}),
    todo(sandbox={"processes": 0}),
    {"resources": [{}]},
    {"resources": [{"name": "a", "type": "printer"}]},
    {"resources": [{"name": "a", "capacity": 0}]},
    {"settings": {"nam": "x"}},
    {"settings": {"namespace": None}},
    {"repos": [{}]},
    {"repos": [{"name": "a b"}]},
    todo(statuss="pending"),
    todo(gate="x"),
    todo(status="done"),
    todo(action=5),
    todo(action=""),
    todo(action=[]),
    todo(action={"type": "python"}),
    todo(action={"run": "x"}),
    todo(timeout=0),
    todo(estimated_hours=0),
    todo(env={"1A": "x"}),
    todo(env={"A": True}),
    todo(labels="x"),
    todo(retry={"retry_on": ["x"]}),
    todo(retry={"retry_on": [0]}),
    todo(retry={"stop_on": [{"outputs": "x"}]}),
    todo(resources=["a b"]),
    todo(resources=[{"name": "gpu", "amount": 0}]),
    todo(gate=False),
    todo(cache=False),
    todo(cache={"inputs": "a"}),
    todo(cache={"ttl": 0}),
    todo(gate={"on_timeout": "ask"}),
    todo(compensate={"type": "manual"}),
    plan(milestones=[{"id": "m", "name": "m", "completion_criteria": [{"check": "c"}]}]),
    plan(max_parallel=0),
]


@pytest.mark.parametrize("data", RIGHT, ids=str)
def test_what_loads_an_editor_accepts(data: dict[str, Any]):
    assert loads(data)
    assert accepted(data)


@pytest.mark.parametrize("data", WRONG, ids=str)
def test_what_is_refused_an_editor_marks(data: dict[str, Any]):
    assert not loads(data)
    assert not accepted(data)


def test_it_is_a_schema_and_says_which_dialect_it_speaks():
    Draft202012Validator.check_schema(schema())
    assert json.loads(json.dumps(schema()))["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema()["title"] == "ecosystem.yaml"


def test_every_reference_leads_somewhere_and_every_description_has_its_field():
    for name in re.findall(r"#/\$defs/(\w+)", json.dumps(schema())):
        assert name in schema()["$defs"]
    for field in DESCRIPTIONS:
        record, name = field.split(".")
        properties = (schema() if record == "Ecosystem" else schema()["$defs"][record])["properties"]
        assert "description" in properties[name]


def test_only_a_repository_lets_unknown_names_pass():
    records = {name: record for name, record in schema()["$defs"].items() if "properties" in record}
    closed = {name for name, record in records.items() if record.get("additionalProperties") is False}
    assert records.keys() - closed == {"Repo"}
