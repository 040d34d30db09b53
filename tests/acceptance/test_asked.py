"""On a terminal, coord asks for what is missing and before it deletes more than was named."""

from __future__ import annotations

import os
import pty
from collections.abc import Callable, Iterator

import pytest

from tests.testbed import COORD, FORKS, Testbed, plain
from tests.waiting import until

FILE = """\
repos: [{name: api}, {name: web}]
coordination:
  todos:
    - {id: TODO-001, task: Lift it, repo: api}
    - {id: TODO-002, task: Use it, repo: web, blocked_by: [TODO-001]}
"""


class Terminal:
    """A command on a terminal of its own; `says` is what has been shown on it so far."""

    def __init__(self, testbed: Testbed, *words: str) -> None:
        self._mine, theirs = pty.openpty()
        env = plain({"TERM": "dumb"})
        self.process = FORKS.begin_on(theirs, [COORD, *words], cwd=testbed.folder, env=env)
        testbed.started.append(self.process)
        os.close(theirs)
        os.set_blocking(self._mine, False)
        self.shown = ""

    def asked(self, question: str, answer: str) -> None:
        until(lambda: question in self._read())
        os.write(self._mine, f"{answer}\n".encode())

    def ended(self) -> tuple[int, str]:
        until(lambda: self._read() and self.process.poll() is not None)
        return self.process.returncode, self._read()

    def close(self) -> None:
        os.close(self._mine)

    def _read(self) -> str:
        try:
            while part := os.read(self._mine, 65536):
                self.shown += part.decode()
        except OSError:  # nothing to read yet, or nobody writes any more
            pass
        return self.shown


@pytest.fixture
def on_terminal(testbed: Testbed) -> Iterator[Callable[..., Terminal]]:
    testbed.file.write_text(FILE)
    opened: list[Terminal] = []

    def begin(*words: str) -> Terminal:
        opened.append(Terminal(testbed, *words))
        return opened[-1]

    yield begin
    for terminal in opened:
        terminal.close()


def test_what_is_missing_is_asked_for(testbed: Testbed, on_terminal: Callable[..., Terminal]) -> None:
    terminal = on_terminal("create-todo")

    terminal.asked("Task: ", "Paint it")
    terminal.asked("Repo (api, web): ", "web")

    code, shown = terminal.ended()
    assert (code, "created TODO-003" in shown) == (0, True), shown
    made = testbed.ok("show-todo", "TODO-003", "--json").json
    assert (made["task"], made["repo"]) == ("Paint it", "web")


def test_an_answer_that_cannot_be_is_asked_for_again(
    testbed: Testbed, on_terminal: Callable[..., Terminal]
) -> None:
    terminal = on_terminal("create-todo")

    terminal.asked("Task: ", " ")
    terminal.asked("it cannot be empty", " Paint it ")
    terminal.asked("Repo (api, web): ", "wep")
    terminal.asked("there is no 'wep' (did you mean 'web'?)", "web")

    assert terminal.ended()[0] == 0
    made = testbed.ok("show-todo", "TODO-003", "--json").json
    assert (made["task"], made["repo"]) == ("Paint it", "web")


@pytest.mark.parametrize(("answer", "code", "left"), [("n", 1, 2), ("y", 0, 1)])
def test_a_deletion_of_more_than_was_named_is_shown_and_confirmed(
    testbed: Testbed, on_terminal: Callable[..., Terminal], answer: str, code: int, left: int
) -> None:
    terminal = on_terminal("delete-todo", "TODO-001", "--cascade")

    terminal.asked("Delete TODO-001 with all this?", answer)

    ended, shown = terminal.ended()
    assert "TODO-001 is removed from TODO-002.blocked_by" in shown
    assert ended == code
    assert len(testbed.ok("list-todos", "--json").json) == left


def test_the_question_names_the_record_that_the_caller_deletes(
    testbed: Testbed, on_terminal: Callable[..., Terminal]
) -> None:
    testbed.ok("create-plan", "--id", "PLAN-001", "--title", "Lift")
    testbed.ok("update-todo", "TODO-001", "--plan", "PLAN-001")
    terminal = on_terminal("delete-plan", "PLAN-001", "--cascade")

    terminal.asked("Delete PLAN-001 with all this?", "n")

    ended, shown = terminal.ended()
    assert "TODO-001 is deleted, too" in shown
    assert ended == 1
