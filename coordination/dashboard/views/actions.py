"""Actions of a person on a page: each is one operation of the facade, and one command of `coord`.

Where this machine requires signatures, operations that are orders are signed by people: the page shows the
command, and the form is refused.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from coordination.api.coord import Coord
from coordination.dashboard.pages import Ask
from coordination.environment import actor
from coordination.errors import NotAllowed, UsageError


class Form(dict[str, str]):
    """The fields of a form. Raises UsageError for one that is missing."""

    def __getitem__(self, name: str) -> str:
        if not (value := self.get(name, "").strip()):
            raise UsageError(f"the form lacks {name}", "load the page again")
        return value


Act = Callable[[Coord, Form], object]
Words = Callable[[Form], tuple[str, ...]]


@dataclass(frozen=True, kw_only=True)
class Command:
    """An action. `words` are those of the command that does the same."""

    operation: str
    act: Act
    words: Words
    page: str = "/run"
    """The page that shows the result; its `id` is what `act` returns, if that is an id."""
    signed: bool = False
    """It is an order, which the person signs where signatures are required."""

    def line(self, form: Mapping[str, str]) -> str:
        """Return the command that the person can type instead."""
        return shlex.join(("coord", *self.words(Form(form))))


def _steer(name: str, *, operation: str = "", signed: bool = False) -> Command:
    def act(coord: Coord, form: Form) -> str:
        run = coord.runs.get(form["run"])
        getattr(run, name)()
        return run.id

    return Command(
        operation=operation or name, act=act, words=lambda form: (name, form["run"]), signed=signed
    )


def _decide(verdict: str) -> Command:
    def act(coord: Coord, form: Form) -> str:
        decide = coord.runs.approve if verdict == "approve" else coord.runs.reject
        return decide(form["todo"], form["run"], form.get("comment", "")).id

    def words(form: Form) -> tuple[str, ...]:
        comment = ("--comment", form["comment"]) if form.get("comment") else ()
        return (verdict, form["todo"], "--run", form["run"], *comment)

    return Command(operation=verdict, act=act, words=words, signed=True)


def _retry(coord: Coord, form: Form) -> str:
    return coord.runs.retry(form["run"]).id


def _sweep(coord: Coord, form: Form) -> str:
    return coord.runs.sweep(form["plan"]).id


def _land(coord: Coord, form: Form) -> str:
    return coord.landings.land(form["plan"]).id


def _revert(coord: Coord, form: Form) -> str:
    return coord.landings.revert(form["plan"]).id


def _complete(coord: Coord, form: Form) -> str:
    coord.complete_todo(form["id"])
    return form["id"]


def _status(coord: Coord, form: Form) -> str:
    name, status = form["id"], form["status"]
    kind = form["kind"]
    if kind == "todo" and status == "completed":
        return _complete(coord, form)
    if kind == "issue":
        coord.manager.update_issue(name, {"status": status})
    elif kind == "todo":
        coord.manager.update_todo(name, {"status": status})
    elif kind == "plan":
        coord.manager.update_plan(name, {"status": status})
    else:
        raise UsageError(f"{kind!r} has no status", "load the page again")
    return name


def _reset(coord: Coord, form: Form) -> None:
    coord.authority.check("reset_breaker")
    with coord.answering() as connection:
        connection.breakers.reset(form["breaker"], actor())


COMMANDS: Mapping[str, Command] = {
    "pause": _steer("pause"),
    "resume": _steer("resume"),
    "cancel": _steer("cancel"),
    "rollback": _steer("rollback", signed=True),
    "retry": Command(operation="retry", act=_retry, words=lambda form: ("retry", form["run"]), signed=True),
    "approve": _decide("approve"),
    "reject": _decide("reject"),
    "sweep": Command(operation="sweep", act=_sweep, words=lambda form: ("sweep", form["plan"]), signed=True),
    "land": Command(operation="land", act=_land, words=lambda form: ("land", form["plan"]), signed=True),
    "revert": Command(
        operation="revert", act=_revert, words=lambda form: ("revert", form["plan"]), signed=True
    ),
    "complete": Command(
        operation="complete",
        act=_complete,
        words=lambda form: ("complete-todo", form["id"]),
        page="/record",
        signed=True,
    ),
    "status": Command(
        operation="edit",
        act=_status,
        words=lambda form: (f"update-{form['kind']}", form["id"], "--status", form["status"]),
        page="/record",
    ),
    "reset-breaker": Command(
        operation="reset_breaker",
        act=_reset,
        words=lambda form: ("reset-breaker", form["breaker"]),
        page="/fleet",
    ),
}


async def perform(ask: Ask, action: str, form: Form) -> str:
    """Carry out an action for the person; return the address of the page that shows its result."""
    command, coord = COMMANDS[action], ask.snapshots.coord
    if command.signed and coord.authority.required:
        raise NotAllowed(
            "signatures are required on this machine, and only you can give yours",
            f"sign it yourself: {command.line(form)}",
        )

    def act() -> object:
        done = command.act(coord, form)
        coord.detach()
        return done

    found = await ask.snapshots.do(act, ask.visitor.person)
    return ask.url(command.page, id=found, done=action)
