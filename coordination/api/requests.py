"""Pull requests of change sets, and issues of the file, at the forges of their repositories."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Annotated

from coordination.api.changes import naming_unrecorded, refuse_unrecorded
from coordination.api.parameters import DryRun, PlanId, PlanOfChangeSet
from coordination.api.planning import Sweep, SweepOptions
from coordination.api.runs import Runs
from coordination.changes.issues.rules import (
    Home,
    IssueAction,
    IssueResult,
    IssueSyncOptions,
    IssueSyncReport,
    homes_of,
)
from coordination.changes.issues.sync import RepoIssues
from coordination.changes.requests.access import ForgeAccess, inspect_all, opened_forges
from coordination.changes.requests.create import RequestMaker, previewed
from coordination.changes.requests.existing import close_request, read_requests, with_requests
from coordination.changes.requests.proposal import PlannedRequests, decide_requests
from coordination.changes.requests.records import RequestOptions, RequestResult, RequestView
from coordination.changes.requests.repair import (
    Lacks,
    RepairAction,
    RepairResult,
    answer,
    find_lacks,
    prompt_of,
)
from coordination.declared import Confirm, Effect, Option, agreed, operation
from coordination.environment import actor
from coordination.errors import (
    Conflict,
    CoordinationError,
    ExitCode,
    LockTimeout,
    NotAllowed,
    NotFound,
    PlanRefused,
)
from coordination.forges.models import RequestState
from coordination.locks.request import ISSUES
from coordination.models import AgentAction
from coordination.planner.checks import repair_todo
from coordination.planner.generated import repair_graph
from coordination.planner.selection import find_plan
from coordination.runs.attempt_store import LONGEST_TITLE
from coordination.runs.change_sets.records import ChangeSet
from coordination.runs.change_sets.store import ChangeSets
from coordination.runs.records import TodoSpec, TodoState
from coordination.runs.submission.order import refuse_impossible
from coordination.runs.views.costs import agents_of
from coordination.text import counted
from coordination.trust.results import check_set_tip

if TYPE_CHECKING:
    from coordination.api.access import EcosystemAccess
    from coordination.api.run import Run
    from coordination.models import Ecosystem, Repo
    from coordination.planner.graph import PlanGraph
    from coordination.runs.change_sets.records import RepoChange, RequestRef
    from coordination.runs.connection import Connection
    from coordination.runs.views.records import RunView, TodoView


@dataclass(frozen=True, kw_only=True)
class PreparedFix:
    """The failed checks and open threads of a plan's pull requests, and the run that would repair it."""

    plan: str
    lacks: tuple[Lacks, ...]
    prompts: Mapping[str, str]
    """Repository → the prompt of its agent; without those where nothing is to be repaired."""
    records: Ecosystem | None
    graph: PlanGraph | None
    """None where no repository has a prompt."""

    @property
    def results(self) -> tuple[RepairResult, ...]:
        """Return the results without a repair."""
        return tuple(
            one.result(
                self.plan,
                RepairAction.WOULD_REPAIR if one.is_reparable or one.is_repaired else RepairAction.NOTHING,
            )
            for one in self.lacks
        )


