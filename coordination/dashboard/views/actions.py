"""Actions of a person on a page: each is one operation of the facade, and one command of `coord`.

If this machine requires signatures, people sign the operations that are orders: the page shows the command
instead of a button, and the form is refused.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date

from pydantic import BaseModel

from coordination.api import Held
from coordination.api.coord import Coord
from coordination.dashboard.pages import PageRequest, plain
from coordination.errors import Conflict, CoordinationError, NotAllowed, UsageError
from coordination.text import quoted


class Form(dict[str, str]):
    """The fields of a form. Raises UsageError for one that is missing."""

    def __getitem__(self, name: str) -> str:
        if not (value := self.get(name, "").strip()):
            raise UsageError(f"the form lacks {name}", "load the page again")
        return value


EDITABLE: Mapping[str, tuple[str, ...]] = {
    "todo": ("status", "task", "assignee", "priority"),
    "issue": ("status", "title", "assignee", "priority", "target"),
    "plan": ("status", "title", "target"),
}
"""Kind of record → the fields that its page can edit."""
Fields = Mapping[str, str | None]
Act = Callable[[Coord, Form], object]
Arguments = Callable[[Form], tuple[str, ...]]


@dataclass(frozen=True, kw_only=True)
class Command:
    """An action. `arguments` returns those of the equivalent command."""

    operation: str
    act: Act
    arguments: Arguments
    page: str = "/run"
    """The page that shows the result; `act` returns the value of its argument `key`."""
    key: str = "run"
    signed: bool = False
    """True for an order, which the person must sign if signatures are required."""

    def line(self, form: Mapping[str, str]) -> str:
        """Return the equivalent command."""
        return shlex.join(("coord", *self.arguments(Form(form))))


def _steer(name: str, *, noun: tuple[str, ...] = (), signed: bool = False) -> Command:
    def act(coord: Coord, form: Form) -> str:
        run = coord.runs.get(form["run"])
        getattr(run, name)()
        return run.id

    return Command(operation=name, act=act, arguments=lambda form: (*noun, name, form["run"]), signed=signed)


def _start(name: str, field: str, start: Callable[[Coord, str], str]) -> Command:
    """Return an order with one field as its argument; `start` returns the id of the run."""
    return Command(
        operation=name,
        act=lambda coord, form: start(coord, form[field]),
        arguments=lambda form: (name, form[field]),
        signed=True,
    )


def _decide(verdict: str, *, noun: tuple[str, ...] = ()) -> Command:
    def act(coord: Coord, form: Form) -> str:
        decide = coord.runs.approve if verdict == "approve" else coord.runs.reject
        return decide(form["todo"], run=form["run"], comment=form.get("comment", "")).id

    def arguments(form: Form) -> tuple[str, ...]:
        comment = ("--comment", form["comment"]) if form.get("comment") else ()
        return (*noun, verdict, form["todo"], "--run", form["run"], *comment)

    return Command(operation=verdict, act=act, arguments=arguments, signed=True)


def _complete(coord: Coord, form: Form) -> str:
    coord.todo.complete(form["id"])
    return form["id"]


def _reset(coord: Coord, form: Form) -> None:
    coord.breaker.reset(form["breaker"])


def _edit(coord: Coord, form: Form) -> str:
    name, kind, changes = form["record"], form["kind"], changes_of(form)
    if not changes:
        return name
    if kind == "todo" and changes.get("status") == "completed":
        _finish(coord, form, changes)
    elif kind == "todo":
        coord.manager.update_todo(name, lambda todo: _checked(todo, form, changes))
    elif kind == "issue":
        coord.manager.update_issue(name, lambda issue: _checked(issue, form, changes))
    elif kind == "plan":
        coord.manager.update_plan(name, lambda plan: _checked(plan, form, changes))
    else:
        raise UsageError(f"{kind!r} cannot be edited", "load the page again")
    return name


def _finish(coord: Coord, form: Form, changes: Fields) -> None:
    """Write the other changes of a todo, then complete it."""
    name = form["record"]
    if coord.authority.required:
        raise NotAllowed(
            "signatures are required on this machine, and only you can give yours",
            f"sign it yourself: coord todo complete {quoted(name)}",
        )
    for todo in (todo for todo in coord.document.ecosystem.coordination.todos if todo.id == name):
        _checked(todo, form, changes)
    if rest := {field: value for field, value in changes.items() if field != "status"}:
        coord.manager.update_todo(name, lambda todo: _checked(todo, form, rest))
    coord.todo.complete(name)


def _checked(record: BaseModel, form: Form, changes: Fields) -> Fields:
    """Return the changes. Raises Conflict if one of these fields was changed since the form was made."""
    theirs = [
        f"{field} was {was.strip() or 'empty'!r} and is {now or 'empty'!r}"
        for field, mine in changes.items()
        if (was := form.get(f"was-{field}")) is not None
        and (now := edited(getattr(record, field))) not in (was.strip(), mine or "")
    ]
    if theirs:
        raise Conflict(
            f"{form['record']} was changed meanwhile: {'; '.join(theirs)}",
            "your own changes are below: press Change again to write them all the same",
        )
    return changes


def edited(value: object) -> str:
    """Return a field of a record as a form shows it: text without control characters."""
    text = "" if value is None else f"{value:%Y-%m-%d}" if isinstance(value, date) else str(value)
    return plain(text, longest=None).strip()


def changes_of(form: Mapping[str, str]) -> Fields:
    """Return the fields that the person has changed; the others are not written."""
    return {
        name: value or None
        for name in EDITABLE.get(form.get("kind", ""), ())
        if name in form and (value := form.get(name, "").strip()) != form.get(f"was-{name}", "").strip()
    }


def _edit_arguments(form: Mapping[str, str]) -> tuple[str, ...]:
    options = (word for name, value in changes_of(form).items() for word in (f"--{name}", value or ""))
    return (form["kind"], "update", form["record"], *options)


def _release(coord: Coord, form: Form) -> None:
    def refuse_other_holders(_: str, held: Held) -> None:
        if form.get("holders") != holders_of(held):
            now_held = ", ".join(holder.who for holder in held.holders)
            raise Conflict(
                f"{form['lock']} is held by {now_held} now", "look who holds it: load the page again"
            )

    coord.lock.release(form["lock"], force=bool(form.get("force")), confirm=refuse_other_holders)


def holders_of(held: Held) -> str:
    """Return the ids of the holders that a page shows; only these holders lose the lock."""
    return " ".join(sorted(holder.id for holder in held.holders))


def _request(coord: Coord, form: Form) -> str:
    refused = [one for one in coord.pr.create(form["plan"]) if one.error]
    if refused:
        raise CoordinationError(
            "\n".join(f"{one.repo}: {one.error}" for one in refused), f"see all: coord changes {form['plan']}"
        )
    return form["plan"]


COMMANDS: Mapping[str, Command] = {
    "pause": _steer("pause", noun=("run",)),
    "resume": _steer("resume", noun=("run",)),
    "cancel": _steer("cancel"),
    "rollback": _steer("rollback", signed=True),
    "retry": _start("retry", "run", lambda coord, run: coord.runs.retry(run).id),
    "approve": _decide("approve"),
    "reject": _decide("reject", noun=("run",)),
    "sweep": _start("sweep", "plan", lambda coord, plan: coord.runs.sweep(plan).id),
    "land": _start("land", "plan", lambda coord, plan: coord.landings.land(plan).id),
    "revert": _start("revert", "plan", lambda coord, plan: coord.landings.revert(plan).id),
    "complete": Command(
        operation="complete",
        act=_complete,
        arguments=lambda form: ("todo", "complete", form["id"]),
        page="/record",
        key="id",
        signed=True,
    ),
    "edit": Command(operation="edit", act=_edit, arguments=_edit_arguments, page="/record", key="id"),
    "check": Command(
        operation="qa",
        act=lambda coord, form: coord.checks.run(plan=form["plan"]).id,
        arguments=lambda form: ("qa", "run", "--plan", form["plan"]),
        signed=True,
    ),
    "request": Command(
        operation="pr.create",
        act=_request,
        arguments=lambda form: ("pr", "create", form["plan"]),
        page="/change",
        key="plan",
    ),
    "release-lock": Command(
        operation="lock.release",
        act=_release,
        arguments=lambda form: ("lock", "release", form["lock"]),
        page="/fleet",
    ),
    "reset-breaker": Command(
        operation="breaker.reset",
        act=_reset,
        arguments=lambda form: ("breaker", "reset", form["breaker"]),
        page="/fleet",
    ),
}


async def perform(request: PageRequest, action: str, form: Form) -> str:
    """Perform an action for the person; return the address of the page that shows its result."""
    command, coord = COMMANDS[action], request.snapshots.coord
    if command.signed and coord.authority.required:
        raise NotAllowed(
            "signatures are required on this machine, and only you can give yours",
            f"sign it yourself: {command.line(form)}",
        )

    def act() -> object:
        done = command.act(coord, form)
        coord.detach()
        return done

    found = await request.snapshots.do(act, request.visitor.person)
    return request.url(command.page, **{command.key: found, "done": action})
