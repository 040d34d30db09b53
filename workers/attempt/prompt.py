"""The prompt of an agent: what to do, where, by which rules, and what others have left, as data."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

from coordination import models
from coordination.messages.records import Message
from coordination.models import AgentAction, Check, criteria_in_words, text_of
from coordination.text import fenced
from workers.agents.fields import clean, line
from workers.attempt.actions import CompensatedTodo

MOST_BYTES = 64 * 1024
"""Bytes of a prompt. The changes of predecessors are cut first, then their outputs, then messages."""
MOST_OUTPUT = 4 * 1024
"""Bytes of a predecessor's output in the prompt; the whole one is in COORD_CONTEXT."""
MOST_MESSAGES = 8 * 1024
"""Bytes of all messages in the prompt."""
MOST_CHANGES = 20
"""Predecessors whose changes are asked for: each costs calls of git."""
FEEDBACK_BYTES = 4 * 1024
CHANGED_NOTHING = (
    "You have changed no file and written no COORD_OUTPUT. Do the task; or, if you cannot, say why in a line "
    "that begins with QUESTION: and ask what you need to know."
)
COMMITTED = (
    "Work in the current folder. "
    "What is left changed there when you end is committed for you. Push nothing, and make no branch."
)
READ_ONLY = "Read in the current folder, and change nothing there: your result is that output alone."
GO_ON = "You were interrupted. Your work is in the folder. Go on with the task:\n\n"
ANSWERED = "A person has answered your question, as you read below. "
BEGIN_AGAIN = "You were interrupted, and the folder was set back to its beginning. Do the task again:\n\n"


@dataclass(frozen=True, kw_only=True)
class Task:
    """The parts from which the prompt of a todo is made."""

    todo: models.Todo
    repo: models.Repo
    action: AgentAction
    folder: Path
    """Its working folder, as it sees it."""
    context: Path
    output: Path
    question: Path
    """The file of COORD_QUESTION."""
    secrets: str = ""
    """The folder of its secrets."""
    checkpoint: Path | None = None
    compensated: CompensatedTodo | None = None
    plan: str = ""
    followers: Sequence[str] = ()
    """The todos that wait for it, each with its repository."""
    predecessors: Sequence[Mapping[str, Any]] = ()
    """As COORD_CONTEXT has them."""
    changes: Callable[[Mapping[str, Any]], str] = lambda _: ""
    """Returns the changes of one of them; empty where this host does not have them."""
    messages: Sequence[Message] = ()
    """The messages that wait for the repository."""
    reads: Mapping[str, Path] = field(default_factory=dict)
    """Repository → where it sees it."""
    answered: str = ""
    """The last question that a person has answered."""
    answer: str = ""
    failure: str = ""
    """The failure of the last attempt."""


def prompt_of(task: Task) -> str:
    """Return the prompt of the first round: that of the action, or the fields of the todo to be done or
    undone; then files, rules and data.
    """
    told = task.action.prompt or _described(task)
    if task.compensated is not None:
        return f"{told}\n\n{_files_to_undo(task, task.compensated)}\n"
    parts = [told, _files(task), *_rules(task)]
    left = MOST_BYTES - len("".join(parts).encode())
    return "\n\n".join((*parts, *_data(task, left))) + "\n"


def _described(task: Task) -> str:
    todo = task.todo
    role = f" ({task.repo.role})" if task.repo.role else ""
    first = f"Task {todo.id}: {todo.task}"
    if task.compensated:
        first = (
            "Undo what this task has done outside of the repository, as far as it has; "
            f"it ended as {task.compensated.state}.\n{first}"
        )
    parts = [first, f"Repository: {task.repo.name}{role}, in {task.folder}"]
    if todo.description:
        parts.append(todo.description)
    if todo.acceptance_criteria and not task.compensated:
        criteria = (f"- {text_of(criterion)}" for criterion in todo.acceptance_criteria)
        parts.append("It is done when:\n" + "\n".join(criteria))
    return "\n\n".join(parts)


def _files(task: Task) -> str:
    former = f"The checkpoint of the previous attempt is in {task.checkpoint} (COORD_CHECKPOINT).\n"
    return (
        f"The outputs of the predecessors are in the JSON file {task.context} (COORD_CONTEXT).\n"
        f"Write the output for dependents as JSON to {task.output} (COORD_OUTPUT).\n"
        f"{former if task.checkpoint else ''}"
        f"{_secrets(task)}"
        f"{READ_ONLY if task.action.read_only else COMMITTED}"
    )


def _secrets(task: Task) -> str:
    if not task.todo.secrets:
        return ""
    names = ", ".join(task.todo.secrets)
    return f"The secrets {names} are files in {task.secrets} (COORD_SECRETS).\n"


