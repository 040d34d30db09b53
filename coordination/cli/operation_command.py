"""Builds a command from a declared operation: its arguments and options, the question before it is done, and
its output.

`--json` is on every command, `--format` where the result is records. A list of records is the table that the
record declares. A result with `code` sets the exit code, one with `error` or `warning` is also reported on
standard error.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, datetime, timedelta
from enum import StrEnum
from importlib import import_module
from pathlib import Path
from typing import Any, get_args

import click

from coordination.api.texts import part_of
from coordination.cli import completion
from coordination.cli.command import OperationCommand, made_by
from coordination.cli.completion import format_fields
from coordination.cli.context import CliContext, confirm, despite_quiet, warn, yes_option
from coordination.cli.options.values import (
    duration,
    last_day,
    later,
    moment,
    moment_or_position,
    more_than_zero,
    one_of,
    parts,
    read_text,
    reading,
    text_or_stdin,
)
from coordination.cli.screen.output import Form, Template, as_json_option, field_names, print_json
from coordination.cli.screen.tables import print_none, print_records, wide_option
from coordination.cli.times import with_local_times
from coordination.declared import Column, Operation, Parameter, Table, data_of
from coordination.errors import UsageError
from coordination.terminal import spelled

DRAWN: Mapping[str, str] = {
    "credential.revoke": "processes.access:print_revoked",
    "steps.load": "processes.access:print_loaded",
    "trust.verify": "trust:print_verified",
    "history.search": "history:print_events",
    "history.trends": "history:print_trends",
    "lock.list": "locks:print_locks",
    "lock.release": "locks:print_released",
    "breaker.reset": "locks:print_reset",
    "message.send": "messages:print_sent",
    "message.resend": "messages:print_sent",
    "message.register": "messages:print_registered",
    "message.ack": "messages:print_acknowledged",
    "topic.publish": "messages:print_published",
    "run.list": "runs.inspection:print_runs",
    "repo.list": "tracker.lists:print_repos",
    "issue.list": "tracker.lists:print_issues",
    "issue.show": "tracker.pages:print_issue",
    "issue.sync": "tracker.exchange:print_synchronised",
    "todo.list": "tracker.lists:print_todos",
    "todo.show": "tracker.pages:print_todo",
    "plan.list": "tracker.lists:print_plans",
    "plan.show": "tracker.pages:print_plan",
    "plan.forecast": "runs.forecast:print_forecast",
    "template.show": "runs.campaign:print_template",
    "dep.show": "tracker.pages:print_dependency",
    "repo.status": "tracker.status:print_status",
    "ecosystem.status": "tracker.status:print_ecosystem",
    "checkpoint.create": "runs.recovery:print_checkpoint",
    "context.delete": "contexts:print_deleted",
    "context.export": "contexts:print_exported",
    "context.import": "contexts:print_imported",
    "context.stats": "contexts:print_stats",
    "repo.disconnect": "health:print_disconnected",
    "repo.connect": "health:print_connected",
    "plan.diff": "landing.changes:print_diff",
    "service.logs": "processes.services:print_log",
    "service.forget": "processes.services:print_forgotten",
}
"""Operation → the function that prints its result for people, where a table does not do."""
HAND_MADE: Mapping[str, str] = {
    "credential.add": "processes.access:add",
    "credential.rotate": "processes.access:rotate",
    "identity.init": "trust:init",
    "identity.show": "trust:show",
    "trust.break-glass": "trust:break_glass",
    "event.list": "history:event_list",
    "history.rebuild": "history:rebuild",
    "history.export": "history:export",
    "history.import": "history:import_",
    "issue.close": "tracker.edits:close",
    "todo.complete": "tracker.edits:complete",
    "plan.campaign": "runs.campaign:campaign",
    "plan.graph": "runs.forecast:graph",
    "repo.exec": "runs.campaign:exec_",
    "plan.validate": "tracker.plans:validate",
    "repo.blocking": "tracker.status:blocking",
    "dep.check": "tracker.dependencies:check",
    "run.sweep": "runs.sweep:sweep",
    "todo.execute": "runs.sweep:execute",
    "run.retry": "runs.recovery:retry",
    "run.rollback": "runs.recovery:rollback",
    "run.pause": "runs.control:pause",
    "run.resume": "runs.control:resume",
    "run.cancel": "runs.control:cancel",
    "run.approve": "runs.control:approve",
    "run.answer": "runs.control:answer",
    "run.reject": "runs.control:reject",
    "run.show": "runs.inspection:show",
    "run.logs": "runs.inspection:logs",
    "run.sync": "runs.inspection:sync",
    "run.watch": "runs.inspection:watch",
    "run.export": "runs.storage:export",
    "run.import": "runs.storage:import_",
    "run.clean": "runs.storage:clean",
    "checkpoint.restore": "runs.recovery:restore",
    "context.get": "contexts:get",
    "context.set": "contexts:set_",
    "plan.changes": "landing.changes:changes",
    "plan.discard": "landing.changes:discard",
    "plan.adopt": "landing.changes:adopt",
    "plan.resolve": "landing.changes:resolve",
    "plan.land": "landing.land:land",
    "pr.fix": "landing.requests:fix",
    "plan.revert": "landing.land:revert",
    "qa.run": "landing.checks:run",
    "qa.ci": "landing.checks:ci",
    "qa.show": "landing.checks:show",
    "repo.health": "health:health",
    "service.start": "processes.services:start",
    "service.stop": "processes.services:stop",
    "service.restart": "processes.services:restart",
    "service.show": "processes.services:show",
}
"""Operation → the function that executes its command: `function(call, values, **own)`. `values` are those of
the declared parameters that were given, `own` those of the options with which it is decorated; its docstring
is the end of the help.
"""
BUILT: Mapping[str, str] = {
    f"{noun}.{verb}": f"tracker.edits:{verb}"
    for noun in ("issue", "todo", "plan", "dep")
    for verb in ("create", "update", "delete")
} | {"plan.create": "runs.new_plan:create", "plan.update": "tracker.plans:update"}
"""Operation → the function that makes its command."""
CONVERTED: Mapping[Any, Callable[[click.Context, click.Parameter, str | None], Any]] = {
    timedelta: duration,
    datetime: moment,
    date: last_day,
    str | datetime: moment_or_position,
}
"""Type → the callback that converts its text."""
TIMES = (datetime, str | datetime)
"""Types of a time, which may be given as a duration before now."""


def command_of(operation: Operation) -> click.Command:
    """Return the command of an operation."""
    if place := BUILT.get(operation.name):
        built: click.Command = _at(place)(operation)
        return built
    if place := HAND_MADE.get(operation.name):
        return _hand_made(operation, _at(place))
    made = [parameter(one) for one in operation.parameters]
    if operation.asks:
        made.append(made_by(yes_option))
    made.append(made_by(as_json_option))
    if names := _fields(operation):
        made.append(template_option(names))
    if any(column.wide for column in _columns(operation)):
        made.append(made_by(wide_option(_columns(operation))))
    return built_of(operation, made, _callback(operation))


def built_of(
    operation: Operation, made: Sequence[click.Parameter], call: Callable[..., Any], own_help: str = ""
) -> click.Command:
    """Return the command of an operation with these parameters, which calls a function."""
    return OperationCommand(
        name=operation.verb,
        operation=operation.name,
        text=lambda: _help(operation),
        help=own_help,
        params=list(made),
        callback=click.pass_obj(call),
        add_help_option=True,
    )


def _fields(operation: Operation) -> list[str]:
    """Return the fields that a template may name; none where the result is no record."""
    return field_names(operation.record) if operation.record else []


def _columns(operation: Operation) -> Sequence[Column]:
    """Return the columns of the table that an operation prints; none where it prints a sentence."""
    if operation.name in DRAWN and operation.effect.writes:
        return ()
    table: Table | None = getattr(operation.result, "shown", None)
    return table.columns if table and operation.lists else ()


def _hand_made(operation: Operation, function: Callable[..., int | None]) -> click.Command:
    own: Sequence[click.Parameter] = getattr(function, "__click_params__", ())

    def call(obj: CliContext, **given: Any) -> int | None:
        values = _values(operation, {one.name: given.pop(one.name) for one in operation.parameters})
        return function(obj, values, **given)

    made = [*map(parameter, operation.parameters), *reversed(own)]
    return built_of(operation, made, call, function.__doc__ or "")


def _help(operation: Operation) -> str:
    """Return the text of an operation and of its arguments."""
    arguments = (
        f"{one.option.metavar.strip('[]') or one.name.upper()}: {_text(one)}"
        for one in operation.parameters
        if one.positional
    )
    return "\n\n".join([operation.text, *arguments])


def _text(one: Parameter) -> str:
    """Return the text of a parameter, with its values where they are few."""
    return f"{one.option.text} {one_of(one.type).capitalize()}" if _is_word(one) else one.option.text


def _argument_type(one: Parameter, words: Sequence[str]) -> click.ParamType[Any] | None:
    if words:
        return click.Choice(words, case_sensitive=False)
    return click.Path(dir_okay=False, path_type=Path) if _is_path(one) else None


def template_option(names: Sequence[str]) -> click.Option:
    return click.Option(
        ["--format", "format_"],
        metavar="TEMPLATE",
        help="Print a line for each record, e.g. '{id} {status}'.",
        shell_complete=format_fields(names),
    )


def parameter(one: Parameter) -> click.Parameter:
    complete = getattr(completion, one.option.completes) if one.option.completes else None
    words = [each.value for each in one.type] if _is_word(one) else []
    if words:
        complete = complete or completion.enum_values(one.type)
    if one.positional:
        return click.Argument(
            [one.name],
            required=one.required,
            nargs=-1 if one.several else 1,
            metavar=one.option.metavar or (one.name.upper() if words else None),
            type=_argument_type(one, words),
            shell_complete=complete,
        )
    flag = one.option.flag or f"--{one.name.replace('_', '-')}"
    names = [name for name in (flag, one.option.short, one.name) if name]
    if one.type is bool:
        default = None if one.optional else one.default
        return click.Option(names, is_flag=True, default=default, help=one.option.text)
    kind: click.ParamType[Any] | None = None
    metavar, help_ = one.option.metavar, _text(one)
    if one.option.file:
        metavar, kind = "FILE", click.Path(allow_dash=True)
        help_ = f"{help_} Read it from FILE, - for standard input."
    elif words:
        metavar = metavar or "WORD"
        kind = None if one.option.filters else click.Choice(words, case_sensitive=False)
    elif one.type in TIMES:
        help_ = f"{help_} TIME: 2026-01-31, or 7d for 7 days {'from now' if one.option.ahead else 'ago'}."
    elif one.type is int and not one.option.reads:
        metavar, kind = metavar or "N", click.IntRange(min=one.option.least, max=one.option.most)
    if one.option.filters:
        metavar = f"{metavar or flag.lstrip('-').upper()},…"
        complete = completion.listed(complete) if complete else None
    unset: dict[str, Any] = {} if one.required else {"default": None}  # with one, click requires nothing
    return click.Option(
        names,
        required=one.required,
        multiple=one.several,
        metavar=metavar or flag.lstrip("-").upper(),
        type=kind,
        **unset,
        callback=_converted_by(one),
        help=help_,
        shell_complete=complete,
    )


def _converted_by(one: Parameter) -> Callable[..., Any] | None:
    """Return the callback that converts the text of an option."""
    if one.option.filters:
        return parts
    if one.option.reads:
        return reading(one.option.reads)
    if one.type is timedelta and one.option.least:
        return more_than_zero
    if one.option.ahead:
        return later
    return CONVERTED.get(one.type)


def _callback(operation: Operation) -> Callable[..., int]:
    def call(
        obj: CliContext, as_json: bool, format_: str | None = None, yes: bool = False, **given: Any
    ) -> int:
        form = _form(operation, as_json=as_json, template=format_)
        values = _values(operation, given)
        result = operation.call(
            part_of(obj.coord, operation), values, lambda question, _: confirm(question, yes=yes)
        )
        return show(operation, result, form, filtered=bool(values))

    return call


def _values(operation: Operation, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values that differ from the defaults."""
    found = {one: _value(one, given[one.name]) for one in operation.parameters}
    return {one.name: value for one, value in found.items() if value not in (one.default, None, ())}


