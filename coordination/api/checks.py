"""Quality checks: run, and their results."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from coordination.api.run import Run
from coordination.checks.ci import write_junit
from coordination.checks.report import QaReport, read_report
from coordination.checks.start import CheckOptions, PreparedChecks, prepare_checks, start
from coordination.errors import NotFound
from coordination.git import head_of
from coordination.models import CheckKind
from coordination.runs.run_kinds import QA
from coordination.runs.views.run_view import LAST
from coordination.text import listed, require_known

if TYPE_CHECKING:
    from coordination.api.access import EcosystemAccess


class QualityChecks:
    """`coord.checks`."""

    def __init__(self, access: EcosystemAccess) -> None:
        self._access = access

    def run(
        self,
        repos: Collection[str] = (),
        *,
        plan: str | None = None,
        run: str | None = None,
        base: bool = False,
        kinds: Collection[CheckKind] = (),
        no_cache: bool = False,
    ) -> Run:
        """Run the quality checks that repositories declare, in dependency order.

        Without a plan or a run they check the base branches. Each check sees the same versions of the
        repositories that it needs, and is skipped where one of them is not green. A green result is used
        again while the files of the repository, and of those that it needs, are the same.

        `repos`: only these. `plan`: check its change set. `run`: check its commits. `base`: check the base
        branches of the repositories of the plan or run. With the embedded server its worker is started as
        well.

        Raises NotFound; UsageError; PlanRefused where a repository declares no check.
        """
        options = CheckOptions(
            repos=tuple(repos), plan=plan, run=run, base=base, kinds=tuple(kinds), no_cache=no_cache
        )
        return self.start(self.make_ready(self.prepare(options)))

    def heads(self, repos: Collection[str] = (), plan: str | None = None) -> CheckOptions:
        """Return the options that check the commits of this machine's checkouts, as a CI job does: those of
        `repos`, else those of the plan or the file that are here and declare checks.

        Raises NotFound for a named repository without a checkout, and where none is here.
        """
        document = self._access.manager.document
        known = {repo.name: document.repo_path(repo) for repo in document.ecosystem.repos}
        require_known(repos, known, "repo", "list-repos")
        found = {name: head_of(path) for name, path in known.items() if path and path.is_dir()}
        heads = {name: head for name, head in found.items() if head}
        if absent := sorted(set(repos) - heads.keys()):
            raise NotFound(f"this machine has no checkout of {listed(absent)}", "clone it before `coord ci`")
        declared = {repo.name for repo in document.ecosystem.repos if repo.qa}
        if not declared & heads.keys():
            raise NotFound(
                "no repository that declares a check has a checkout here", "see `path` in the file; and `qa`"
            )
        if not repos and plan is None:
            repos = tuple(name for name in heads if name in declared)
        host = self._access.settings.this_host
        return CheckOptions(repos=tuple(repos), plan=plan, heads=heads, host=host)

    def report(self, run: str = LAST) -> QaReport:
        """Show the quality checks of a run: verdicts, numbers of tests, and failures. The run may be one of a
        plan, and may go on.

        Raises NotFound.
        """
        with self._access.reached() as connection:
            return read_report(connection, connection.reader.resolve(run))

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
            run_id = start(connection, prepared)
        self._access.announce(QA, prepared.subject, run=run_id, repos=sorted(repos))
        return Run(self._access, run_id)
