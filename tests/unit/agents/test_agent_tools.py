"""The tools for agents: descriptions, names of arguments, rights; the excerpt of a log."""

from __future__ import annotations

import ast
import asyncio
import dataclasses
import inspect
import json
import re
import textwrap
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from coordination.api.texts import PARTS, owner_of
from coordination.errors import UsageError
from coordination.locks import LockManager
from coordination.messages import MessageBus
from coordination.models import Issue, Todo
from coordination.operations.listening import Address
from coordination.trust.administration import TrustEditor
from coordination.trust.keys import new_key
from coordination.trust.rights import OPERATIONS, Role
from coordination.trust.trust_file import Kind
from tests.agent import all_tools

if TYPE_CHECKING:  # FastMCP takes 3 s to import, so tests import it when they run
    from fastmcp import Client, FastMCP
    from fastmcp.tools import Tool

    from coordination.mcp.tools.runs import Excerpt

DOCS = Path(__file__).parents[3] / "docs"
CHAPTER, REFERENCE = ((DOCS / name).read_text() for name in ("agents.md", "tools.md"))


@pytest.fixture(scope="module")
def server() -> FastMCP:
    from coordination.mcp.server import build
    from coordination.mcp.session import Session

    return build(Session(Path("ecosystem.yaml")))


@pytest.fixture(scope="module")
def tools(server: FastMCP) -> dict[str, Tool]:
    return {tool.name: tool for tool in asyncio.run(server.list_tools())}


def selected(named: str, *, read_only: bool = False) -> dict[str, Tool]:
    from coordination.mcp.selection import Selection
    from coordination.mcp.server import build
    from coordination.mcp.session import Session

    selection = Selection(named=named, read_only=read_only)
    server = build(Session(Path("ecosystem.yaml")), selection=selection)
    return {tool.name: tool for tool in asyncio.run(server.list_tools())}


def test_a_server_offers_a_core_all_tools_or_those_of_some_nouns(tools):
    from coordination.mcp.selection import CORE

    core = selected("core")
    assert set(core) == CORE
    assert set(selected("all")) == set(tools)
    assert set(selected("service,dependency")) - CORE == {name for name in tools if "service" in name}
    assert all(tool.annotations.read_only_hint for tool in selected("all", read_only=True).values())
    with pytest.raises(UsageError, match="did you mean 'service'"):
        selected("servise")


def test_the_definitions_of_the_tools_fit_into_the_context_of_an_agent(tools):
    def size(found: Iterable[Tool]) -> int:
        made = [tool.to_mcp_tool().model_dump(mode="json", exclude_none=True) for tool in found]
        return len(json.dumps(made))

    assert size(selected("core").values()) < 40_000
    assert size(tools.values()) < 150_000


def test_every_tool_is_in_the_reference(tools):
    assert [tool for tool in tools if f"\n## {tool}\n" not in REFERENCE] == []


def test_the_chapter_names_no_tool_that_is_not_there(tools):
    assert set(re.findall(r"`(coord_\w+)`", CHAPTER)) <= set(tools)


def test_a_call_that_is_recommended_can_be_made(tools):
    from coordination.mcp.server import INSTRUCTIONS, STEPS

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


FACADE = [*map(owner_of, PARTS), MessageBus, LockManager]
OF_AGENTS = {
    "limit", "offset", "most",  # an answer has a length that a model reads
    "wait_s",  # a call must end
}  # fmt: skip
OTHERWISE = {
    "coord_run_show": {"states"},  # `RunView.only`
    "coord_run_approve": {"dry_run"},  # `review`, an operation of its own
    "coord_create_todo": {"prompt", "manual"},  # the kinds of `action`, flat
    "coord_complete_plan": {"milestones"},  # `complete_milestones` of `update_plan`
    "coord_update_issue": {"clear"},  # None in `changes`: models leave out what is null
}
"""Tool → its arguments that have another name in the facade."""


def function_of(tool: str) -> Callable[..., Any] | None:
    """Return the function of a tool; None for one that is made from the declaration of its operation."""
    from coordination.mcp.server import MODULES

    return next((found for module in MODULES if (found := vars(module).get(tool))), None)


def arguments_of_facade(tool: Callable[..., Any]) -> set[str]:
    """The parameters of each operation, and the fields of each record, that the tool or a function below it
    uses.
    """
    names, pending, seen = set(), [tool], set()
    while pending:
        function = pending.pop()
        seen.add(function)
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
        for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
            if isinstance(call.func, ast.Attribute):
                found = [getattr(owner, call.func.attr, None) for owner in FACADE]
                names |= {
                    name for one in found if callable(one) for name in inspect.signature(one).parameters
                }
            elif isinstance(call.func, ast.Name):
                called = inspect.unwrap(function).__globals__.get(call.func.id)
                if inspect.isfunction(called) and called not in seen:
                    pending.append(called)
                elif inspect.isclass(called) and dataclasses.is_dataclass(called):
                    names |= {field.name for field in dataclasses.fields(called)}
    return names


