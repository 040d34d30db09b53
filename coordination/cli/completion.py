"""Shell completion: names from the file, runs and locks where Redis answers at once, and the scripts that ask
for them.

An argument or option gets one of these functions as its `shell_complete`. They return names or nothing: a
file that is broken, or missing, is reported when the command is executed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from enum import StrEnum
from subprocess import SubprocessError
from typing import TYPE_CHECKING

import click
from click.shell_completion import CompletionItem, FishComplete, ZshComplete

from coordination.cli.command import command
from coordination.cli.context import CliContext
from coordination.errors import CoordinationError

if TYPE_CHECKING:
    from coordination.models import Ecosystem

Items = list[CompletionItem[str]]
Complete = Callable[[click.Context, click.Parameter, str], Items]
Names = Mapping[str, str] | Iterable[str]
"""Names, or names with a description for shells that show one."""


def from_file(names: Callable[[Ecosystem], Names]) -> Complete:
    """Complete names that the file declares."""

    def complete(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> Items:
        try:
            ecosystem = ctx.ensure_object(CliContext).coord.document.ecosystem
        except (CoordinationError, OSError):
            return []
        return matching(names(ecosystem), incomplete)

    return complete


def matching(names: Names, incomplete: str) -> Items:
    """Return the names that begin so, in any case."""
    help_of = names if isinstance(names, Mapping) else dict.fromkeys(names, "")
    begun = incomplete.casefold()
    return [
        CompletionItem(name, help=" ".join(help_.split()) or None)
        for name, help_ in help_of.items()
        if name.casefold().startswith(begun)
    ]


def listed(complete: Complete) -> Complete:
    """Complete the last part of `a,b,c`, without the parts before it."""

    def complete_last(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> Items:
        before, comma, last = incomplete.rpartition(",")
        there = set(before.split(","))
        items = complete(ctx, parameter, last)
        return [
            CompletionItem(f"{before}{comma}{i.value}", help=i.help) for i in items if i.value not in there
        ]

    return complete_last


def enum_values(kind: Iterable[StrEnum]) -> Complete:
    """Complete the values of an enumeration."""
    return lambda ctx, parameter, incomplete: matching([member.value for member in kind], incomplete)


def run_statuses(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> Items:
    """Complete the statuses that runs have."""
    from coordination.api import RunStatus

    return matching([one.value for one in RunStatus if one is not RunStatus.DRAFT], incomplete)


def format_fields(fields: Sequence[str]) -> Complete:
    """Complete the field name at the cursor of a template."""

    def complete(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> Items:
        before, brace, begun = incomplete.rpartition("{")
        if not brace or "}" in begun:
            return []
        return [CompletionItem(f"{before}{{{field}}}") for field in fields if field.startswith(begun)]

    return complete


def _values(rows: Iterable[Sequence[str | None]]) -> dict[str, str]:
    """Return each value once, sorted."""
    return dict.fromkeys(sorted({value for row in rows for value in row if value}), "")


def _issues(file: Ecosystem) -> dict[str, str]:
    return {issue.id: issue.title for issue in file.coordination.issues}


def _todos(file: Ecosystem) -> dict[str, str]:
    return {todo.id: todo.task for todo in file.coordination.todos}


def _plans(file: Ecosystem) -> dict[str, str]:
    return {plan.id: plan.title for plan in file.coordination.plans}


def _dependencies(file: Ecosystem) -> dict[str, str]:
    return {d.id: f"{d.consumer} needs {d.provider}" for d in file.coordination.dependencies}


def _repos(file: Ecosystem) -> dict[str, str]:
    return {repo.name: repo.role or "" for repo in file.repos}


def _assignees(file: Ecosystem) -> dict[str, str]:
    issues, todos = file.coordination.issues, file.coordination.todos
    return _values([*([i.assignee] for i in issues), *([t.assignee] for t in todos)])


def _labels(file: Ecosystem) -> dict[str, str]:
    issues, todos = file.coordination.issues, file.coordination.todos
    return _values([*(i.labels for i in issues), *(t.labels for t in todos)])


def levels(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> Items:
    """Complete urgencies."""
    from coordination.models import Level

    return matching([one.value for one in Level], incomplete)


issue_ids = from_file(_issues)
todo_ids = from_file(_todos)
plan_ids = from_file(_plans)
landable = from_file(lambda file: {**_plans(file), **{one.id: one.title for one in file.coordination.waves}})
dependency_ids = from_file(_dependencies)
work_ids = from_file(lambda file: {**_issues(file), **_todos(file), **_plans(file)})
"""Records that can block another one."""
repo_names = from_file(_repos)
service_names = from_file(lambda file: {one.name: one.repo for one in file.coordination.services})
resource_names = from_file(lambda file: {resource.name: resource.type for resource in file.resources})
assignees = from_file(_assignees)
labels = from_file(_labels)
tags = from_file(lambda file: _values(repo.tags for repo in file.repos))
roles = from_file(lambda file: _values([repo.role] for repo in file.repos))


def subject_ids(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> Items:
    """Complete what events are about: all records, milestones as PLAN/M1."""

    def subjects(file: Ecosystem) -> dict[str, str]:
        milestones = {
            f"{plan.id}/{milestone.id}": milestone.name
            for plan in file.coordination.plans
            for milestone in plan.milestones
        }
        return {**_issues(file), **_todos(file), **_plans(file), **milestones, **_dependencies(file)}

    return from_file(subjects)(ctx, parameter, incomplete)


def event_kinds(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> Items:
    """Complete the kinds of events, and a pattern for each type."""
    from coordination.api import HISTORY_KINDS

    patterns = dict.fromkeys(f"{kind.partition('.')[0]}.*" for kind in sorted(HISTORY_KINDS))
    return matching([*patterns, *sorted(HISTORY_KINDS)], incomplete)


def event_types(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> Items:
    """Complete the types of the records that events are about."""
    from coordination.api import HISTORY_KINDS

    return matching(sorted({kind.partition(".")[0] for kind in HISTORY_KINDS}), incomplete)


def stream_kinds(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> Items:
    """Complete the kinds of the stream of events."""
    from coordination.api import KINDS

    return matching(KINDS, incomplete)


def milestone_ids(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> Items:
    """Complete the milestones of the plan that the command names, else of all plans."""
    plan = ctx.params.get("plan") or ctx.params.get("name")

    def milestones(file: Ecosystem) -> dict[str, str]:
        return dict(_milestones(file, plan))

    return from_file(milestones)(ctx, parameter, incomplete)


def _milestones(file: Ecosystem, plan_id: str | None) -> Iterator[tuple[str, str]]:
    for plan in file.coordination.plans:
        if plan_id in (None, plan.id):
            yield from ((milestone.id, milestone.name) for milestone in plan.milestones)


def run_ids(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> Items:
    """Complete the newest runs, if Redis answers at once; start no server for a Tab."""
    return matching(ctx.ensure_object(CliContext).coord.live.newest_runs(), incomplete)


def change_sets(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> Items:
    """Complete the plans that have a change set, if Redis answers at once; else all plans."""
    there = ctx.ensure_object(CliContext).coord.live.change_sets()
    return matching(there, incomplete) if there else plan_ids(ctx, parameter, incomplete)


def branch_names(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> Items:
    """Complete the branches of the repository that the call names, in its checkout on this machine."""
    from coordination.git import ask_git

    try:
        document = ctx.ensure_object(CliContext).coord.document
        repos = [repo for repo in document.ecosystem.repos if repo.name == ctx.params.get("repo")]
        place = document.repo_path(repos[0]) if repos else None
        if place is None or not place.is_dir():
            return []
        listing = ask_git(place, "for-each-ref", "--format=%(refname:short)", "refs/heads", timeout_s=2)
    except (CoordinationError, OSError, SubprocessError):
        return []
    return matching(listing.splitlines(), incomplete)


def asking_ids(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> Items:
    """Complete the todos that wait for a person, if Redis answers at once."""
    asked = ctx.ensure_object(CliContext).coord.live.asking()
    return matching({one.todo: one.waits_for for one in asked}, incomplete)


def breaker_names(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> Items:
    """Complete the circuit breakers that are not at rest, if Redis answers at once."""
    there = ctx.ensure_object(CliContext).coord.live.breakers()
    return matching({breaker.name: breaker.reason for breaker in there}, incomplete)


def credential_names(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> Items:
    """Complete the credentials of this machine."""
    credentials = ctx.ensure_object(CliContext).coord.credentials
    try:
        return matching({one.name: one.reference for one in credentials.list()}, incomplete)
    except (CoordinationError, OSError):
        return []


def lock_names(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> Items:
    """Complete the locks that are held, if Redis answers at once."""
    return matching(ctx.ensure_object(CliContext).coord.live.held_locks(), incomplete)


VARIABLE = "_COORD_COMPLETE"
_BASH = """\
_coord_completion() {
    local IFS=$'\\n' word type value current='' before
    local -i last=-1
    local -a words=()

    # Bash takes words apart at : and =, which stand within names (area:core) and before values (--repo=api).
    for word in "${COMP_WORDS[@]:0:COMP_CWORD+1}"; do
        if [[ $word == = && $current == -* ]]; then
            word='' last+=1
        elif (( last > 0 )) && [[ -z $current || $word == [:=]* || $current == *[:=] ]]; then
            word=$current$word
        else
            last+=1
        fi
        words[last]=$word current=$word
    done
    before=${current%"${current##*[:=]}"}

    COMPREPLY=()
    for word in $(COMP_WORDS="${words[*]}" COMP_CWORD=$last _COORD_COMPLETE=bash_complete "$1" 2>/dev/null)
    do
        type=${word%%,*} value=${word#*,}
        if [[ $type == dir ]]; then
            compopt -o dirnames 2>/dev/null
        elif [[ $type == file ]]; then
            compopt -o default 2>/dev/null
        elif [[ $value == *[[:space:]\\'\\"\\$\\&\\;\\|\\<\\>\\(\\)\\*\\?\\!\\#\\`]* &&
                $current != [\\'\\"]* ]]; then
            printf -v value %q "$value"
            COMPREPLY+=("${value#"$before"}")
        else
            COMPREPLY+=("${value#"$before"}")
        fi
    done
}

complete -o nosort -F _coord_completion coord 2>/dev/null || complete -F _coord_completion coord
"""


def _source(shell: str) -> str:
    if shell == "bash":
        return _BASH
    kind, asks = {
        "zsh": (ZshComplete, "zsh_complete coord"),
        "fish": (FishComplete, "(commandline -t) coord"),
    }[shell]
    script = kind(click.Group(), {}, "coord", VARIABLE).source()
    for old, new in {
        asks: f"{asks} 2>/dev/null",  # completion shows no errors of the file
        "\n    response=": f"\n{_KEEP_OPTION}    response=",
        'split ","': 'split -m 1 ","',  # the next comma is the value's own, or the description's
    }.items():
        script = script.replace(old, new)
    return script


_KEEP_OPTION = """\
    # `--repo=a`: the completion replaces only the part after the `=`.
    [[ ${words[CURRENT]} == -*=* ]] && compset -P 1 '*='
"""


@command()
@click.argument("shell", type=click.Choice(("bash", "zsh", "fish")))
def completion(shell: str) -> None:
    """Print the completion script of a shell. It completes commands, options, ids, repositories, plans and
    labels.

    bash, in ~/.bashrc: eval "$(coord completion bash)"

    zsh, in ~/.zshrc after compinit: eval "$(coord completion zsh)"

    fish, once: coord completion fish > ~/.config/fish/completions/coord.fish
    """
    click.echo(_source(shell), nl=False)
