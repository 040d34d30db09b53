"""Text written by people and programs never controls a terminal, wherever it is shown, nor by way of a
pipe.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from coordination.backend.keys import Keys
from coordination.terminal import Lets, spelled
from tests.terminals import on_terminal
from tests.testbed import PLAN, Testbed

EVIL = (
    "\x1b]52;c;ZXZpbA==\x07\x1b]0;owned\x07\x1b]8;;http://evil/\x1b\\link\x1b]8;;\x1b\\"
    "\x1b[2J\x1b[1A\x1b[8mhidden\x1b[30;40mblack"
    "\x9b2J\x9d0;owned\x9c\u202egnp\u2066\x08\x08\rfake\x7f\x1bc\x0e[/red]"
)
"""Clipboard, title, link, clearing, hiding, C1, direction, backspace, carriage return, reset, another
alphabet; and rich's markup.
"""
OBEYED = re.compile(
    "\x1b(?!\\[[0-9;]*m)"  # any sequence but a colour
    "|\x1b\\[(?![0-4;]*m|(?:[0-4];)*(?:22|3[1-7]|39|9[1-7])m)"  # any colour but ours
    "|[\x00-\x08\x0b-\x1a\x1c-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]"
)
BAR = re.compile("\x1b\\[(?:\\?25[lh]|2K|1A|90m|38;[0-9;]+m)|\r(?!fake)")
"""Cursor movements of our own bar. Of the hostile text's own `\x1b[1A` this leaves the surrounding text."""
OF_THE_FILE = (
    "plan graph PLAN-001", "plan graph PLAN-001 --format mermaid", "plan graph PLAN-001 --format dot",
    "plan graph PLAN-001 --format svg",
    "plan graph PLAN-001 --format json", "plan forecast PLAN-001", "list-issues", "show-issue ISSUE-1",
    "list-todos",
    "list-todos --json", "list-plans", "plan show PLAN-001", "plan validate PLAN-001", "status api",
    "ecosystem status",
    "blocking api", "list-todos --format {task}", "export --format md", "export --format csv",
    "sweep PLAN-001 --dry-run",
)  # fmt: skip
ENDS = {"plan validate PLAN-001": 3, "sweep PLAN-001 --dry-run": 5}
COLOURED = "\x1b[41;1mred\x1b[38;5;208m\x1b[0m"


@pytest.mark.parametrize("codes", ["8", "5", "6", "1;8", "08", "38;8", "31;008", "38;5;1;8", "4:8", "9999"])
def test_a_log_conceals_nothing_and_nothing_of_it_blinks(codes: str):
    assert spelled(f"\x1b[{codes}mx", Lets.COLOURS) == f"\\u001b[{codes}mx"


@pytest.mark.parametrize(
    "codes", ["", "0", "1;31", "38;5;8", "48;2;8;8;8", "38:2::8:8:8", "97;100", "4", "30;40"]
)
def test_a_log_keeps_its_colours(codes: str):
    assert spelled(f"\x1b[{codes}mx", Lets.COLOURS) == f"\x1b[{codes}mx"


def test_what_separates_lines_is_written_out():
    assert spelled("a\u2028b\u2029c\x85d\x0be") == "a\\u2028b\\u2029c\\u0085d\\u000be"


@pytest.fixture(scope="module")
def hostile(new_testbed: Callable[[], Testbed]) -> Testbed:
    """An ecosystem in which every text is evil, and a run that says evil things."""
    testbed = new_testbed()
    script = testbed.folder / "evil.sh"
    script.write_text(f"cat {testbed.folder}/evil.txt; exit 3\n")
    (testbed.folder / "evil.txt").write_text(f"{EVIL}\n{COLOURED}\n")
    said = {"assignee": EVIL, "labels": [EVIL], "description": EVIL, "acceptance_criteria": [EVIL]}
    testbed.write(
        [
            {"id": "A", "repo": "api", "task": EVIL, "action": f"sh {script}", "env": {"X": EVIL}, **said},
            {"id": "B", "repo": "api", "task": EVIL, "action": "true", "blocked_by": ["A"], **said},
        ],
        plan={
            "title": EVIL,
            "description": EVIL,
            "milestones": [{"id": "M1", "name": EVIL, "description": EVIL}],
        },
    )
    text = testbed.file.read_text()
    testbed.file.write_text(
        text
        + "  issues:\n  - {id: ISSUE-1, title: %s, assignee: %s, metadata: {k: %s}, blocking: [B]}\n"
        % ((_quoted(EVIL),) * 3)
    )
    testbed.up()
    return testbed


