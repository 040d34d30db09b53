"""Generators: plans and their todos, made for many repositories at once."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from coordination.errors import UsageError
from coordination.models import OnFailure, Template
from coordination.models.templates import RepoOrder
from coordination.planner.selection import Selectors
from coordination.tracker.records import GeneratedPlan
from coordination.tracker.templates import campaign_template, find_template, templates_of

if TYPE_CHECKING:
    from coordination.api.access import EcosystemAccess


class Generators:
    """`coord.generators`."""

    def __init__(self, access: EcosystemAccess) -> None:
        self._access = access

    def campaign(
        self,
        title: str,
        *,
        repos: Collection[str] = (),
        tags: Collection[str] = (),
        roles: Collection[str] = (),
        all_repos: bool = False,
        run: str | Sequence[str] | None = None,
        prompt: str | None = None,
        check: str | Sequence[str] | None = None,
        order: RepoOrder = RepoOrder.DEPS,
        on_failure: OnFailure = OnFailure.CONTINUE,
        sweep: bool = False,
        dry_run: bool = False,
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

    def templates(self) -> tuple[Template, ...]:
        """List the templates of plans: those of the file, and those that come with coord."""
        return templates_of(self._access.manager.document.ecosystem)

    def template(self, name: str) -> Template:
        """Show a template of plans.

        Raises NotFound.
        """
        return find_template(self._access.manager.document.ecosystem, name)

    def create_plan_from_template(
        self,
        template: str,
        values: Mapping[str, object] = MappingProxyType({}),
        *,
        repos: Collection[str] = (),
        tags: Collection[str] = (),
        roles: Collection[str] = (),
        all_repos: bool = False,
        fields: Mapping[str, Any] = MappingProxyType({}),
        sweep: bool = False,
        dry_run: bool = False,
    ) -> GeneratedPlan:
        """Create a plan and its todos from a template, for the selected repositories.

        `values`: parameter → value. `fields`: replace fields of the plan. `sweep`: start a run of the plan as
        well. `dry_run`: only return the plan and the todos.

        Raises NotFound for an unknown template and where no repository matches; UsageError for wrong or
        missing values; PlanRefused for dependencies in a circle; Conflict where an open plan has the title.
        """
        found = self.template(template)
        wanted = Selectors(repos=repos, tags=tags, roles=roles)
        made = self._access.manager.generate_plan(
            found, values, wanted, all_repos=all_repos, fields=fields, write=not dry_run
        )
        return self._swept(made) if sweep and made.written else made

    def _swept(self, made: GeneratedPlan) -> GeneratedPlan:
        from coordination.api.runs import Runs

        return made.model_copy(update={"run_id": Runs(self._access).sweep(made.plan.id).id})
