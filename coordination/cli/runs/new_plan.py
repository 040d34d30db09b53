"""`plan create`: a plan of options or a file, of a template, of a proposal."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import click

from coordination.api.fields import PlanFields
from coordination.cli.completion import roles as role_names
from coordination.cli.completion import run_ids
from coordination.cli.completion import tags as tag_names
from coordination.cli.context import CliContext, yes_option
from coordination.cli.runs.campaign import conclude_generated
from coordination.cli.runs.proposals import create_from_file, create_from_run, create_from_sentence
from coordination.cli.tracker import edits
from coordination.cli.tracker.edits import create_records, fields_of, values_of
from coordination.declared import Operation
from coordination.errors import UsageError

PROPOSED: Mapping[str, Callable[..., int]] = {
    "--from": create_from_sentence,
    "--apply": create_from_run,
    "--proposal": create_from_file,
}
"""Option whose value is a proposal, or leads to one → the function that shows and writes it."""
GENERATE = ("--from-template", *PROPOSED)
SELECT = tuple(option for option in GENERATE if option != "--apply")
"""The options that go with selected repositories; a run has its own."""
BELONG = {
    "--set": ("given", ("--from-template",)),
    "--agent": ("agent", ("--from",)),
    "--yes": ("yes", tuple(PROPOSED)),
    "--tag": ("tags", SELECT),
    "--role": ("roles", SELECT),
    "--all": ("all_repos", SELECT),
    "--dry-run": ("dry_run", GENERATE),
    "--sweep": ("sweep", GENERATE),
}
"""Option → its parameter, and the options of which it needs one."""
NAMES = {
    "--from-template": "template",
    "--from-file": "from_file",
    "--from": "sentence",
    "--apply": "apply",
    "--proposal": "proposal",
}
"""Option that says what the plan is made of → its parameter."""


@click.option("--from-template", "template", metavar="NAME", help="Create plan and todos from a template.")
@click.option(
    "--set", "given", multiple=True, metavar="PARAMETER=VALUE", help="Set a parameter of the template."
)
@click.option(
    "--from",
    "sentence",
    metavar="TEXT",
    help="Let an agent propose plan and todos for this change, in a person's words.",
)
@click.option("--agent", metavar="NAME", help="With --from: the agent (default: that of the settings).")
@click.option(
    "--apply",
    metavar="RUN",
    shell_complete=run_ids,
    help="Create plan and todos from the proposal that an agent made in this run.",
)
@click.option(
    "--proposal",
    metavar="FILE",
    type=click.Path(allow_dash=True),
    help="Create plan and todos from the proposal of an agent, JSON in FILE, - for standard input.",
)
@click.option(
    "--tag",
    "tags",
    multiple=True,
    metavar="TAG",
    shell_complete=tag_names,
    help="With a template or proposal: select the repositories with this tag.",
)
@click.option(
    "--role",
    "roles",
    multiple=True,
    metavar="ROLE",
    shell_complete=role_names,
    help="With a template or proposal: select the repositories with this role.",
)
@click.option(
    "--all",
    "all_repos",
    is_flag=True,
    help="With a template or proposal: select all repositories (default for a proposal).",
)
@click.option(
    "--dry-run", is_flag=True, help="With a template or proposal: print plan and todos; write nothing."
)
@click.option("--sweep", is_flag=True, help="With a template or proposal: run the plan at once.")
@yes_option
def create_plan(
    call: CliContext,
    declared: Operation,
    options: Mapping[str, Any],
    *,
    from_file: str | None,
    as_json: bool,
) -> int:
    """Its id is printed. Todos join it with: coord todo create --plan.

    With --from-template it gets the todos of the template for each repository of --repos, --tag, --role or
    --all; other options replace fields of the template's plan.

    With --from an agent reads the repositories and proposes a plan; a proposal that is refused is corrected
    at most twice. A proposal orders agents and nothing else. Its todos and the difference of the file are
    shown, and written after a yes.
    """
    made_of = _source({**options, "from_file": from_file})
    for flag, (name, needed) in BELONG.items():
        if options[name] and made_of not in needed:
            hint = (
                "name a template: coord template list" if needed[0] == "--from-template" else "see its help"
            )
            raise UsageError(f"{flag} belongs to {' or '.join(needed)}", hint)
    if made_of in ("", "--from-file"):
        create_records(call, declared, options, from_file=from_file, as_json=as_json)
        return 0
    fields = PlanFields(**values_of(fields_of(declared), options)).given()
    repos = fields.pop("repos", ()) if made_of in SELECT else ()
    if made_of in PROPOSED:
        if fields:
            raise UsageError(f"{made_of} sets the fields of the plan", f"leave out: {', '.join(fields)}")
        value, given = options[NAMES[made_of]], {**options, "repos": repos}
        return PROPOSED[made_of](call, value, given, as_json=as_json)
    made = call.coord.generators.create_plan_from_template(
        options["template"],
        dict(_assignment(text) for text in options["given"]),
        repos=repos,
        tags=options["tags"],
        roles=options["roles"],
        all_repos=options["all_repos"],
        fields=fields,
        dry_run=options["dry_run"],
    )
    return conclude_generated(call, made, sweep=options["sweep"], as_json=as_json)


def _source(options: Mapping[str, Any]) -> str:
    """Return the option that says what the plan is made of; empty where its fields do. Raises UsageError for
    two of them.
    """
    given = [flag for flag, name in NAMES.items() if options[name] is not None]
    if len(given) > 1:
        raise UsageError(f"{given[0]} and {given[1]} exclude each other", "use one of them")
    return given[0] if given else ""


def create(declared: Operation) -> click.Command:
    """Return the command that creates plans, also from templates."""
    return edits.create(declared, create_plan)


def _assignment(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name.strip():
        raise UsageError(f"--set {text}: there is no value", "write it as --set PARAMETER=VALUE")
    return name.strip(), value
