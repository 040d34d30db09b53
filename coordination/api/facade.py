"""All operations on one ecosystem, for every front end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from coordination.api.access import EcosystemAccess
from coordination.background import opened_once

if TYPE_CHECKING:
    from coordination.api.changes import Changes
    from coordination.api.contexts import Contexts
    from coordination.api.credentials import Credentials
    from coordination.api.exclusion import Breakers, Locks, Resources
    from coordination.api.generators import Commands, Generators, Templates
    from coordination.api.health import HealthOperations
    from coordination.api.landing import Landings, QualityChecks
    from coordination.api.machine import Steps
    from coordination.api.messages import Messages, Topics
    from coordination.api.planning import Planner
    from coordination.api.proposals import Proposals
    from coordination.api.records import (
        Dependencies,
        IssueRecords,
        LiveView,
        PlanRecords,
        Repositories,
        TodoRecords,
    )
    from coordination.api.requests import Issues, PullRequests
    from coordination.api.runs import Runs
    from coordination.api.services import Services
    from coordination.api.trust import TrustAdministration
    from coordination.ecosystem.document import Document
    from coordination.tracker.manager import CoordinationManager


class Facade(EcosystemAccess):
    """`runs` starts, finds and steers runs, `manager` edits the file, `planner` forecasts, `live` reads the
    present state of runs.

    Locks, messages, breakers and shared values are those of `connection`. Scripts use what this class and
    `Coord` name, which the library reference lists; the other names of EcosystemAccess are for the parts and
    the front ends.
    """

    path = EcosystemAccess.path
    has_file = EcosystemAccess.has_file
    settings = EcosystemAccess.settings
    ecosystem_id = EcosystemAccess.ecosystem_id
    memory = EcosystemAccess.memory
    events = EcosystemAccess.events
    close = EcosystemAccess.close

    def _manage(self, document: Document) -> CoordinationManager:
        manager = super()._manage(document)
        manager.discard = lambda name: self.changes.discard(name)  # its import takes time
        return manager

    @opened_once
    def runs(self) -> Runs:
        """Return the runs: started, found, decided about, imported, cleaned up."""
        from coordination.api.runs import Runs

        return Runs(self)

    @opened_once
    def changes(self) -> Changes:
        """Return the change sets: shown, compared, adopted, discarded."""
        from coordination.api.changes import Changes

        return Changes(self)

    @opened_once
    def checks(self) -> QualityChecks:
        """Return the quality checks of the repositories."""
        from coordination.api.landing import QualityChecks

        return QualityChecks(self)

    @opened_once
    def context(self) -> Contexts:
        """Return the values that todos share: `coord.context(run="last").get("version")`."""
        from coordination.api.contexts import Contexts

        return Contexts(self)

    @opened_once
    def health(self) -> HealthOperations:
        """Return the health of all: `coord.health()`, `coord.health("api")`."""
        from coordination.api.health import HealthOperations

        return HealthOperations(self)

    @opened_once
    def lock(self) -> Locks:
        """Return the locks as people steer them: listed, released by force."""
        from coordination.api.exclusion import Locks

        return Locks(self)

    @opened_once
    def resource(self) -> Resources:
        """Return the resources of the file, with their use."""
        from coordination.api.exclusion import Resources

        return Resources(self)

    @opened_once
    def breaker(self) -> Breakers:
        """Return the circuit breakers as people steer them."""
        from coordination.api.exclusion import Breakers

        return Breakers(self)

    @opened_once
    def message(self) -> Messages:
        """Return messages as people use them."""
        from coordination.api.messages import Messages

        return Messages(self)

    @opened_once
    def topic(self) -> Topics:
        """Return topics as people use them."""
        from coordination.api.messages import Topics

        return Topics(self)

    @opened_once
    def services(self) -> Services:
        """Return the services of repositories: start, stop, states."""
        from coordination.api.services import Services

        return Services(self)

    @opened_once
    def landings(self) -> Landings:
        """Return the landing of change sets, and its revert."""
        from coordination.api.landing import Landings

        return Landings(self)

    @opened_once
    def issues(self) -> Issues:
        """Return the issues of the file at the forges of their repositories."""
        from coordination.api.requests import Issues

        return Issues(self)

    @opened_once
    def pr(self) -> PullRequests:
        """Return the pull requests of change sets."""
        from coordination.api.requests import PullRequests

        return PullRequests(self)

    @opened_once
    def generators(self) -> Generators:
        """Return the generators of plans: campaigns."""
        from coordination.api.generators import Generators

        return Generators(self)

    @opened_once
    def proposals(self) -> Proposals:
        """Return the plans that agents propose."""
        from coordination.api.proposals import Proposals

        return Proposals(self)

    @opened_once
    def template(self) -> Templates:
        """Return the templates of plans."""
        from coordination.api.generators import Templates

        return Templates(self)

    @opened_once
    def commands(self) -> Commands:
        """Return commands in many repositories: `exec`."""
        from coordination.api.generators import Commands

        return Commands(self)

    @opened_once
    def planner(self) -> Planner:
        """Return the planner: order and duration of a plan before it runs."""
        from coordination.api.planning import Planner

        return Planner(self)

    @opened_once
    def repo(self) -> Repositories:
        """Return the repositories, with their state."""
        from coordination.api.records import Repositories

        return Repositories(self)

    @opened_once
    def issue(self) -> IssueRecords:
        """Return the issues of the file."""
        from coordination.api.records import IssueRecords

        return IssueRecords(self)

    @opened_once
    def todo(self) -> TodoRecords:
        """Return the todos."""
        from coordination.api.records import TodoRecords

        return TodoRecords(self)

    @opened_once
    def plan(self) -> PlanRecords:
        """Return the plans."""
        from coordination.api.records import PlanRecords

        return PlanRecords(self)

    @opened_once
    def dep(self) -> Dependencies:
        """Return the dependencies between repositories."""
        from coordination.api.records import Dependencies

        return Dependencies(self)

    @opened_once
    def live(self) -> LiveView:
        """Return the present state of runs, as far as Redis answers at once."""
        from coordination.api.records import LiveView

        return LiveView(self)

    @opened_once
    def credentials(self) -> Credentials:
        """Return the credentials of this machine."""
        from coordination.api.credentials import Credentials

        return Credentials(self)

    @opened_once
    def steps(self) -> Steps:
        """Return the steps of coord in a Redis server."""
        from coordination.api.machine import Steps

        return Steps(self)

    @opened_once
    def trust(self) -> TrustAdministration:
        """Return the identity of this user and the trust file of this machine; they need no ecosystem."""
        from coordination.api.trust import TrustAdministration

        return TrustAdministration(self)

    def clear_cache(self) -> int:
        """Delete the cached results of todos and the shared values, except those that todos of live runs see;
        return the number of deleted entries.
        """
        from coordination.runs.run_contexts import clear_cache

        self.authority.check("clear_cache")
        with self.reached() as connection:
            cleared = clear_cache(connection.cache, connection.store)
        self.announce("clear_cache")
        return cleared

    def clear_checkpoints(self, run: str | None = None) -> int:
        """Delete the named checkpoints of a run (or `last`), and the output that its unfinished todos kept
        for a retry; without a run those of all ended runs. Return their number. Raises NotFound; Conflict for
        a live run.
        """
        from coordination.runs.control import named_checkpoints
        from coordination.runs.views.run_list import OF_TODOS

        self.authority.check("clear_checkpoints")
        with self.reached() as connection:
            if run is None:
                cleared, named = named_checkpoints.clear_all(connection.store), ""
            else:
                named = connection.reader.resolve(run, OF_TODOS)
                cleared = named_checkpoints.clear(connection.store, named)
        self.announce("clear_checkpoints", named, run=named)
        return cleared
