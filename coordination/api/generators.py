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
        """Write a plan with a change, and a check, for each of these repositories into the file; with
        `dry_run` only return it. `run` or `prompt`: the change; a command as a text runs in a shell, as a
        list without one. `check` must change no file; None: the checks that each repository declares, and
        `unchecked` names those without. With the order `deps` the change of a repository waits for the checks
        of those that it depends on. `sweep`: start a run of the plan as well.

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
        """Return the templates of the file, and those that come with coord."""
        return templates_of(self._access.manager.document.ecosystem)

    def template(self, name: str) -> Template:
        """Return a template. Raises NotFound."""
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
        """Write the plan and the todos of a template for these repositories into the file; with `dry_run`
        only return them. `values`: parameter → value. `fields`: replace fields of the plan. `sweep`: start a
        run of the plan as well.

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
