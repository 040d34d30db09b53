"""The template of `coord campaign`: a change and a check for each repository."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import ValidationError

from coordination.errors import UsageError
from coordination.models import AgentAction, OnFailure, QaAction, ShellAction
from coordination.models.templates import Parameter, RepoOrder, Template, TemplatePlan, TemplateStep
from coordination.text import is_utf8, limit

CHANGE, CHECK = "change", "check"
Command = str | Sequence[str]


def campaign_template(
    *,
    run: Command | None = None,
    prompt: str | None = None,
    check: Command | None = None,
    order: RepoOrder = RepoOrder.DEPS,
    on_failure: OnFailure = OnFailure.CONTINUE,
) -> Template:
    """Return the template of a campaign, with the parameter `title`. `run` or `prompt`: the change, by a
    command or by an agent; `check`: a command that succeeds if the change is good, and changes no file (None:
    the checks that each repository declares).

    Raises UsageError unless there is one change.
    """
    if (run is None) is (prompt is None):
        what = "nothing to do" if run is None else "two changes"
        raise UsageError(f"a campaign with {what}", "give it --run COMMAND, or --prompt TEXT for an agent")
    if not all(is_utf8("".join(command or ())) for command in (run, prompt, check)):
        raise UsageError("the command or the prompt is not UTF-8", "write it in UTF-8")
    try:
        action = _shell(run) if run is not None else AgentAction(type="agent", prompt=_literal(prompt or ""))
        proof = QaAction(type="qa") if check is None else _shell(check, read_only=True)
        return Template(
            name="campaign",
            parameters=(Parameter(name="title"),),
            order=order,
            plan=TemplatePlan(title="${title}", on_failure=on_failure),
            steps=(
                TemplateStep(id=CHANGE, task="${title}", action=action),
                TemplateStep(id=CHECK, task="check: ${title}", action=proof),
            ),
        )
    except ValidationError as error:
        first = error.errors()[0]
        raise UsageError(
            f"the command or the prompt {limit(first)}", "correct it and try again: coord campaign --help"
        ) from error


def _shell(command: Command, *, read_only: bool = False) -> ShellAction:
    run = command if isinstance(command, str) else tuple(command)
    return ShellAction(type="shell", run=run, **({"read_only": True} if read_only else {}))


def _literal(text: str) -> str:
    """Return a text of the user in which nothing is a parameter."""
    return text.replace("${", "$${")