class PullRequests:
    """`coord.pr`."""

    def __init__(self, access: EcosystemAccess) -> None:
        self._access = access

    @operation(
        "pr.create",
        Effect.EXECUTES,
        right="sweep",
        event=True,
        for_agents="The forge notifies people: call it only if a person told you to.",
    )
    def create(
        self,
        plan: PlanId,
        options: RequestOptions | None = None,
        *,
        dry_run: DryRun = False,
    ) -> tuple[RequestResult, ...]:
        """Open the pull requests of a plan's change set, or bring them up to date.

        The branches are pushed before. All repositories are checked first: nothing is changed if one refuses.
        A remote branch with a commit of somebody else is never overwritten. A request that was closed without
        a merge is left as it is, unless it is to be reopened. Reviewers, teams, labels and
        assignees are added to those of the request. Each request has a section that names the plan, its
        todos, the requests that it depends on, and the state of all.

        `dry_run`: only look. Return a result for each repository, in landing order.

        Raises NotFound, Conflict, PlanRefused, Blocked, NotAllowed and ForgeError, always before anything was
        changed; later failures are in the results.
        """
        options = options or RequestOptions()
        document, host = self._access.document, self._access.settings.this_host
        places = {repo.name: document.repo_path(repo) for repo in document.ecosystem.repos}
        refuse_unrecorded(self._access, plan, options.repos)
        with naming_unrecorded(self._access, plan), self._opened() as (connection, access):
            sets = ChangeSets(connection.store)
            planned = decide_requests(
                *(document.ecosystem, sets.read(plan), plan, options.repos, places, host),
                branch_prefix=access.branch_prefix,
                agents=agents_of(connection.redis, connection.keys, plan),
            )
            names = [one.repo.name for one in planned.repos]
            if not dry_run:
                self._access.authority.check("pr.create", names)
            self._refuse_unsigned(connection, planned)
            inspections = inspect_all(planned, access, reopen=options.reopen)
            maker = RequestMaker(planned, options, access, partial(_note, sets, plan))
            maker.refuse_long(inspections)
            if dry_run:
                return previewed(planned, inspections, reopen=options.reopen)
            done = maker.make(inspections)
        data = {**vars(options), "requests": [one.url for one in done if one.url]}
        self._access.announce("pr.create", plan, repos=names, data=data)
        return done

    @operation("pr.fix", Effect.EXECUTES, right="sweep", event=True, tool=False)
    def fix(
        self,
        plan: PlanOfChangeSet,
        repos: Annotated[
            tuple[str, ...],
            Option(
                "Repositories (default: all whose changes have not landed).",
                metavar="[REPO…]",
                completes="repo_names",
            ),
        ] = (),
        *,
        dry_run: DryRun = False,
    ) -> tuple[RepairResult, ...]:
        """Let agents repair the pull requests of a plan.

        A request is repaired for its failed required checks, and for unresolved threads of reviewers who may
        push. In each such repository an agent goes on with the branch of the change set, with the agent,
        checks and paths of the todos that made the work, and in their session where its program can. It gets
        the ends of the logs and the remarks as data. Then the branch is pushed, each thread gets the answer
        `done in COMMIT`, and the reviewers are asked again. Whether a thread is resolved is left to people.
        Remarks of others start nothing, and a head that coord did not make is refused.

        `dry_run`: only look. It returns once the run has ended, with a result for each repository.

        Raises NotFound, Conflict, PlanRefused, Blocked, NotAllowed and ForgeError, always before anything was
        changed; later failures are in the results.
        """
        found = self.prepare_fix(plan, repos, dry_run=dry_run)
        if dry_run:
            return found.results
        return self.conclude_fix(found, self.start_fix(found).wait() if found.prompts else None)

    def prepare_fix(self, plan: str, repos: Sequence[str] = (), *, dry_run: bool = False) -> PreparedFix:
        """Return what the requests of a plan lack, and the run that would repair it. Raises as `fix` does."""
        document, host = self._access.manager.document, self._access.settings.this_host
        places = {repo.name: document.repo_path(repo) for repo in document.ecosystem.repos}
        found = find_plan(document.ecosystem, plan)
        with self._opened() as (connection, access):
            planned = decide_requests(
                *(document.ecosystem, ChangeSets(connection.store).read(plan), plan, repos, places, host),
                branch_prefix=access.branch_prefix,
            )
            if not dry_run:
                self._access.authority.check("pr.fix", [one.repo.name for one in planned.repos])
            self._refuse_unsigned(connection, planned)
            lacks = find_lacks(planned, access, _told(connection, planned))
        names = {one.repo: prompt_of(planned, one) for one in lacks if one.is_reparable}
        made = planned.change_set.todos
        records, graph = repair_graph(document.ecosystem, found, names, made) if names else (None, None)
        return PreparedFix(plan=plan, lacks=lacks, prompts=names, records=records, graph=graph)

    def start_fix(self, found: PreparedFix) -> Run:
        """Start the run that repairs. Raises NotAllowed; Conflict; PlanRefused without a configured agent."""
        self._access.authority.check("pr.fix", found.prompts)
        assert found.graph is not None
        refuse_impossible(found.graph, None, self._access.settings)
        runs = Runs(self._access)
        sweep = Sweep(graph=found.graph, options=SweepOptions(), records=found.records)
        run = runs.start(runs.make_ready(sweep))
        data = {"requests": [one.request.url for one in found.lacks if one.is_reparable], "run": run.id}
        self._access.announce("pr.fix", found.plan, run=run.id, repos=sorted(found.prompts), data=data)
        return run

    def conclude_fix(self, found: PreparedFix, view: RunView | None = None) -> tuple[RepairResult, ...]:
        """Push what the ended run has repaired, or an earlier one whose command was interrupted, and answer
        the reviewers; return a result for each repository.

        Raises as `create` does: the repairs are in the change set then.
        """
        self._access.authority.check("pr.fix", {*found.prompts, *(one.repo for one in found.lacks)})
        todos = {todo.repo: todo for todo in view.todos} if view else {}
        succeeded = {name for name, todo in todos.items() if todo.state is TodoState.SUCCEEDED}
        done = tuple(one.repo for one in found.lacks if one.is_repaired or one.repo in succeeded)
        made = self.create(found.plan, RequestOptions(repos=done)) if done else ()
        pushed, run = {one.repo: one for one in made}, view.run_id if view else ""
        with self._opened() as (_, access):
            return tuple(
                self._concluded(found.plan, one, run, todos.get(one.repo), pushed.get(one.repo), access)
                for one in found.lacks
            )

    @staticmethod
    def _concluded(
        plan: str,
        lacks: Lacks,
        run: str,
        todo: TodoView | None,
        pushed: RequestResult | None,
        access: ForgeAccess,
    ) -> RepairResult:
        if pushed is None and todo is None:
            return lacks.result(plan, RepairAction.NOTHING)
        if pushed is None:
            assert todo is not None
            why = f"{todo.error or f'its repair is {todo.state}'}\nsee its log: coord logs {run} {todo.id}"
            return lacks.result(plan, RepairAction.FAILED, run=run, error=why, code=ExitCode.FAILED)
        if pushed.error:
            return lacks.result(
                plan, RepairAction.FAILED, run=run, error=pushed.error, code=pushed.code, head=pushed.head
            )
        forge = access.forge(lacks.repo, lacks.item.address)
        warnings = (lacks.note, pushed.warning, answer(lacks, forge, pushed.head))
        return lacks.result(
            plan,
            RepairAction.REPAIRED,
            run=run,
            head=pushed.head,
            warning="; ".join(filter(None, warnings)),
        )

    @operation("pr.list", Effect.LOOKS_OUTSIDE)
    def list(
        self,
        plan: Annotated[str | None, Option("Only those of this plan.", completes="change_sets")] = None,
        *,
        failing: Annotated[
            bool,
            Option("Select requests with a red check, requested changes, a conflict or an error."),
        ] = False,
        mine: Annotated[bool, Option("Select requests that this user ordered.")] = False,
    ) -> list[RequestView]:
        """List the pull requests of plans. State, checks and reviews are those that the forge has now. Where
        a forge could not be asked, its requests have no state, and `error` says why.

        Raises NotFound where the plan has no change set.
        """
        with naming_unrecorded(self._access, plan or ""), self._opened() as (connection, access):
            changes = with_requests(self._sets(connection, plan))
            if mine:
                changes = [(name, one) for name, one in changes if one.request and one.request.by == actor()]
            document = self._access.document
            places = {repo.name: document.repo_path(repo) for repo in document.ecosystem.repos}
            found = read_requests(changes, self._repos(), places, access)
            self._note_seen(connection, found)
        return [view for view in found if view.is_failing] if failing else found

    def refs(self, plan: str | None = None, repo: str | None = None) -> tuple[tuple[str, RepoChange], ...]:
        """Return the recorded requests, as plan and change, without asking a forge. Raises NotFound."""
        with naming_unrecorded(self._access, plan or ""), self._access.reached() as connection:
            found = with_requests(self._sets(connection, plan))
        return tuple((name, change) for name, change in found if repo in (None, change.repo))

    @operation(
        "pr.close",
        Effect.UNDOES,
        right="sweep",
        event=True,
        for_agents="Call it only if a person told you to.",
    )
    def close(self, plan: PlanOfChangeSet, *, confirm: Confirm = agreed) -> tuple[RequestView, ...]:
        """Close the open pull requests of a plan without a merge. Branches and change set stay.

        Raises NotFound without one; NotAllowed.
        """
        changes = self.refs(plan)
        if not changes:
            raise NotFound(f"{plan} has no pull request", f"open them: coord pr create {plan}")
        names = [change.repo for _, change in changes]
        self._access.authority.check("pr.close", names)
        confirm(f"Close {counted(len(names), 'pull request')} of {plan}?", changes)
        with self._opened() as (connection, access):
            sets, done = ChangeSets(connection.store), []
            for _, change in changes:
                view = close_request(plan, change, self._repos(), access)
                if view.state is RequestState.CLOSED and change.request:
                    sets.note_request(plan, change.repo, change.request, "request.closed")
                done.append(view)
            self._note_seen(connection, done)
        data = {"requests": [one.url for one in done if one.state is RequestState.CLOSED]}
        self._access.announce("pr.close", plan, repos=names, data=data)
        return tuple(done)

    def _refuse_unsigned(self, connection: Connection, planned: PlannedRequests) -> None:
        """Raise NotTrusted where this machine requires signatures, and none covers a tip: Redis must not
        decide which commits are pushed.
        """
        if not self._access.authority.required:
            return
        trust, now = connection.trust_with_worker(self._access.state), datetime.now(UTC)
        for one in planned.repos:
            change = one.change
            try:
                check_set_tip(
                    change.signed,
                    trust,
                    now,
                    here=connection.here,
                    change_set=planned.plan,
                    repo=change.repo,
                    tip=change.tip,
                )
            except NotAllowed as refused:
                connection.store.announce(
                    "trust.refused", planned.plan, actor=actor(), title=refused.message[:LONGEST_TITLE]
                )
                raise

    @staticmethod
    def _note_seen(connection: Connection, found: Sequence[RequestView]) -> None:
        """Record the requests as they are now, for `coord changes`."""
        for plan in {view.plan for view in found}:
            seen = {
                view.repo: (view.number, facts)
                for view in found
                if view.plan == plan and (facts := view.seen()) is not None
            }
            ChangeSets(connection.store).note_seen(plan, seen)

    def _sets(self, connection: Connection, plan: str | None) -> tuple[ChangeSet, ...]:
        sets = ChangeSets(connection.store)
        if plan is None:
            return tuple(sets.read_all().values())
        if (found := sets.read(plan)) is None:
            raise NotFound(f"{plan} has no change set", "list them: coord changes")
        return (found,)

    def _repos(self) -> dict[str, Repo]:
        return {repo.name: repo for repo in self._access.document.ecosystem.repos}

    @contextmanager
    def _opened(self) -> Iterator[tuple[Connection, ForgeAccess]]:
        with self._access.reached() as connection, opened_forges(connection, self._access.state) as access:
            yield connection, access


