"""Quality checks, and landings: change sets into the base branches, and out of them again."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from coordination.api import texts
from coordination.api.changes import naming_unrecorded
from coordination.api.parameters import RunId
from coordination.api.run import Run
from coordination.checks.ci import write_junit
from coordination.checks.report import QaReport, read_report
from coordination.checks.start import CheckOptions, PreparedChecks, prepare_checks
from coordination.checks.start import start as start_checks
from coordination.declared import Effect, Option, operation
from coordination.errors import Blocked, NotFound
from coordination.files import is_folder
from coordination.git import head_of
from coordination.landing.preview import LandingPreview, preview_of
from coordination.landing.records import (
    Accepted,
    LandedRepos,
    LandOptions,
    LastWave,
    MergedBy,
    Way,
    WhenReady,
    WithoutChecks,
)
from coordination.landing.start import PreparedLanding, check_completed, prepare_landing, prepare_revert
from coordination.landing.start import start as start_landing
from coordination.models import CheckKind, Via
from coordination.runs.run_kinds import QA
from coordination.runs.views.run_list import CHECKED
from coordination.runs.views.run_view import LAST
from coordination.text import listed, require_known

if TYPE_CHECKING:
    from coordination.api.access import EcosystemAccess


LandedPlan = Annotated[str, Option("A plan's id, or an item of `coordination.waves`.", completes="landable")]


class Landings:
    """`coord.landings`."""

    def __init__(self, access: EcosystemAccess) -> None:
        self._access = access

    @operation(
        "plan.land",
        Effect.EXECUTES,
        right="land",
        event="land",
        for_agents="It changes what everybody works on: call it only if a person told you to. The run is "
        "returned at once; follow it with coord_run_show(run=…, wait_s=60). If those that have landed were "
        "reverted, its status is rolled_back; with rollback_failed something could not be reverted, and a "
        "person must look.",
    )
    def land(
        self,
        plan: LandedPlan,
        *,
        via: Way = None,
        repos: LandedRepos = (),
        method: MergedBy = None,
        wave: LastWave = None,
        accept: Accepted = (),
        no_qa: WithoutChecks = False,
        when_ready: WhenReady = False,
    ) -> Run:
        """Land a plan: bring its change set into the base branches of its repositories.

        They land in dependency order. All of them are checked first: the base branch, a merge without
        conflicts, the right to push, and the quality checks that they declare, with the changes merged. If
        one refuses for good after that, those that have landed are reverted, unless the plan says
        `atomic: repo`. Trouble that passes is waited for. Nothing is ever forced. The commit of each
        completed todo of the plan must be known, and be in the change set or in the base branch: else
        nothing starts.

        Return the run. With the embedded server its worker is started as well.

        Raises Blocked where there is nothing to land; NotFound without a change set; PlanRefused; Conflict;
        NotLanded where the work of a completed todo would be left out.
        """
        options = LandOptions(
            via=via,
            repos=tuple(repos),
            method=method,
            wave=wave,
            accept=tuple(accept),
            no_qa=no_qa,
            when_ready=when_ready,
        )
        prepared = self.prepare(plan, options)
        if prepared.graph is None:
            self.check_completed(prepared)
            raise Blocked(f"all of {plan} has landed", f"see: coord changes {plan}")
        return self.start(self.make_ready(prepared))

    @operation(
        "plan.revert",
        Effect.UNDOES,
        right="land",
        event="revert",
        for_agents="Call it only if a person told you to.",
    )
    def revert(
        self,
        plan: Annotated[
            str,
            Option(
                "A plan's id, an item of `coordination.waves`, or the run that landed it.",
                metavar="PLAN|RUN",
                completes="landable",
            ),
        ],
        *,
        when_ready: Annotated[
            bool,
            Option("Wait until the pull requests are approved and green (default: leave them to people)."),
        ] = False,
    ) -> Run:
        """Revert a landing: take the landed change set out of the base branches again.

        Each repository gets one commit. The order is that of the landing, backwards; history is never
        rewritten. Then the change set is open as before: a sweep builds on it, and it can land again.

        By pull requests it opens those of all repositories at once, and merges them in that order. One that
        people must approve is left to them.

        Raises NotFound where nothing of it has landed; Conflict; PlanRefused.
        """
        return self.start(self.make_ready(self.prepare_revert(plan, when_ready=when_ready)))

    @operation(
        "plan.preview_landing",
        Effect.READS,
        command=False,
        for_agents="Show it to the person who decides before you call coord_plan_land.",
    )
    def preview_landing(self, plan: LandedPlan, options: LandOptions | None = None) -> LandingPreview:
        """Show what a landing would do in each repository. It names base, tip, method, outcome, quality
        checks, and what would refuse it.

        Raises as `land` does; GitRefused.
        """
        return self.preview(self.prepare(plan, options))

    def prepare(self, plan: str, options: LandOptions | None = None, *, repairs: int = 0) -> PreparedLanding:
        """Return the landing that `land` would start. `repairs`: how many repairs of its requests the caller
        lets follow, if its plan allows them. Raises as `land` does.
        """
        ecosystem = self._access.manager.document.ecosystem
        with naming_unrecorded(self._access, plan), self._access.reached() as connection:
            return prepare_landing(connection, ecosystem, plan, options or LandOptions(), repairs)

    def prepare_revert(self, plan: str, *, when_ready: bool = False) -> PreparedLanding:
        """Return the revert that `revert` would start. Raises as `revert` does."""
        ecosystem = self._access.manager.document.ecosystem
        with self._access.reached() as connection:
            return prepare_revert(connection, ecosystem, plan, when_ready=when_ready)

    def preview(self, prepared: PreparedLanding, *, ask: bool = True) -> LandingPreview:
        """Return what a prepared landing or revert would do, as `preview_landing` shows it.

        The checkouts of this machine are read; nothing is started. `ask`:
        fetch the base branches from the remotes, and ask the forges for the pull requests.

        Raises GitRefused.
        """
        document = self._access.document
        repos = {repo.name: repo for repo in document.ecosystem.repos}
        places = {name: document.repo_path(repo) for name, repo in repos.items()}
        landing = prepared.landing
        if not ask or all(one.via is Via.LOCAL for one in landing.repos):
            return preview_of(prepared, places)
        from coordination.changes.requests.access import opened_forges
        from coordination.changes.requests.before_landing import ask_remotes

        with self._access.reached() as connection, opened_forges(connection, self._access.state) as forges:
            return preview_of(prepared, places, ask_remotes(landing, prepared.kind, repos, places, forges))

    def make_ready(self, prepared: PreparedLanding) -> PreparedLanding:
        """Start the worker that it needs. Raises NotAllowed."""
        self._check(prepared)
        self._access.start_worker(prepared.repos)
        return prepared

    def check_completed(self, prepared: PreparedLanding) -> None:
        """Compare the completed todos of the plan with the change set and the base branches. With the
        embedded server its worker is started: it looks into the repositories.

        Raises NotLanded where the work of one would be left out; NotAllowed.
        """
        if not prepared.compared:
            return
        repos = {repo for one in prepared.compared for repo in one.todos.values()}
        self._access.authority.check(prepared.kind, repos)
        if prepared.accepted:
            self._access.authority.check("override", prepared.overridden)
        self._access.start_worker(repos)
        with self._access.reached() as connection:
            check_completed(connection, prepared, self._access.memory.completed_by_hand)
        if prepared.accepted and prepared.graph is None:  # no run records it
            self._announce(prepared)

    def start(self, prepared: PreparedLanding) -> Run:
        """Start a prepared landing or revert. Raises Conflict; NotLanded; NotAllowed."""
        self._check(prepared)
        self.check_completed(prepared)
        with self._access.reached() as connection:
            run_id = start_landing(connection, prepared)
        self._announce(prepared, run_id)
        return Run(self._access, run_id)

    def _announce(self, prepared: PreparedLanding, run: str = "") -> None:
        landing = prepared.landing
        self._access.announce(
            prepared.kind, landing.change_set, run=run, repos=sorted(landing.names), data=prepared.event_data
        )

    def _check(self, prepared: PreparedLanding) -> None:
        """Raise NotAllowed unless this user may land, merge where a pull request is merged, and override
        where a safeguard is skipped.
        """
        authority, repos = self._access.authority, prepared.landing.repos
        authority.check(prepared.kind, prepared.repos)
        if merged := [one.repo for one in repos if one.via is Via.PR]:
            authority.check("merge", merged)
        if prepared.overridden:
            authority.check("override", prepared.overridden)


class QualityChecks:
    """`coord.checks`."""

    def __init__(self, access: EcosystemAccess) -> None:
        self._access = access

    @operation("qa.run", Effect.EXECUTES, right="execute", event="qa", tool=False)
    def run(
        self,
        repos: Annotated[
            Collection[str],
            Option(texts.QA_REPOS, metavar="[REPO]…", completes="repo_names"),
        ] = (),
        *,
        plan: Annotated[str | None, Option(texts.QA_PLAN, completes="plan_ids")] = None,
        run: Annotated[str | None, Option(texts.QA_RUN, completes="run_ids")] = None,
        base: Annotated[bool, Option(texts.QA_BASE)] = False,
        kinds: Annotated[
            Collection[CheckKind], Option("Run only checks of this kind (default: all kinds).", flag="--kind")
        ] = (),
        no_cache: Annotated[bool, Option(texts.QA_NO_CACHE)] = False,
    ) -> Run:
        """Run the quality checks that repositories declare, in dependency order.

        Without a plan or a run they check the base branches. Each check sees the same versions of the
        repositories that it needs, and is skipped where one of them is not green. A green result is used
        again while the files of the repository, and of those that it needs, are the same.

        Return the run. With the embedded server its worker is started as well.

        Raises NotFound; UsageError; PlanRefused where a repository declares no check.
        """
        options = CheckOptions(
            repos=tuple(repos), plan=plan, run=run, base=base, kinds=tuple(kinds), no_cache=no_cache
        )
        return self.start(self.make_ready(self.prepare(options)))

    @operation("qa.ci", Effect.EXECUTES, right="execute", event="qa", tool=False)
    def ci(
        self,
        plan: Annotated[
            str | None, Option("The plan whose repositories are checked.", completes="plan_ids")
        ] = None,
        *,
        repos: Annotated[
            Collection[str],
            Option(
                "Check REPO (default: those of PLAN, else all that have a checkout and checks).",
                flag="--repo",
                completes="repo_names",
            ),
        ] = (),
    ) -> Run:
        """Run quality checks in a CI job: those of the checked-out repositories, at their checked-out
        commits. Without a Redis server of its own, the job uses the embedded one.

        Raises as `run` does; NotFound for a named repository without a checkout, and where none is here.
        """
        return self.start(self.make_ready(self.prepare(self.heads(repos, plan))))

    def heads(self, repos: Collection[str] = (), plan: str | None = None) -> CheckOptions:
        """Return the options that check the commits of this machine's checkouts, as a CI job does: those of
        `repos`, else those of the plan or the file that are here and declare checks.

        Raises NotFound for a named repository without a checkout, and where none is here.
        """
        document = self._access.manager.document
        known = {repo.name: document.repo_path(repo) for repo in document.ecosystem.repos}
        require_known(repos, known, "repo", "repo list")
        found = {name: head_of(path) for name, path in known.items() if path and is_folder(path)}
        heads = {name: head for name, head in found.items() if head}
        if absent := sorted(set(repos) - heads.keys()):
            raise NotFound(
                f"this machine has no checkout of {listed(absent)}", "clone it before `coord qa ci`"
            )
        declared = {repo.name for repo in document.ecosystem.repos if repo.qa}
        if not declared & heads.keys():
            raise NotFound(
                "no repository that declares a check has a checkout here", "see `path` in the file; and `qa`"
            )
        if not repos and plan is None:
            repos = tuple(name for name in heads if name in declared)
        host = self._access.settings.this_host
        return CheckOptions(repos=tuple(repos), plan=plan, heads=heads, host=host)

    @operation("qa.show", Effect.READS, tool=False)
    def report(self, run: RunId = LAST) -> QaReport:
        """Show the quality checks of a run: verdicts, numbers of tests, and failures. The run may be one of a
        plan, and may be live.

        Raises NotFound.
        """
        with self._access.reached() as connection:
            return read_report(connection, connection.reader.resolve(run, CHECKED))

    def write_junit(self, run: str, file: str | Path) -> Path:
        """Write the checks of a run as JUnit XML; return the file. Raises NotFound; UsageError."""
        write_junit(self.report(run), Path(file))
        return Path(file)

    def prepare(self, options: CheckOptions) -> PreparedChecks:
        """Return the run that `run` would start. Raises as `run` does."""
        ecosystem = self._access.manager.document.ecosystem
        with self._access.reached() as connection:
            return prepare_checks(connection, ecosystem, options)

    def make_ready(self, prepared: PreparedChecks) -> PreparedChecks:
        """Start the worker that it needs. Raises NotAllowed."""
        self._access.authority.check(QA, prepared.graph.repos)
        self._access.start_worker(prepared.graph.repos)
        return prepared

    def start(self, prepared: PreparedChecks) -> Run:
        """Start a prepared run. Raises Conflict; NotAllowed."""
        repos = prepared.graph.repos
        self._access.authority.check(QA, repos)
        with self._access.reached() as connection:
            run_id = start_checks(connection, prepared)
        data = vars(prepared.options)
        self._access.announce(QA, prepared.subject, run=run_id, repos=sorted(repos), data=data)
        return Run(self._access, run_id)
