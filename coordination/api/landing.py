"""Landing: change sets into the base branches, and out of them again."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from coordination.api.run import Run
from coordination.errors import Blocked
from coordination.landing.preview import LandingPreview, preview_of
from coordination.landing.rules import LandOptions
from coordination.landing.start import PreparedLanding, prepare_landing, prepare_revert, start
from coordination.models import Method, Via

if TYPE_CHECKING:
    from coordination.api.access import EcosystemAccess


class Landings:
    """`coord.landings`."""

    def __init__(self, access: EcosystemAccess) -> None:
        self._access = access

    def land(
        self,
        plan: str,
        *,
        via: Via | None = None,
        repos: Collection[str] = (),
        method: Method | None = None,
        no_qa: bool = False,
        when_ready: bool = False,
        wave: int | None = None,
    ) -> Run:
        """Land a plan: bring its change set into the base branches of its repositories, in dependency order.

        All repositories are checked first: the base branch, a merge without conflicts, the right to push, and
        the quality checks that they declare, with the changes merged. If one refuses for good after that,
        those that have landed are reverted, unless the plan says `atomic: repo`. Trouble that passes is
        waited for. Nothing is ever forced.

        `no_qa`: without quality checks. `when_ready`: the run waits until the pull requests are ready.
        `wave`: no wave after this one. With the embedded server its worker is started as well.

        Raises Blocked where there is nothing to land; NotFound without a change set; PlanRefused; Conflict.
        """
        options = LandOptions(
            via=via, method=method, repos=tuple(repos), no_qa=no_qa, when_ready=when_ready, wave=wave
        )
        prepared = self.prepare(plan, options)
        if prepared.graph is None:
            raise Blocked(f"all of {plan} has landed", f"see: coord changes {plan}")
        return self.start(self.make_ready(prepared))

    def revert(self, plan: str) -> Run:
        """Revert a landing: take the landed change set out of the base branches again, by one commit in each
        repository.

        The order is that of the landing, backwards; history is never rewritten. Then the change set is open
        as before: a sweep builds on it, and it can land again.

        `plan`: a plan, an item of `coordination.waves`, or the run that landed it.

        Raises NotFound where nothing of it has landed; Conflict.
        """
        return self.start(self.make_ready(self.prepare_revert(plan)))

    def prepare(self, plan: str, options: LandOptions | None = None) -> PreparedLanding:
        """Return the landing that `land` would start. Raises as `land` does."""
        ecosystem = self._access.manager.document.ecosystem
        with self._access.reached() as connection:
            return prepare_landing(connection, ecosystem, plan, options or LandOptions())

    def prepare_revert(self, plan: str) -> PreparedLanding:
        """Return the revert that `revert` would start. Raises as `revert` does."""
        ecosystem = self._access.manager.document.ecosystem
        with self._access.reached() as connection:
            return prepare_revert(connection, ecosystem, plan)

    def preview(self, prepared: PreparedLanding) -> LandingPreview:
        """Show what a landing would do in each repository: base, tip, method, outcome, quality checks, and
        what would refuse it.

        `prepared`: the landing or revert. The checkouts of this machine are read; nothing is started.

        Raises GitRefused.
        """
        document = self._access.document
        places = {repo.name: document.repo_path(repo) for repo in document.ecosystem.repos}
        return preview_of(prepared, places)

    def make_ready(self, prepared: PreparedLanding) -> PreparedLanding:
        """Start the worker that it needs. Raises NotAllowed."""
        self._check(prepared)
        self._access.start_worker(prepared.repos)
        return prepared

    def start(self, prepared: PreparedLanding) -> Run:
        """Start a prepared landing or revert. Raises Conflict; NotAllowed."""
        names = prepared.landing.names
        self._check(prepared)
        with self._access.reached() as connection:
            run_id = start(connection, prepared)
        self._access.announce(prepared.kind, prepared.landing.change_set, run=run_id, repos=sorted(names))
        return Run(self._access, run_id)

    def _check(self, prepared: PreparedLanding) -> None:
        """Raise NotAllowed unless this user may land, and merge where a pull request is merged."""
        authority, repos = self._access.authority, prepared.landing.repos
        authority.check(prepared.kind, prepared.repos)
        if merged := [one.repo for one in repos if one.via is Via.PR]:
            authority.check("merge", merged)
