"""The descriptions of the tools agree with the tools."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path

import pytest
from fastmcp.tools import Tool

from coordination.mcp.resources import STEPS
from coordination.mcp.server import INSTRUCTIONS, build
from coordination.mcp.session import Session

DOCS = Path(__file__).parents[3] / "docs"
CHAPTER, REFERENCE = ((DOCS / name).read_text() for name in ("agents.md", "tools.md"))
SERVER = build(Session(Path("ecosystem.yaml")))
TOOLS = {tool.name: tool for tool in asyncio.run(SERVER.list_tools())}


@pytest.mark.parametrize("tool", TOOLS)
def test_every_tool_is_in_the_reference(tool: str):
    assert f"\n## {tool}\n" in REFERENCE


def test_the_chapter_names_no_tool_that_is_not_there():
    assert set(re.findall(r"`(coord_\w+)`", CHAPTER)) <= set(TOOLS)


@pytest.mark.parametrize("text", [INSTRUCTIONS, STEPS, *(tool.description for tool in TOOLS.values())])
def test_a_call_that_is_recommended_can_be_made(text: str):
    for name, arguments in re.findall(r"(coord_\w+)(?:\(([^)]*)\))?", text):
        given = {argument.partition("=")[0].strip() for argument in arguments.split(",") if argument}
        assert given <= set(TOOLS[name].parameters["properties"]), f"{name}({arguments})"


@pytest.mark.parametrize("tool", TOOLS.values(), ids=TOOLS)
def test_no_tool_speaks_of_our_source(tool: Tool):
    assert not re.search(
        r"\w+\.py\b|`\w+/", json.dumps([tool.description, tool.parameters, tool.output_schema])
    )


def test_a_prompts_arguments_are_explained_to_people():
    (prompt,) = asyncio.run(SERVER.list_prompts())
    for argument in prompt.arguments or ():
        assert argument.description
        assert "JSON" not in argument.description