def _rules(task: Task) -> Iterable[str]:
    action = task.action
    if action.paths:
        yield "Change only these paths (with ! those that must stay):\n" + _list(action.paths)
    if checks := [command_text(check) for check in action.verify or () if isinstance(check, Check)]:
        yield "Your work is accepted when these commands succeed in the folder:\n" + _list(checks)
    judged = [text for _, text in criteria_in_words([task.todo])]
    if action.prompt and judged:  # without a prompt of its own they are in the description
        yield "A reviewer will judge it by:\n" + _list(judged)
    yield (
        "If you need a decision of a person, end with a line that begins with QUESTION: and say what you "
        f"need to know, or write that to {task.question} (COORD_QUESTION) and end. Do not guess."
    )
    if task.answer:
        yield (f"An agent at this task has asked:\n{fenced(task.answered)}\nA person answers:\n{task.answer}")
    if task.followers:
        yield f"It is a part of {task.plan}. After it come: {', '.join(task.followers)}."
    if task.reads:
        places = [f"{name}: {place}" for name, place in task.reads.items()]
        yield "You may read these repositories, and change nothing in them:\n" + _list(places)


def _data(task: Task, left: int) -> Iterable[str]:
    if task.failure:
        block = f"The last attempt failed. It said:\n{fenced(task.failure)}"
        left -= len(block.encode()) + 2
        yield block
    for block, rest in chain(_messages(task), _outputs(task), _changes(task)):
        left -= len(block.encode()) + 2
        if left < 0:
            yield rest
            return
        yield block


def _messages(task: Task) -> Iterator[tuple[str, str]]:
    """Yield the messages in one block, and the sentence in its place."""
    inbox, lines, left = f"repo:{task.repo.name}", list[str](), MOST_MESSAGES
    for one in task.messages:
        fields = {"from": one.sender, "type": one.type, "sent_at": one.sent_at, "payload": one.payload}
        lines.append(_json(fields, left))
        left -= len(lines[-1].encode())
        if left <= 0:
            break
    if lines:
        yield (
            f"Messages wait in the inbox {inbox}, and stay there:\n" + fenced("\n".join(lines)),
            f"Messages wait in the inbox {inbox}.",
        )


def _outputs(task: Task) -> Iterator[tuple[str, str]]:
    """Yield the output of each predecessor, and the sentence in place of it and those after it."""
    for one in task.predecessors:
        place = f", in {one['path']}" if one.get("path") else ""
        block = f"{_name(one, place)} has left:\n{fenced(_json(one.get('output'), MOST_OUTPUT))}"
        yield block, "More predecessors are in COORD_CONTEXT."


def _changes(task: Task) -> Iterator[tuple[str, str]]:
    """Yield the changes of the last predecessors, the last one first, and the sentence in place of others."""
    committed = [one for one in task.predecessors if one.get("commit")]
    for one in committed[: -MOST_CHANGES - 1 : -1]:
        if text := task.changes(one):
            commits = f"from {one.get('began')} to {one.get('commit')}"
            block = f"{_name(one)} has changed, {commits}:\n{fenced(clean(text))}"
            yield block, "Predecessors have changed more, from `began` to `commit` in COORD_CONTEXT."


def _name(predecessor: Mapping[str, Any], place: str = "") -> str:
    return f"{predecessor.get('todo')} ({predecessor.get('repo')}{place})"


def _json(value: object, most: int) -> str:
    """Return a value of others as JSON on one line, cut after so many bytes."""
    text = clean(json.dumps(value, ensure_ascii=False, default=str))
    return text.encode()[:most].decode(errors="ignore")


def command_text(check: Check) -> str:
    """Return the command of a check, as a prompt has it."""
    return check.run if isinstance(check.run, str) else " ".join(check.run)


def command_line(check: Check) -> str:
    """Return the command of a check on one line: its name and its first line, if it has several."""
    first, *more = command_text(check).strip().splitlines() or [""]
    return f"{check.name}: {first} …" if more else first


def _list(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _files_to_undo(task: Task, compensated: CompensatedTodo) -> str:
    return (
        f"The output of the task is in the JSON file {compensated.output} (COORD_TODO_OUTPUT), "
        "null if nothing.\n"
        f"The outputs of its predecessors are in the JSON file {task.context} (COORD_CONTEXT).\n"
        f"{_secrets(task)}"
        "Work in the current folder; nothing of it is committed. It may have been undone in part before: "
        "end when nothing is left to undo."
    )


def after_scope(paths: Sequence[str], action: AgentAction) -> str:
    """Return the feedback for changes outside of the allowed paths."""
    allowed = "no file." if action.read_only else f"only these paths:\n{_list(action.paths)}"
    return (
        f"You have changed what you may not change. Take this back:\n{_list(map(line, paths[:50]))}\n\n"
        f"You may change {allowed}"
    )


def after_verify(check: Check, how: str, output: str, failures: Sequence[str]) -> str:
    """Return the feedback for a check that is not green. `output`: the end of what it wrote."""
    failed = f"Failed tests:\n{_list(failures[:50])}\n\n" if failures else ""
    tail = output.encode()[-FEEDBACK_BYTES:].decode(errors="replace")
    return (
        f"This command failed after your changes ({how}):\n\n    {command_text(check)}\n\n{failed}"
        f"The end of its output:\n{fenced(tail)}\n\nCorrect your work."
    )