def _quoted(text: str) -> str:
    return '"' + "".join(f"\\u{ord(c):04x}" for c in text) + '"'


def assert_harmless(shown: str) -> None:
    found = OBEYED.search(BAR.sub("", shown))
    assert found is None, (found, shown[max(0, found.start() - 80) : found.end() + 80])


def test_a_run_and_its_logs_cannot_drive_the_terminal(hostile: Testbed) -> None:
    assert_harmless(on_terminal(hostile, "sweep", PLAN, code=3))
    assert_harmless(on_terminal(hostile, "watch", code=3))
    assert_harmless(on_terminal(hostile, "show-run"))
    assert_harmless(on_terminal(hostile, "show-todo", "A"))

    log = on_terminal(hostile, "logs", "last", "A")

    assert COLOURED in log
    assert_harmless(log.replace(COLOURED, "").replace("\x1b[30;40m", ""))
    assert log.endswith("\x1b[0m")
    assert EVIL in on_terminal(hostile, "logs", "last", "A", "--raw")
    assert f"{EVIL}\n{COLOURED}\n" in hostile.ok("logs", "last", "A", "--raw").out
    piped = hostile.ok("logs", "last", "A").out
    assert COLOURED in piped
    assert_harmless(piped.replace(COLOURED, "").replace("\x1b[30;40m", ""))
    assert "\x1b" not in on_terminal(hostile, "logs", "last", "A", NO_COLOR="1")


def test_texts_of_the_file_cannot_drive_the_terminal(hostile: Testbed) -> None:
    for command in OF_THE_FILE:
        assert_harmless(on_terminal(hostile, *command.split(), code=ENDS.get(command, 0)))


def test_texts_of_the_file_are_as_harmless_in_a_pipe(hostile: Testbed) -> None:
    for command in (*OF_THE_FILE, "history search", "history search --format {title}"):
        done = hostile.coord(*command.split())
        assert done.code == ENDS.get(command, 0)
        assert_harmless(done.out + done.err)


def test_what_is_shared_cannot_drive_the_terminal(hostile: Testbed) -> None:
    hostile.ok("todo", "execute", "A", "--detach")
    hostile.ok("context", "set", "k", "--text", EVIL)
    hostile.ok("message", "send", "api", EVIL)
    with hostile.redis() as redis:  # a writer with this access is hostile
        redis.hset(Keys("coord").run(hostile.run()["run_id"]).facts, "A error", EVIL)
    assert_harmless(on_terminal(hostile, "show-run"))
    assert_harmless(on_terminal(hostile, "context", "get", "k"))
    assert hostile.ok("context", "get", "k").out == f"{EVIL}\n"
    assert_harmless(on_terminal(hostile, "context", "list"))
    assert_harmless(on_terminal(hostile, "message", "list", "api"))
    assert_harmless(on_terminal(hostile, "show-todo", EVIL, code=2))
    assert_harmless(on_terminal(hostile, "list-todos", "--repo", EVIL, code=2))


def test_an_approval_with_words_like_markup_is_told(testbed: Testbed) -> None:
    testbed.write([{"id": "G", "repo": "api", "action": "true", "gate": {}}])
    run = testbed.begin("sweep", PLAN)
    run.says("waits for an approval")
    testbed.ok("approve", "G", "--comment", "[/red] " + EVIL)

    assert run.done().code == 0
    assert "[/red]" in run.err
