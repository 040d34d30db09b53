"""Decide which checks run at which commits, and submit their run."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from coordination.errors import NotFound, PlanRefused, UsageError
from coordination.models import (
    CheckKind,
    Ecosystem,
    OnFailure,
    Todo,
)
from coordination.planner.checks import CheckGenerator, unchecked
from coordination.planner.generated import generated_plan
from coordination.runs.change_sets.store import ChangeSets
from coordination.runs.control.starting import start_generated
from coordination.runs.run_kinds import QA
from coordination.runs.submission.beginning import AT_BASE, Beginning, at_run, at_tips
from coordination.runs.submission.order import order_of_generated
from coordination.runs.views.run_list import OF_TODOS
from coordination.text import did_you_mean, listed, require_known

if TYPE_CHECKING:
    from coordination.planner.graph import PlanGraph
    from coordination.runs.connection import Connection

BASE = "base"
"""Subject of checks at the base branches."""
HEAD = "head"
"""Subject of checks at the commits of the checkouts."""


@dataclass(frozen=True, kw_only=True)
class CheckOptions:
    """The options of `coord qa run`."""

    repos: tuple[str, ...] = ()
    """Empty: those of the plan or run, else all that declare checks."""
    plan: str | None = None
    """Check the change set of this plan."""
    run: str | None = None
    """Check the commits of this run."""
    base: bool = False
    """Check the base branches of the repositories of the plan or run."""
    heads: Mapping[str, str] = field(default_factory=dict)
    """Repository → the commit of this host's checkout that is checked in place of the base branch."""
    host: str = ""
    """The host that has the heads."""
    kinds: tuple[CheckKind, ...] = ()
    """Empty: all kinds."""
    no_cache: bool = False


@dataclass(frozen=True, kw_only=True)
class PreparedChecks:
    """A run of checks that is decided and not started."""

    subject: str
    """The plan or run whose work is checked, or `base`."""
    records: Ecosystem
    graph: PlanGraph
    beginning: Beginning
    unchecked: tuple[str, ...]
    """Repositories that declare no such check, so nothing is known about them."""
    options: CheckOptions


def prepare_checks(connection: Connection, ecosystem: Ecosystem, options: CheckOptions) -> PreparedChecks:
    """Return the run that checks the repositories.

    Raises NotFound for an unknown repository, plan, run or change set; UsageError for options that exclude
    each other; PlanRefused where a named repository declares no check, or none does.
    """
    subject, beginning, involved = _subject(connection, ecosystem, options)
    repos = _repos(ecosystem, options, involved)
    kinds = options.kinds or tuple(CheckKind)
    without = unchecked(ecosystem, repos, kinds)
    if len(without) == len(repos) or set(without) & set(options.repos):
        names = listed(without) if repos else "no repository"
        what = f"{names} {'declare' if len(without) > 1 else 'declares'} {'no' if repos else 'a'} check"
        raise PlanRefused(
            f"{what}{_of_kinds(options.kinds)}", "declare one in the file: field `qa` of the repository"
        )
    todos = CheckGenerator(ecosystem=ecosystem, kinds=kinds, prefix=f"{QA}.{subject}").todos(repos)
    records, graph = checks_graph(ecosystem, subject, todos)
    return PreparedChecks(
        subject=subject,
        records=records,
        graph=graph,
        beginning=beginning.only(graph.repos),
        unchecked=tuple(without),
        options=options,
    )


def checks_graph(ecosystem: Ecosystem, subject: str, todos: Iterable[Todo]) -> tuple[Ecosystem, PlanGraph]:
    """Return the records and the graph of a run of these checks."""
    ours = tuple(todo.model_copy(update={"plan": None}) for todo in todos)
    repos = tuple(dict.fromkeys(todo.repo for todo in ours))
    return generated_plan(
        ecosystem,
        f"{QA}:{subject}",
        f"checks of {subject}",
        ours,
        repos=repos,
        on_failure=OnFailure.CONTINUE,
    )


def start(connection: Connection, prepared: PreparedChecks) -> str:
    """Start the run; return its id. Raises Conflict where workers have another version of coord."""
    order = order_of_generated(prepared.graph.plan, QA, no_cache=prepared.options.no_cache)
    return start_generated(
        connection, prepared.records, prepared.graph, order, alone=False, beginning=prepared.beginning
    )


def _subject(
    connection: Connection, ecosystem: Ecosystem, options: CheckOptions
) -> tuple[str, Beginning, tuple[str, ...] | None]:
    """Return the subject, the commits at which its checks start, and its repositories; None for all that
    declare checks.
    """
    if options.plan and options.run:
        raise UsageError("--plan and --run exclude each other", "remove one of them")
    if options.run:
        run_id = connection.reader.resolve(options.run, OF_TODOS)
        beginning, involved = (
            at_run(connection.store, run_id),
            connection.store.brief(run_id).repo_of.values(),
        )
        subject, repos = run_id, tuple(dict.fromkeys(involved))
    elif options.plan:
        subject = options.plan
        if options.heads:
            beginning, repos = _at_heads(options), _repos_of(ecosystem, options.plan)
            return HEAD, beginning, tuple(repo for repo in repos if repo in options.heads)
        beginning, repos = _of_plan(connection, ecosystem, options.plan, base=options.base)
    elif options.heads:
        return HEAD, _at_heads(options), tuple(options.heads)
    else:
        return BASE, AT_BASE, None
    return (BASE, AT_BASE, repos) if options.base else (subject, beginning, repos)


def _at_heads(options: CheckOptions) -> Beginning:
    return Beginning(tips=options.heads, hosts=dict.fromkeys(options.heads, options.host))


def _repos_of(ecosystem: Ecosystem, name: str) -> tuple[str, ...]:
    """Return the repositories of a plan, or of a todo without plan. Raises NotFound."""
    coordination = ecosystem.coordination
    plans = {plan.id: plan for plan in coordination.plans}
    todos = {todo.id: todo for todo in coordination.todos}
    if name in plans:
        ours = ecosystem.todos_of(plans[name])
    elif name in todos:  # a todo without plan has a change set of its own
        ours = (todos[name],)
    else:
        raise NotFound(
            f"there is no plan {name!r}{did_you_mean(name, plans)}", "list the plans: coord plan list"
        )
    return tuple(dict.fromkeys(todo.repo for todo in ours))


def _of_plan(
    connection: Connection, ecosystem: Ecosystem, name: str, *, base: bool
) -> tuple[Beginning, tuple[str, ...]]:
    repos = _repos_of(ecosystem, name)
    change_set = None if base else ChangeSets(connection.store).read(name)
    if base:
        return AT_BASE, repos
    if change_set is None or not change_set.open:
        raise NotFound(
            f"{name} has no unlanded changes to check", f"make some: coord sweep {name}; or add --base"
        )
    return at_tips(connection.store, change_set), tuple(dict.fromkeys((*change_set.open, *repos)))


def _repos(ecosystem: Ecosystem, options: CheckOptions, involved: Collection[str] | None) -> tuple[str, ...]:
    declared = {repo.name: repo for repo in ecosystem.repos}
    require_known(options.repos, declared, "repo", "repo list")
    chosen = options.repos or (declared if involved is None else involved)
    repos = tuple(name for name in declared if name in chosen)
    if options.repos or involved is not None:
        return repos
    return tuple(name for name in repos if declared[name].qa)


def _of_kinds(kinds: Collection[CheckKind]) -> str:
    return f" of kind {listed(kinds)}" if kinds else ""
