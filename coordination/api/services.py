"""Services of repositories: started, stopped, restarted, shown."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from coordination.api.run import Run
from coordination.environment import actor
from coordination.errors import NotFound
from coordination.models import ServiceStep, Strategy
from coordination.runs.records import SERVICE, RunView
from coordination.runs.submission.submit import Order
from coordination.runs.transactions import start_generated
from coordination.services.graph import Phase, select
from coordination.services.host import ServiceHost, log_lines
from coordination.services.outcome import ServicesOutcome, outcome_of
from coordination.services.transition import Transition, transition
from coordination.services.view import ServiceView, view_of

if TYPE_CHECKING:
    from coordination.api.access import EcosystemAccess

LOG_LINES = 50


class Services:
    """`coord.services`."""

    def __init__(self, access: EcosystemAccess) -> None:
        self._access = access

    def list(self, names: Collection[str] = ()) -> tuple[ServiceView, ...]:
        """Return the declared services in order, with their states on this machine. Raises NotFound."""
        every = self._access.document.ecosystem.coordination.services
        states = self._host.states()
        return tuple(view_of(one, every, states.get(one.name)) for one in select(every, names))

    def start(self, names: Collection[str] = (), phase: Phase | None = None) -> ServicesOutcome:
        """Start these services, or all, with what they depend on, and wait until they are up. Raises
        NotFound.
        """
        return self._through(ServiceStep.START, names, phase)

    def stop(self, names: Collection[str] = ()) -> ServicesOutcome:
        """Stop these services, or all, and before them what depends on them. Raises as `start` does."""
        return self._through(ServiceStep.STOP, names, None)

    def restart(self, names: Collection[str] = (), phase: Phase | None = None) -> ServicesOutcome:
        """Restart these services, or all, and what depends on them. Raises as `start` does."""
        return self._through(ServiceStep.RESTART, names, phase)

    def log(self, name: str, lines: int = LOG_LINES) -> tuple[str, ...]:
        """Return the last lines that a service of this machine wrote. Raises NotFound."""
        select(self._access.document.ecosystem.coordination.services, [name])
        try:
            return tuple(log_lines(self._host, name, lines))
        except FileNotFoundError as error:
            raise NotFound(
                f"{name} has no log on this machine", f"start it: coord service start {name}"
            ) from error

    def prepare(
        self, step: ServiceStep, names: Collection[str] = (), phase: Phase | None = None
    ) -> Transition:
        """Return the run of a transition. Raises NotFound."""
        return transition(self._access.document.ecosystem, step, names, phase)

    def begin(self, prepared: Transition) -> Run:
        """Start the run of a transition, with the worker that it needs. Raises Conflict; NotAllowed."""
        graph, step = prepared.graph, prepared.step
        self._access.authority.check(SERVICE, graph.repos)
        self._access.start_worker(graph.repos)
        order = Order(
            strategy=Strategy.DATAFLOW,
            reason="dataflow, as for all services",
            on_failure=graph.plan.on_failure,
            max_parallel=None,
            actor=actor(),
            operation=SERVICE,
            optional=prepared.optional,
        )
        with self._access.reached() as connection:
            run_id = start_generated(connection, prepared.records, graph, order)
        names = sorted(one.name for one in prepared.members)
        self._access.announce(SERVICE, f"{step} {', '.join(names)}", run=run_id, repos=sorted(graph.repos))
        return Run(self._access, run_id)

    def outcome(self, prepared: Transition, view: RunView) -> ServicesOutcome:
        """Return the outcome of the ended run of a transition."""
        return outcome_of(prepared, view)

    @property
    def _host(self) -> ServiceHost:
        return ServiceHost(self._access.state)

    def _through(self, step: ServiceStep, names: Collection[str], phase: Phase | None) -> ServicesOutcome:
        prepared = self.prepare(step, names, phase)
        return self.outcome(prepared, self.begin(prepared).wait())