def _told(connection: Connection, planned: PlannedRequests) -> dict[str, str]:
    """Return repository → the prompt of the repair that made the tip of the change set, where one did."""
    found, source = dict[str, str](), planned.change_set.source
    for change in (one.change for one in planned.repos):
        todo = repair_todo(planned.plan, change.repo)
        if source.get(todo) != change.run:
            continue
        text = connection.redis.hget(connection.keys.run(change.run).spec, todo)
        with suppress(ValueError):  # of a run that was forgotten, or is damaged
            action = TodoSpec.model_validate_json(text or "").todo.action
            found[change.repo] = (action.prompt or "") if isinstance(action, AgentAction) else ""
    return found


def _note(sets: ChangeSets, plan: str, repo: str, request: RequestRef, kind: str) -> None:
    if kind:
        sets.note_request(plan, repo, request, kind)
    elif request.seen:
        sets.note_seen(plan, {repo: (request.number, request.seen)})


LOCK_TTL = timedelta(seconds=30)


class Issues:
    """`coord.issues`."""

    def __init__(self, access: EcosystemAccess) -> None:
        self._access = access

    @operation("issue.sync", Effect.SYNCHRONISES, right="edit", tool=False)
    def sync(self, options: IssueSyncOptions | None = None) -> IssueSyncReport:
        """Bring the issues of the file in line with those at the forges of their repositories. They have
        title, text, open or closed, labels and assignee in common.

        A field that one side has changed goes to the other. Where both have changed it, the file wins unless
        the forge is preferred, and the conflict is reported with both values. Open issues of the file that
        name a repository with a forge are created there. A failure of an issue or a repository is in the
        results; the others are done.

        Raises NotFound, PlanRefused, NotAllowed, and Conflict while another synchronisation works, before
        anything was changed.
        """
        options = options or IssueSyncOptions()
        homes, results = homes_of(self._access.document.ecosystem, options.repos)
        if not homes:
            raise PlanRefused(
                "the forge of no repository is known",
                "write `url` to a repository in the file, and `forge` where the url does not say it",
            )
        if not options.dry_run:
            self._access.authority.check("edit", frozenset().union(*(home.touched for home in homes)))
        not_pulled = 0
        with (
            self._access.reached() as connection,
            self._alone(connection, options) as check,
            opened_forges(connection, self._access.state) as access,
        ):
            for home in homes:
                done, waiting = self._sync(home, options, access, check)
                results, not_pulled = (*results, *done), not_pulled + waiting
        return IssueSyncReport(results=results, not_pulled=not_pulled)

    def _sync(
        self, home: Home, options: IssueSyncOptions, access: ForgeAccess, check: Callable[[], object]
    ) -> tuple[list[IssueResult], int]:
        """Return the results of a repository, and the number of issues that were not pulled."""
        manager = self._access.manager
        issues = manager.document.ecosystem.coordination.issues
        known = [one.forge.id for one in issues if one.forge and one.forge.id]
        try:
            forge = access.forge(home.repo, home.address)
            work = RepoIssues(home, forge, manager, options, known, check)
            return work.run(), work.not_pulled
        except CoordinationError as error:
            failed = IssueResult(
                repo=home.repo, action=IssueAction.FAILED, error=str(error), code=error.exit_code
            )
            return [failed], 0

    @contextmanager
    def _alone(self, connection: Connection, options: IssueSyncOptions) -> Iterator[Callable[[], object]]:
        """Hold the lock of the synchronisation, and yield its check. A dry run needs none."""
        if options.dry_run:
            yield lambda: None
            return
        try:
            lock = connection.locks.acquire(ISSUES, ttl=LOCK_TTL, wait=timedelta(0), owner=actor())
        except LockTimeout as error:
            by = f" ({', '.join(error.holders)})" if error.holders else ""
            raise Conflict(
                f"another `coord issue sync` is at work{by}; nothing was changed",
                "repeat the command when it has ended; see: coord lock list --all",
            ) from error
        with lock:
            yield lock.check
