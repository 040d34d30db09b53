"""The descriptions of the tools agree with the tools."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path

import pytest
from fastmcp import FastMCP
from fastmcp.tools import Tool

from coordination.mcp.server import INSTRUCTIONS, STEPS, build
from coordination.mcp.session import Session

DOCS = Path(__file__).parents[3] / "docs"
CHAPTER, REFERENCE = ((DOCS / name).read_text() for name in ("agents.md", "tools.md"))


@pytest.fixture(scope="module")
def server() -> FastMCP:
    return build(Session(Path("ecosystem.yaml")))


@pytest.fixture(scope="module")
def tools(server: FastMCP) -> dict[str, Tool]:
    return {tool.name: tool for tool in asyncio.run(server.list_tools())}


def test_every_tool_is_in_the_reference(tools):
    assert [tool for tool in tools if f"\n## {tool}\n" not in REFERENCE] == []


def test_the_chapter_names_no_tool_that_is_not_there(tools):
    assert set(re.findall(r"`(coord_\w+)`", CHAPTER)) <= set(tools)


def test_a_call_that_is_recommended_can_be_made(tools):
    for text in (INSTRUCTIONS, STEPS, *(tool.description for tool in tools.values())):
        for name, arguments in re.findall(r"(coord_\w+)(?:\(([^)]*)\))?", text):
            given = {argument.partition("=")[0].strip() for argument in arguments.split(",") if argument}
            assert given <= set(tools[name].parameters["properties"]), f"{name}({arguments})"


def test_no_tool_speaks_of_our_source(tools):
    for tool in tools.values():
        described = json.dumps([tool.description, tool.parameters, tool.output_schema])
        assert not re.search(r"\w+\.py\b|`\w+/", described), tool.name


def test_a_prompts_arguments_are_explained_to_people(server):
    (prompt,) = asyncio.run(server.list_prompts())
    for argument in prompt.arguments or ():
        assert argument.description
        assert "JSON" not in argument.description