@pytest.mark.parametrize("name", sorted(filter(function_of, all_tools())))
def test_a_tool_names_its_arguments_as_the_facade_does(name: str):
    tool = function_of(name)
    assert tool is not None
    known = arguments_of_facade(tool)
    if "fields" in known or "changes" in known:
        known |= set((Issue if "issue" in name else Todo).model_fields)
    given = set(inspect.signature(tool).parameters) - {"session"} - OF_AGENTS
    short = {name.removesuffix("_id") for name in known} | {f"{name}_s" for name in known}

    assert given - known - short == OTHERWISE.get(name, set())


@pytest.fixture
def editor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TrustEditor:
    """A trust file with the agent `bot`, whose key this process has; it has no role yet."""
    folder = tmp_path / "config" / "coord"
    signer = new_key(folder / "bot", "bot")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("COORD_IDENTITY", str(folder / "bot"))
    editor = TrustEditor(folder / "trust.yaml")
    editor.add(signer.public_key, kind=Kind.AGENT)
    return editor


FILE = """\
repos: [{name: api}, {name: web}]
coordination:
  issues:
    - {id: ISSUE-001, title: It breaks, repos: [api]}
    - {id: ISSUE-002, title: It is slow, repos: [web]}
"""


def test_mcp_lists_and_executes_the_tools_of_its_role(editor: TrustEditor, tmp_path: Path):
    from fastmcp import Client
    from fastmcp.exceptions import ToolError

    from coordination.mcp.declaration import NEEDED
    from coordination.mcp.server import build
    from coordination.mcp.session import Session

    async def listed(client: Client) -> set[str]:
        return {tool.name for tool in await client.list_tools()}

    async def story() -> None:
        (tmp_path / "ecosystem.yaml").write_text(FILE)
        session = Session(tmp_path / "ecosystem.yaml")
        async with Client(build(session)) as client:
            assert await listed(client) == set()
            assert await client.list_resources() == []
            with pytest.raises(ToolError, match="read"):
                await client.call_tool("coord_list_todos")
            editor.grant("bot", Role.VIEWER)
            viewer = await listed(client)
            assert "coord_list_todos" in viewer
            assert {NEEDED[name] for name in viewer} == {"read"}
            with pytest.raises(ToolError, match="lacks the right edit"):
                await client.call_tool("coord_close_issue", {"issue": "ISSUE-001"})
            editor.grant("bot", Role.SUBMITTER, ["web"])
            submitter = await listed(client)
            assert {"coord_run_sweep", "coord_close_issue"} <= submitter
            assert not submitter & {"coord_run_approve", "coord_run_reject"}
            with pytest.raises(ToolError, match="lacks the right edit"):
                await client.call_tool("coord_close_issue", {"issue": "ISSUE-001"})
            await client.call_tool("coord_close_issue", {"issue": "ISSUE-002"})
            editor.revoke("bot", datetime.now(UTC))
            assert await listed(client) == set()
        session.close()

    asyncio.run(story())


def test_a_tool_that_writes_needs_more_than_the_right_to_read(tools: dict[str, Tool]):
    from coordination.mcp.declaration import NEEDED

    assert set(NEEDED.values()) <= OPERATIONS.keys()
    reading = {name for name, tool in tools.items() if tool.annotations and tool.annotations.read_only_hint}
    assert reading == {name for name in tools if NEEDED[name] == "read"}


LOG = ["one\ntw", "o\nthree\n", "four\n"]


def cut(limit: int, offset: int | None = None, log: Sequence[str] = LOG) -> Excerpt:
    from coordination.mcp.tools.runs import excerpt

    return excerpt("run", "TODO-001", log, limit=limit, offset=offset)


def test_what_fits_is_given_as_it_is():
    whole = cut(100)

    assert (whole.text, whole.offset, whole.end, whole.total) == ("one\ntwo\nthree\nfour\n", 0, 19, 19)


def test_the_end_begins_with_a_whole_line():
    tail = cut(12)

    assert tail.text == "[coord] 8 characters before this: offset=0\nthree\nfour\n"
    assert tail.end == tail.total


def test_a_long_line_is_cut_in_itself():
    assert cut(10, log=["x" * 100]).text.endswith("\n" + "x" * 10)


def test_pieces_follow_each_other_without_a_gap():
    offset, read = 0, ""
    while offset < 19:
        piece = cut(7, offset)
        assert piece.offset == offset
        read += "".join(LOG)[piece.offset : piece.end]
        offset = piece.end

    assert read == "".join(LOG)
    assert cut(7, 1000).text == "[coord] 19 characters before this: offset=0\n"


@pytest.mark.parametrize(
    ("host", "open_to_others", "url"),
    [
        ("127.0.0.1", False, "http://127.0.0.1:80/mcp"),
        ("localhost", False, "http://localhost:80/mcp"),
        ("::1", False, "http://[::1]:80/mcp"),
        ("0.0.0.0", True, "http://0.0.0.0:80/mcp"),
        ("build-7", True, "http://build-7:80/mcp"),
    ],
)
def test_an_address_that_others_can_reach_is_known(host: str, open_to_others: bool, url: str):
    from coordination.mcp.server import url_of

    address = Address(host=host, port=80)

    assert (address.open_to_others, url_of(address)) == (open_to_others, url)
