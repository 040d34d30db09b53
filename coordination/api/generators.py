"""Many repositories at once: plans generated for them, and one command executed in each."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any

from coordination.api import texts
from coordination.api.parameters import AllRepos, PreviewPlan, SomeRepos, SweepIt, WithRoles, WithTags
from coordination.api.planning import DecidedSweep, Sweep, SweepOptions
from coordination.api.run import Run
from coordination.api.runs import Runs
from coordination.declared import Effect, Option, operation
from coordination.errors import Unreachable, UsageError
from coordination.frozen import FrozenModel
from coordination.models import OnFailure, Template
from coordination.models.templates import RepoOrder
from coordination.planner.generated import command_graph, command_of
from coordination.planner.selection import Selectors
from coordination.runs.records import TodoState
from coordination.text import listed
from coordination.tracker.records import GeneratedPlan
from coordination.tracker.templates import campaign_template, find_template, templates_of

if TYPE_CHECKING:
    from coordination.api.access import EcosystemAccess
    from coordination.runs.views.records import RunView


PREVIEW_FIRST = "Call it with dry_run first. Run the plan with coord_run_sweep."
TemplateName = Annotated[str, Option("A template's name.")]
NOTES = "[coord] "
"""Prefix of a line that coord itself writes into a log."""
_LETTERS = "abcdefghjkmnpqrstuvwxyz23456789"


def new_name() -> str:
    """Return a name that makes the ids of a generated run unique."""
    return "".join(secrets.choice(_LETTERS) for _ in range(4))


class RepoOutput(FrozenModel):
    """The result of the command in one repository."""

    repo: str
    todo: str
    state: TodoState
    exit_code: int | None = None
    error: str | None = None
    """Reason why it failed, or did not run."""
    duration_s: float | None = None
    host: str = ""
    output: str = ""
    """All that it wrote to standard output and standard error; of a long output head and tail."""


class Commands:
    """`coord.commands`."""

    def __init__(self, access: EcosystemAccess) -> None:
        self._access = access

    @operation("repo.exec", Effect.EXECUTES, right="execute", event="execute", tool=False)
    def exec(
        self,
        command: Annotated[
            str | Sequence[str],
            Option(
                "Several words run without a shell, one alone runs in sh: -- 'git log | head'.",
                metavar="-- COMMAND…",
            ),
        ],
        *,
        repos: SomeRepos = (),
        tags: WithTags = (),
        roles: WithRoles = (),
        all_repos: AllRepos = False,
        jobs: Annotated[int | None, Option(texts.JOBS, metavar="N", least=1)] = None,
        timeout: Annotated[
            timedelta | None,
            Option(
                "Stop the command in a repository after TIME: 90s, 10m, 2h (default: as for todos).",
                metavar="TIME",
                least=1,
            ),
        ] = None,
    ) -> Run:
        """Run one command in many repositories.

        It runs on the machines where the repositories are, in a worktree at the base branch, and is tried
        once. It fails where it leaves a changed file: a campaign makes changes. Nothing is written into the
        file.

        `command`: a text runs in a shell, a list without one. `jobs`: how many repositories at once.
        `timeout`: the limit in each repository.

        Raises UsageError; NotFound where no repository matches; Unreachable where a repository has no worker.
        """
        prepared = self.prepare(
            command, Selectors(repos=repos, tags=tags, roles=roles), all_repos=all_repos, jobs=jobs,
            timeout=timeout,
        )  # fmt: skip
        return self.start(self.make_ready(prepared))

    def prepare(
        self,
        command: str | Sequence[str],
        wanted: Selectors,
        *,
        all_repos: bool = False,
        jobs: int | None = None,
        timeout: timedelta | None = None,
    ) -> Sweep:
        """Return the run that `exec` would start."""
        access = self._access
        words = [command] if isinstance(command, str) else list(command)
        ecosystem = access.manager.document.ecosystem
        chosen = wanted.select_repos(ecosystem, everywhere=all_repos)
        records, graph = command_graph(ecosystem, chosen, command_of(words), new_name(), timeout=timeout)
        options = SweepOptions(max_parallel=jobs)
        return Sweep(graph=graph, options=options, operation="execute", no_change_set=True, records=records)

    def make_ready(self, prepared: Sweep) -> DecidedSweep:
        """Start the worker that it needs. Raises Unreachable where a repository has no worker: the run would
        wait for it for ever.
        """
        ready = Runs(self._access).make_ready(prepared)
        if not self._access.settings.redis_url:
            return ready
        with self._access.reached() as connection:
            unserved = connection.registry.unserved(ready.graph.repos)
        if unserved:
            first = next(iter(unserved))
            raise Unreachable(
                f"nothing was started: no worker can work on {listed(list(unserved))}, which lacks "
                f"{unserved[first]}",
                f"start one: coord worker --repo {first}=PATH on its host; or select other repositories",
            )
        return ready

    def start(self, ready: DecidedSweep) -> Run:
        """Start a prepared run. Raises NotAllowed."""
        return Runs(self._access).start(ready)

    def outputs(self, run: Run, view: RunView) -> tuple[RepoOutput, ...]:
        """Return what the command wrote in each repository, in the order of the run."""
        return tuple(
            RepoOutput(
                repo=todo.repo,
                todo=todo.id,
                state=todo.state,
                exit_code=todo.exit_code,
                error=todo.error,
                duration_s=todo.duration_s,
                host=todo.host,
                output=_own(run.log(todo.id)) if todo.started_at else "",
            )
            for todo in view.todos
        )


def _own(pieces: Iterable[str]) -> str:
    """Return a log without the lines of coord; a note of coord may continue in lines that begin with two
    blanks.
    """
    found, ours = [], False
    for line in "".join(pieces).splitlines(keepends=True):
        ours = line.startswith(NOTES) or (ours and line.startswith("  "))
        if not ours:
            found.append(line)
    return "".join(found)


class Templates:
    """`coord.template`."""

    def __init__(self, access: EcosystemAccess) -> None:
        self._access = access

    @operation("template.list", Effect.READS)
    def list(self) -> tuple[Template, ...]:
        """List the templates of plans: those of the file, and those that come with coord."""
        return templates_of(self._access.manager.document.ecosystem)

    @operation("template.show", Effect.READS, tool=False)
    def show(self, template: TemplateName) -> Template:
        """Show a template of plans.

        Raises NotFound.
        """
        return find_template(self._access.manager.document.ecosystem, template)


class Generators:
    """`coord.generators`."""

    def __init__(self, access: EcosystemAccess) -> None:
        self._access = access

    @operation("plan.campaign", Effect.ADDS, right="edit", for_agents=PREVIEW_FIRST)
    def campaign(
        self,
        title: Annotated[str, Option("The title of the plan.")],
        *,
        repos: SomeRepos = (),
        tags: WithTags = (),
        roles: WithRoles = (),
        all_repos: AllRepos = False,
        run: Annotated[
            str | Sequence[str] | None,
            Option("Change each repository by this command for sh.", single=True, metavar="COMMAND"),
        ] = None,
        prompt: Annotated[
            str | None, Option("Change each repository by an agent with this prompt.", metavar="TEXT")
        ] = None,
        check: Annotated[
            str | Sequence[str] | None,
            Option(
                "Check each change by this command for sh, which must change no file (default: the declared "
                "`qa`).",
                single=True,
                metavar="COMMAND",
            ),
        ] = None,
        order: Annotated[
            RepoOrder, Option("Order of the repositories (default: deps, as they depend on each other).")
        ] = RepoOrder.DEPS,
        on_failure: Annotated[OnFailure, Option("Default: continue.")] = OnFailure.CONTINUE,
        sweep: SweepIt = False,
        dry_run: PreviewPlan = False,
    ) -> GeneratedPlan:
        """Create a plan that changes and checks many repositories.

        Its todos are PLAN-change-REPO and PLAN-check-REPO. The change of a repository waits for the checks of
        the repositories that it depends on. A check must change no file. Commands get the variables repo,
        plan and title where they name them. Selectors of one kind are a union, different kinds intersect.

        `run` or `prompt`: the change; a command as a text runs in a shell, as a list without one. `check`:
        the check; None: the checks that each repository declares, and `unchecked` names those without.
        `order`: with `deps`, a change waits as described. `sweep`: start a run of the plan as well.
        `dry_run`: only return the plan.

        Raises UsageError; NotFound where no repository matches; PlanRefused for dependencies in a circle;
        Conflict where an open plan has the title.
        """
        if not title.strip():
            raise UsageError(
                "a campaign without a title", 'add one: coord campaign "Raise the minimum Python"'
            )
        template = campaign_template(run=run, prompt=prompt, check=check, order=order, on_failure=on_failure)
        wanted = Selectors(repos=repos, tags=tags, roles=roles)
        made = self._access.manager.generate_plan(
            template, {"title": title}, wanted, all_repos=all_repos, write=not dry_run
        )
        return self._swept(made) if sweep and made.written else made

    @operation(
        "plan.create_from_template",
        Effect.ADDS,
        right="edit",
        command=False,
        for_agents=PREVIEW_FIRST,
    )
    def create_plan_from_template(
        self,
        template: TemplateName,
        values: Annotated[dict[str, Any] | None, Option("Parameter of the template: its value.")] = None,
        *,
        repos: SomeRepos = (),
        tags: WithTags = (),
        roles: WithRoles = (),
        all_repos: AllRepos = False,
        title: Annotated[str | None, Option("Replaces the title of the template.")] = None,
        fields: Mapping[str, Any] = MappingProxyType({}),
        sweep: SweepIt = False,
        dry_run: PreviewPlan = False,
    ) -> GeneratedPlan:
        """Create a plan and its todos from a template, for the selected repositories.

        `values`: parameter → value. `fields`: replace fields of the plan. `sweep`: start a run of the plan as
        well. `dry_run`: only return the plan and the todos.

        Raises NotFound for an unknown template and where no repository matches; UsageError for wrong or
        missing values; PlanRefused for dependencies in a circle; Conflict where an open plan has the title.
        """
        found = find_template(self._access.manager.document.ecosystem, template)
        fields = {"title": title, **fields} if title else fields
        wanted = Selectors(repos=repos, tags=tags, roles=roles)
        made = self._access.manager.generate_plan(
            found, values or {}, wanted, all_repos=all_repos, fields=fields, write=not dry_run
        )
        return self._swept(made) if sweep and made.written else made

    def _swept(self, made: GeneratedPlan) -> GeneratedPlan:
        return made.model_copy(update={"run_id": Runs(self._access).sweep(made.plan.id).id})
