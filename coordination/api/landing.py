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
        """Start the run that lands the plan's change set; `no_qa`: without quality checks; `when_ready`: it
        waits until the pull requests are ready; `wave`: no wave after this one. With the embedded server its
        worker is started as well.

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
        """Start the run that takes what has landed of a plan, of an item of `coordination.waves`, or by the
        run that is named instead, out of the base branches again. Then the change set is open as before it
        landed.

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
        """Return what a prepared landing would do, with what the checkouts of this machine tell. Starts
        nothing. Raises GitRefused.
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
