"""Help, JSON and tools as files in tests/golden: a change that shows there is a change of behaviour.

`make golden` writes the files anew; the difference then belongs into the commit that causes it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from getpass import getuser
from pathlib import Path
from socket import gethostname
from typing import Any

import click
import pytest
from click.testing import CliRunner

from coordination.backend import key_table
from coordination.cli.app import coord
from coordination.cli.groups import Noun
from tests.testbed import PLAN, Testbed

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "golden"
ROW = re.compile(r"^\| (`\S*:\S+`(?:, `\S+`)?) +\| (\S+) ", re.MULTILINE)


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """Compares a text with its file, or writes the file where pytest was started with `--renew-golden`."""

    def compare(name: str, text: str) -> None:
        file = GOLDEN / name
        if request.config.getoption("--renew-golden"):
            file.write_text(text)
        assert text == file.read_text(), f"{name} differs: make golden, and look at what has changed"

    return compare


HELPS = ("", "run", "sweep", "issue create")
"""One help of each shape as a file: the texts and options of all commands stand in docs/commands.md."""


def test_help(golden: Callable[[str, str], None], testbed: Testbed):
    """In a process of its own: the width of a panel depends on what other tests have made of the commands."""
    script = "from tests.contracts.test_golden import helps; print(*helps(), sep='\\n', end='')"
    done = testbed.python(script, cwd=ROOT)
    assert done.code == 0, done.err
    golden("help.txt", done.out)


def helps() -> Iterator[str]:
    """Ask every command for its help; return those of HELPS."""
    for words in commands(()):
        shown = CliRunner().invoke(coord, [*words, "--help"], prog_name="coord", env={"COLUMNS": "100"})
        assert shown.exit_code == 0, shown.output
        lines = [line.rstrip() for line in shown.output.splitlines()]
        if " ".join(words) in HELPS:
            yield "\n".join([f"$ {' '.join(('coord', *words))} --help", *filter(None, lines), ""])


def commands(words: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """Return the words of a command, and of those below it."""
    yield words
    here: click.Command | None = coord
    for word in words:
        here = here.resolve_command(click.Context(here), [word])[1] if isinstance(here, click.Group) else None
    if isinstance(here, click.Group):
        for name in sorted(here.commands):
            if not isinstance(here, Noun) or not here.verbs[name].module:  # others have a name of their own
                yield from commands((*words, name))


def test_keys_in_redis(golden: Callable[[str, str], None]):
    golden("redis_keys.txt", "".join(f"{key} {kind}\n" for key, kind in ROW.findall(key_table.__doc__ or "")))


TOOLS = (
    "coord_breaker_reset", "coord_context_set", "coord_create_todo", "coord_plan_create_from_template",
    "coord_run_show",
)  # fmt: skip
"""One tool of each shape as a file: the texts and arguments of all tools stand in docs/tools.md."""


def test_tools_for_agents(golden: Callable[[str, str], None], testbed: Testbed):
    from coordination.mcp.server import build  # not above: `test_help` imports this module in a new process
    from coordination.mcp.session import Session
    from tests.agent import agent, all_tools

    testbed.write([{"id": "a", "repo": "api"}])
    with closing(Session(testbed.file)) as session, agent(build(session)) as ai:
        known = ai.tools()
    assert known.keys() == all_tools()
    tools = [_declared(known[name].model_dump(exclude_none=True)) for name in TOOLS]
    golden("mcp_tools.json", json.dumps(tools, indent=1, ensure_ascii=False, sort_keys=True) + "\n")


def _declared(tool: dict[str, Any]) -> dict[str, Any]:
    return {name: tool[name] for name in ("name", "title", "description", "annotations", "input_schema")}


class Story:
    """Commands with their exit codes and output, without what differs from one time to the next."""

    def __init__(self, testbed: Testbed) -> None:
        self.testbed = testbed
        self.told: list[str] = []

    def say(self, *words: str) -> Any:
        done = self.testbed.coord(*words)
        self.told.append(f"$ coord {' '.join(map(self._masked, words))}\n# exit {done.code}\n")
        if "--json" in words and done.out:
            self.told.append(json.dumps(self._facts(done.json), indent=1, ensure_ascii=False) + "\n")
            return done.json
        return done

    def _facts(self, value: Any, name: str = "") -> Any:
        match value:
            case Mapping():
                return {self._masked(key): self._facts(below, key) for key, below in value.items()}
            case list():
                return [self._facts(below, name) for below in value]
            case str():
                return "<host>" if name == "host" else self._masked(value)
            case bool() | None:
                return value
            case _:
                return (
                    f"<{type(value).__name__}>"
                    if name.endswith(("_s", "_ms", "hours", "pid", "bytes"))
                    else value
                )

    def _masked(self, text: str) -> str:
        text = text.replace(str(self.testbed.folder), "<folder>").replace(
            f"{getuser()}@{gethostname()}", "<user>"
        )
        for pattern, shown in MASKS:
            text = pattern.sub(shown, text)
        return text


MASKS = tuple(
    (re.compile(pattern), shown)
    for pattern, shown in (
        (r"\b\d{8}-\d{6}-[a-z0-9]{4}\b", "<run>"),
        (r"\b\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:?\d\d)?", "<time>"),
        (r"\b\d{4}-\d\d-\d\d\b", "<date>"),
        (r"\b[\w-]+-\d+@[\w.-]+", "<worker>"),
        (r"\b[0-9a-f]{40}\b", "<commit>"),
        (r"\b[0-9a-f]{12}\b", "<id>"),
        (r"\b\d+(\.\d+)? (s|ms|min|h)\b", "<time>"),
    )
)


@pytest.fixture
def story(testbed: Testbed) -> Story:
    testbed.write(
        [
            {"id": "LIB", "repo": "lib", "action": "echo one >> lib.txt", "estimated_hours": 1},
            {
                "id": "APP",
                "repo": "app",
                "action": "test -e ../allowed",
                "blocked_by": ["LIB"],
                "estimated_hours": 2,
            },
            {
                "id": "DOC",
                "repo": "docs",
                "action": {"type": "manual"},
                "blocked_by": ["APP"],
                "priority": "high",
            },
        ],
        repos={"lib": {}, "app": {}, "docs": {}},
    )
    return Story(testbed)


@pytest.mark.timeout(600)
def test_a_story_as_programs_read_it(golden: Callable[[str, str], None], story: Story):
    story.testbed.up()
    say = story.say
    say("validate", "--json")
    for noun in ("repo", "issue", "todo", "plan", "dep"):
        say(noun, "list", "--json")
    say("issue", "create", "--title", "a fault", "--repos", "lib", "--severity", "high", "--json")
    say("issue", "update", "ISSUE-001", "--assignee", "ann")
    say("issue", "show", "ISSUE-001", "--json")
    todo = ("--task", "do more", "--plan", PLAN, "--repo", "docs", "--blocked-by", "DOC")
    say("todo", "create", *todo, "--json")
    say("todo", "show", "TODO-001", "--json")
    say("todo", "delete", "TODO-001", "--yes", "--json")
    say("plan", "show", PLAN, "--json")
    say("plan", "validate", PLAN, "--json")
    say("plan", "graph", PLAN, "--format", "json")
    say("plan", "forecast", PLAN, "--json")
    say("status", "lib", "--json")
    say("ecosystem", "status", "--json")
    say("sweep", PLAN, "--dry-run", "--json")
    say("sweep", PLAN, "--json")
    say("list-runs", "--json")
    say("show-run", "last", "--json")
    say("logs", "last", "LIB")
    say("rollback", "last", "--dry-run", "--json")
    say("no-such-command")
    say("todo", "show", "NONE", "--json")
    say("sweep", "NONE", "--json")
    say("context", "set", "colour", "red", "--text")
    say("context", "get", "colour")
    say("resource", "list", "--json")
    say("message", "list", "lib", "--json")
    say("checkpoint", "list", "last", "--json")
    say("cancel", "last", "--json")
    say("run", "clean", "--dry-run", "--json")
    say("issue", "close", "ISSUE-001", "--json")
    golden("story.txt", "".join(story.told))


def test_an_exported_run(golden: Callable[[str, str], None], story: Story):
    story.testbed.sweep()
    story.testbed.ok("run", "export", "last", "run.json")
    document = json.loads((story.testbed.folder / "run.json").read_text())
    golden("exported_run.json", json.dumps(_shape(document), indent=1, sort_keys=True) + "\n")


def _shape(value: Any) -> Any:
    """Names and types without values; entries that differ in a todo or an id alone are one."""
    match value:
        case Mapping():
            shape: dict[str, Any] = {}
            for name, below in value.items():
                known = re.sub(r"\b(LIB|APP|DOC)\b", "<todo>", re.sub(r"^\d{13}-\d+$", "<id>", name))
                found = _shape(below)
                shape[known] = {**shape[known], **found} if isinstance(shape.get(known), dict) else found
            return shape
        case list():
            return [_shape(value[0])] if value else []
        case _:
            return type(value).__name__