def _form(operation: Operation, *, as_json: bool, template: str | None) -> Form:
    if as_json and template is not None:
        raise UsageError("--json and --format exclude each other", "choose one of them")
    known = () if template is None else _fields(operation)
    return Form(as_json=as_json, template=None if template is None else Template(template, known))


def _value(one: Parameter, given: Any) -> Any:
    if given is None:
        return None
    if _is_word(one) and not one.option.filters:
        return tuple(map(one.type, given)) if one.several else one.type(given)
    if one.option.file:
        return read_text(given, one.option.longest)
    text = text_or_stdin(given) if one.option.stdin else given
    return _json_or_text(text) if one.option.json else text


def _json_or_text(text: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _is_path(one: Parameter) -> bool:
    return Path in (one.type, *get_args(one.type))


def _is_word(one: Parameter) -> bool:
    """Return whether it has few values."""
    return isinstance(one.type, type) and issubclass(one.type, StrEnum)


def show(operation: Operation, result: Any, form: Form, *, filtered: bool = False) -> int:
    """Print the result of an operation, and return the exit code: that of the first failure in it."""
    records: Sequence[Any] = tuple(result) if operation.lists else (result,)
    table: Table | None = getattr(operation.result, "shown", None)
    drawing = DRAWN.get(operation.name)

    def read() -> None:
        if drawing is not None and (records or table is None):
            _at(drawing)(result)
        elif table is not None:
            _print_table(table, records, filtered=filtered)

    if operation.lists and _fields(operation):
        form.records(records, read)
    elif operation.record and not operation.lists:
        form.record(result.record, result.more if form.as_json else {}, read)
    elif form.as_json:
        print_json(data_of(result))
    else:
        read()
    if note := getattr(result, "note", ""):
        click.echo(with_local_times(note), err=True)
    if not form.wanted:
        _report(records)
    return next((code for one in records if (code := getattr(one, "code", 0))), 0)


def _at(place: str) -> Callable[..., Any]:
    """Return the function `module:function` below this package."""
    module, _, name = place.partition(":")
    found: Callable[..., Any] = getattr(import_module(f"coordination.cli.{module}"), name)
    return found


def _print_table(table: Table, records: Sequence[Any], *, filtered: bool) -> None:
    if not records and table.none:
        print_none(table.no_match if filtered and table.no_match else table.none, table.next_step)
        return
    print_records(table.columns, records)


def _report(records: Iterable[Any]) -> None:
    for one in records:
        if warning := getattr(one, "warning", ""):
            warn(f"{one.repo}: {warning}")
        if error := getattr(one, "error", ""):
            with despite_quiet():
                click.echo(spelled(f"error: {one.repo}: {error}".replace("\n", "\n  ")), err=True)
