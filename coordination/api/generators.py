"""Generators: plans and their todos, made for many repositories at once."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from coordination.errors import UsageError
from coordination.models import OnFailure
from coordination.models.templates import RepoOrder
from coordination.planner.selection import Selectors
from coordination.tracker.generate.campaign import campaign_template
from coordination.tracker.records import GeneratedPlan

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
        list without one. `check` must change no file. With the order `deps` the change of a repository waits
        for the checks of those that it depends on. `sweep`: start a run of the plan as well.

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

    def _swept(self, made: GeneratedPlan) -> GeneratedPlan:
        from coordination.api.runs import Runs

        return made.model_copy(update={"run_id": Runs(self._access).sweep(made.plan.id).id})
