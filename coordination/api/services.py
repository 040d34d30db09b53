"""Services of repositories: started, stopped, restarted, shown."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Annotated

from coordination.api import texts
from coordination.api.health import end_recoveries
from coordination.api.run import Run
from coordination.declared import Effect, Option, operation
from coordination.errors import Conflict, NotFound, Unreachable
from coordination.models import Service, ServiceStep
from coordination.runs.control.starting import start_generated
from coordination.runs.run_kinds import SERVICE
from coordination.runs.submission.order import order_of_generated
from coordination.runs.submission.submit import NO_HOSTS
from coordination.runs.views.records import RunView
from coordination.services.graph import Phase, select
from coordination.services.host import ServiceHost, log_lines
from coordination.services.transition import (
    ServicesOutcome,
    Transition,
    log_transition,
    outcome_of,
    transition,
)
from coordination.services.view import (
    PublishedService,
    ServiceView,
    forget,
    on_all_hosts,
    published,
    undeclared_views,
    views_of,
)

if TYPE_CHECKING:
    from coordination.api.access import EcosystemAccess

LOG_LINES = 50

Names = Annotated[Collection[str], Option(texts.SERVICES, metavar="[NAME]…", completes="service_names")]
OfPhase = Annotated[Phase | None, Option(texts.PHASE, metavar="PHASE")]
Name = Annotated[str, Option("The name of a service.", completes="service_names")]


class Services:
    """`coord.services`."""

    def __init__(self, access: EcosystemAccess) -> None:
        self._access = access

    @operation("service.list", Effect.READS)
    def list(self, names: Names = ()) -> tuple[ServiceView, ...]:
        """List the services with their states on all hosts, in the order of a start.

        A state of a host whose worker is away is `unreachable`; the last look shows its former state and the
        time. Services that are up and that the file does not declare come last.

        Raises NotFound.
        """
        every, states = self._declared, self._states()
        others = [one for one in undeclared_views(every, states) if not names or one.name in names]
        declared = [name for name in names if name not in {one.name for one in others}]
        found = select(every, declared) if declared or not names else ()
        return (*views_of(found, every, states), *others)

    @operation("service.show", Effect.READS)
    def show(self, name: Name) -> tuple[ServiceView, ...]:
        """Show a service: its state, its process, and the last look at it.

        Return a view for each host that has the service.

        Raises NotFound.
        """
        return tuple(self.list([name]))

    @operation("service.start", Effect.EXECUTES, right="execute", event="service", tool=False)
    def start(self, names: Names = (), *, phase: OfPhase = None) -> ServicesOutcome:
        """Start services with the services that they depend on, and wait until their probes pass.

        First the core: required services and those that they depend on. If one of them fails, the started
        ones are stopped. Then the others, then the checks of the file. A service that is up stays as it is.

        Raises NotFound.
        """
        return self._through(ServiceStep.START, names, phase)

    @operation("service.stop", Effect.EXECUTES, right="execute", event="service", tool=False)
    def stop(self, names: Names = ()) -> ServicesOutcome:
        """Stop services, and before them the services that depend on them. Services that are up and that the
        file no longer declares are among them.

        Raises as `start` does.
        """
        return self._through(ServiceStep.STOP, names, None)

    @operation("service.restart", Effect.EXECUTES, right="execute", event="service", tool=False)
    def restart(self, names: Names = (), *, phase: OfPhase = None) -> ServicesOutcome:
        """Restart services, and the services that depend on them.

        Raises as `start` does.
        """
        return self._through(ServiceStep.RESTART, names, phase)

    @operation("service.logs", Effect.READS)
    def log(
        self,
        name: Name,
        *,
        lines: Annotated[
            int, Option(f"Read this many last lines (default: {LOG_LINES}).", least=1)
        ] = LOG_LINES,
    ) -> tuple[str, ...]:
        """Read the last lines that a service wrote, to standard output and standard error. From another host,
        a run of one todo brings the lines: at most 32 KB.

        Raises NotFound.
        """
        (view, *_) = self.list([name])
        if view.host in ("", self._here):
            try:
                return tuple(log_lines(self._host, name, lines))
            except FileNotFoundError as error:
                raise NotFound(
                    f"{name} has no log on this machine", f"start it: coord service start {name}"
                ) from error
        asked = log_transition(self._access.document.ecosystem, name, view.repo, lines)
        (todo,) = self.begin(asked, hosts={view.repo: view.host}).wait().todos
        if not isinstance(todo.output, dict):
            raise Unreachable(
                f"host {view.host} does not tell the log of {name}: {todo.error or todo.state}",
                f"call it there: coord service logs {name}",
            )
        return tuple(map(str, todo.output["lines"]))

    @operation("service.forget", Effect.CHANGES, right="release-lock", event="forget_service")
    def forget(
        self, names: Names = (), *, host: Annotated[str, Option("Name the host that is gone.")]
    ) -> tuple[str, ...]:
        """Delete the states of services of a host that is gone.

        They are not listed as unreachable any more, can start on another host, and are recovered nowhere. It
        is refused while a worker of the host lives. A service that still runs there is not stopped.

        Raises Conflict while a worker of the host lives; NotFound, NotAllowed.
        """
        if host == self._here:
            raise Conflict(f"host {host} is this machine", "stop its services: coord service stop")
        declared = {one.repo for one in self._declared if not names or one.name in names}
        self._access.authority.check("forget_service", declared)
        with self._access.answering() as connection:
            known = [one.status for one in published(connection.registry) if one.host == host]
            repos = sorted({one.repo for one in known if not names or one.name in names})
            self._access.authority.check("forget_service", repos)
            gone = forget(connection.registry, host, names)
        found = tuple(sorted(one.status.name for one in gone))
        self._access.announce("forget_service", ", ".join(found), repos=repos, data={"host": host})
        return found

    def stop_here(self) -> tuple[str, ...]:
        """Stop the services of this machine in reverse order, without a run; return their names."""
        return self._host.stop_all()

    def reserve_workers(self) -> AbstractContextManager[None]:
        """Let the workers of this machine execute only todos of services during the block."""
        return self._host.reserve_workers()

    def prepare(
        self, step: ServiceStep, names: Collection[str] = (), phase: Phase | None = None
    ) -> Transition:
        """Return the run of a transition. A stop includes services that the file no longer declares. Raises
        NotFound.
        """
        every, undeclared = self._declared, {}
        if step is ServiceStep.STOP:
            undeclared = {one.name: one.repo for one in undeclared_views(every, self._states())}
        return transition(self._access.document.ecosystem, step, names, phase, undeclared)

    def begin(self, prepared: Transition, hosts: Mapping[str, str] = NO_HOSTS) -> Run:
        """Start the run of a transition, with the worker that it needs. `hosts`: repository → the only host
        that may execute it, in addition to the hosts where its services are up. Raises Conflict; NotAllowed.
        """
        graph, step = prepared.graph, prepared.step
        self._access.authority.check(SERVICE, graph.repos)
        self._access.start_worker(graph.repos)
        order = order_of_generated(graph.plan, SERVICE, optional=prepared.optional)
        with self._access.reached() as connection:
            if step is ServiceStep.STOP:
                end_recoveries(connection, {one.name for one in prepared.members})
            run_id = start_generated(
                connection, prepared.records, graph, order,
                alone=step is not ServiceStep.LOGS, hosts={**self._hosts(), **hosts},
            )  # fmt: skip
        names = sorted(one.name for one in prepared.members)
        self._access.announce(SERVICE, f"{step} {', '.join(names)}", run=run_id, repos=sorted(graph.repos))
        return Run(self._access, run_id)

    def outcome(self, prepared: Transition, view: RunView) -> ServicesOutcome:
        """Return the outcome of the ended run of a transition."""
        warnings = [
            f"{one.name} of {one.repo} is up on host {one.host}, and the file does not declare it; stop it: "
            f"coord service stop {one.name}"
            for one in undeclared_views(self._declared, self._states())
            if prepared.step is ServiceStep.START
        ]
        return outcome_of(prepared, view, warnings)

    @property
    def _declared(self) -> tuple[Service, ...]:
        return self._access.document.ecosystem.coordination.services

    @property
    def _host(self) -> ServiceHost:
        return ServiceHost(self._access.state)

    @property
    def _here(self) -> str:
        return self._access.settings.this_host

    def _states(self) -> Mapping[str, tuple[PublishedService, ...]]:
        """Return service → its states on all hosts; on this machine alone where no Redis runs."""
        others: tuple[PublishedService, ...] = ()
        if self._access.may_have_runs():
            with self._access.answering() as connection:
                others = tuple(published(connection.registry))
        return on_all_hosts(self._here, self._host.states(), others)

    def _hosts(self) -> Mapping[str, str]:
        """Return repository → the host where its services are up: a second one must not start them again."""
        up = [one for known in self._states().values() for one in known if one.is_up]
        return {one.status.repo: one.host for one in up}

    def _through(self, step: ServiceStep, names: Collection[str], phase: Phase | None) -> ServicesOutcome:
        prepared = self.prepare(step, names, phase)
        return self.outcome(prepared, self.begin(prepared).wait())
