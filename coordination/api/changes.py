"""Change sets: what plans have made and not landed yet."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from coordination.api import texts
from coordination.api.parameters import PlanId, PlanOfChangeSet
from coordination.branches import HEADS
from coordination.changes.checkout import RepoDiff, diff_of
from coordination.changes.view import ChangeReader, ChangeView
from coordination.declared import Effect, Option, operation
from coordination.errors import Blocked, Conflict, NotFound, UsageError
from coordination.models import OPEN_TODO, TodoStatus
from coordination.runs.change_sets.records import ChangeSet, RepoChange
from coordination.runs.change_sets.store import ChangeSets
from coordination.runs.submission.refusals import NotLanded
from coordination.runs.submission.writes import repos_written
from coordination.text import listed, quoted, require_known

if TYPE_CHECKING:
    from coordination.api.access import EcosystemAccess
    from coordination.changes.absent import AbsentWork
    from coordination.changes.adoption import Adoption
    from coordination.changes.discard import Discarded
    from coordination.changes.resolve import Resolution
    from coordination.models import Ecosystem, Todo
    from coordination.runs.connection import Connection


class Changes:
    """`coord.changes`."""

    def __init__(self, access: EcosystemAccess) -> None:
        self._access = access

    @operation(
        "plan.changes",
        Effect.READS,
        for_agents="coord_plan_land brings a change set into the base branches.",
    )
    def list(
        self,
        plan: Annotated[
            str | None,
            Option(
                "Only that of this plan, or of this todo without plan (default: all).",
                completes="change_sets",
            ),
        ] = None,
    ) -> Sequence[ChangeView]:
        """List the change sets: branch, size, and what they wait for before they land.

        A change set has a record for each repository. All figures are recorded ones: neither git nor a forge
        is asked. Pull requests are as `coord pr list` has seen them last. A todo without plan has a change
        set of its own name.

        Raises NotFound where the plan has none; Unreadable where its records are damaged.
        """
        with naming_unrecorded(self._access, plan or ""), self._access.reached() as connection:
            return ChangeReader(connection, self._ecosystem()).read(plan)

    @operation("plan.diff", Effect.READS, tool=False)
    def diff(
        self,
        plan: PlanOfChangeSet,
        *,
        repos: Annotated[
            Collection[str],
            Option(texts.CHANGED_REPOS, flag="--repo", completes="repo_names"),
        ] = (),
        stat: Annotated[bool, Option(texts.STAT)] = False,
    ) -> tuple[RepoDiff, ...]:
        """Show the difference of a plan's change set to its base, in each repository. git on this machine
        computes it, and must have the commits. Each path begins with the name of its repository.

        Raises NotFound; GitRefused where this machine does not have the commits.
        """
        found = self._read(plan)
        chosen = self._chosen(found, repos)
        document = self._access.document
        known = {repo.name: repo for repo in document.ecosystem.repos}
        return tuple(
            diff_of(
                plan,
                found.repos[name],
                document.repo_path(known[name]) if name in known else None,
                known[name].branch if name in known else "",
                stat=stat,
            )
            for name in chosen
        )

    @operation(
        "plan.discard",
        Effect.CHANGES,
        right="sweep",
        event="discard",
        for_agents="Call it only if a person told you to.",
    )
    def discard(
        self,
        plan: Annotated[
            str,
            Option(
                "A plan, or a todo without plan, which need not be in the file any more.",
                completes="change_sets",
            ),
        ],
    ) -> Discarded:
        """Discard what has not landed of a change set. Its branches go, its todos are open again. The old
        tips stay under refs/coord/discarded.

        Return what was discarded. With the embedded server its worker is started as well.

        Raises NotFound without a change set; Conflict while a run writes it, a branch is checked out, or
        Redis has lost the record of work; Blocked where all of it has landed, a pull request is open, or a
        host that has it does not answer; NotAllowed.
        """
        planned = self.plan_discard(plan)
        if planned is None:
            self._read(plan)
            raise Blocked(
                f"all of {plan} has landed", f"see: coord changes {plan}; undo it: coord revert {plan}"
            )
        return self.discard_planned(planned)

    def plan_discard(self, plan: str) -> Discarded | None:
        """Return what `discard` would discard, None for nothing; change nothing. Raises as `discard` does."""
        from coordination.changes.discard import plan_discard

        with self._access.reached() as connection:
            _refuse(self._access, plan, _unrecorded(self._access, plan, connection))
            return plan_discard(connection, plan)

    def plan_fresh(self, plan: str) -> Discarded | None:
        """Return what a fresh sweep would discard before: as `plan_discard`, or else the completed todos
        whose work neither Redis nor a base branch has.
        """
        from coordination.changes.discard import Discarded

        planned = self.plan_discard(plan)
        if planned is None and (absent := absent_work(self._access, plan)):
            return Discarded(plan=plan, repos=(), todos=tuple(absent.todos))
        return planned

    def discard_planned(self, planned: Discarded) -> Discarded:
        """Discard what was planned. Raises as `discard` does."""
        from coordination.changes.discard import discard

        declared = {todo.id: todo.repo for todo in self._access.document.ecosystem.coordination.todos}
        of_todos = {declared[todo] for todo in planned.todos if todo in declared}
        repos = [change.repo for change in planned.repos] or sorted(of_todos)
        self._access.authority.check("discard", repos)
        self._access.start_worker(repos)
        with self._access.reached() as connection:
            done = discard(connection, planned, self._access.manager.reopen_todos)
        tips = [f"{change.repo}:{change.tip}" for change in planned.repos]
        data = {"tips": tips, "reopened": done.reopened}
        self._access.announce("discard", planned.plan, repos=repos, data=data)
        return done

    @operation(
        "plan.adopt",
        Effect.CHANGES,
        right="land",
        event="adopt",
        for_agents="Call it only if a person told you to.",
    )
    def adopt(
        self,
        plan: PlanId,
        repo: Annotated[str | None, Option("The repository of the branch.", completes="repo_names")] = None,
        branch: Annotated[
            str | None, Option("A branch of its checkout on this machine.", completes="branch_names")
        ] = None,
        *,
        request: Annotated[
            int | None,
            Option("Adopt the open pull request with this number, and its branch.", flag="--pr", least=1),
        ] = None,
        replace: Annotated[
            bool,
            Option(
                "Take the branch as it is, also without commits of the change set: todos whose commits it "
                "lacks are open again (default: merge both)."
            ),
        ] = False,
    ) -> tuple[Adoption, ...]:
        """Take a branch as the tip of a plan's change set. Where both have commits that the other lacks, the
        tip is a merge of them.

        Without a repository: build a change set that Redis has lost from the commits in the checkouts of this
        machine.

        Raises NotFound, GitRefused where there is no such work, or both cannot be merged; Conflict while a
        run writes or lands it; NotAllowed; with `request` ForgeError, and Blocked for one that coord cannot
        push to.
        """
        found = self.plan_adoption(plan, repo, branch, request=request, replace=replace)
        self.record_adoption(plan, found)
        return found

    def plan_adoption(
        self,
        plan: str,
        repo: str | None = None,
        branch: str | None = None,
        *,
        request: int | None = None,
        replace: bool = False,
    ) -> tuple[Adoption, ...]:
        """Return what `adopt` would record; change nothing, but fetch the branch of a request."""
        from coordination.changes.adoption import find_branch, find_lost
        from coordination.changes.requests.access import opened_forges
        from coordination.changes.requests.existing import find_request
        from coordination.landing.rules import plan_of

        ecosystem, places = self._access.document.ecosystem, self._places()
        plan_of(ecosystem, plan)
        if (repo is None) != (branch is None and request is None) or (branch and request is not None):
            adopt = f"coord plan adopt {plan} {repo or 'REPO'}"
            raise UsageError(
                "REPO goes with either BRANCH or the number of a pull request",
                f"{adopt} BRANCH; or {adopt} --pr N",
            )
        if replace and repo is None:
            raise UsageError(
                "--replace goes with a branch or a pull request", f"leave it out: coord plan adopt {plan}"
            )
        host = self._access.settings.this_host
        with self._access.reached() as connection:
            sets = ChangeSets(connection.store)
            known = sets.read(plan)
            committed = sets.committed(known, repo) if known and repo else {}
        if repo is None:
            prefix = self._access.settings.branch_prefix
            return find_lost(plan, ecosystem.repos, places, known, host, prefix)
        declared = {one.name: one for one in ecosystem.repos}
        require_known([repo], declared, "repo", "repo list")
        if branch is not None:
            where = (plan, declared[repo], places[repo], branch, known, host)
            return (find_branch(*where, committed=committed, replace=replace),)
        assert request is not None
        with self._access.reached() as connection, opened_forges(connection, self._access.state) as forges:
            found = (plan, declared[repo], places[repo], request, known, forges, host)
            return (find_request(*found, committed=committed, replace=replace),)

    def record_adoption(self, plan: str, found: Sequence[Adoption]) -> None:
        """Record what was planned. Raises as `adopt` does."""
        from coordination.changes.adoption import adopt

        repos = [one.repo for one in found]
        self._access.authority.check("adopt", repos)
        lacks = [todo for one in found for todo in one.lacks]
        if lacks:
            self._access.authority.check("edit", repos)
        declared, reopen = self._access.document.ecosystem.repos, self._access.manager.reopen_todos
        with self._access.reached() as connection:
            reopened = adopt(connection, plan, found, declared, self._places(), reopen)
        tips = [f"{one.repo}:{one.tip}" for one in found]
        data = {"tips": tips, "lacks": lacks, "reopened": reopened}
        self._access.announce("adopt", plan, repos=repos, data=data)

    @operation("plan.resolve", Effect.CHANGES, right="sweep")
    def resolve(
        self,
        plan: PlanOfChangeSet,
        repo: Annotated[str, Option("The repository with the conflict.", completes="repo_names")],
    ) -> Resolution:
        """Show where the conflict between a change set and its base branch is resolved. The worktree, its
        host and the files are named.

        When the merge is committed there, the same call continues with it: the run that waits for the merge
        goes on by itself, an ended one is retried. After a landing that was refused, a worktree of the change
        set's branch is made; the merge in it is adopted, and lands next time.

        Raises NotFound; GitRefused; Conflict; NotAllowed.
        """
        from coordination.changes.discard import refuse_writers
        from coordination.changes.resolve import ConflictState, open_worktree

        found, change, checkout = self._conflict(plan, repo)
        if found.state is ConflictState.OPEN and not found.run and checkout is not None:
            self._access.authority.check("plan.resolve", [repo])
            with self._access.reached() as connection:  # the run meets the conflict itself
                now = self._read(plan)
                refuse_writers(connection, now)
            if now.tip(repo) != change.tip:  # it has just ended, with the merge
                raise Conflict(f"{plan} has moved in {repo} meanwhile", f"see: coord changes {plan}")
            open_worktree(found, change, checkout)
            found, change, checkout = self._conflict(plan, repo)
        if found.state is not ConflictState.RESOLVED:
            return found
        return found.model_copy(update={"taken_up": self._continue_merge(found, checkout)})

    def _conflict(self, plan: str, repo: str) -> tuple[Resolution, RepoChange, Path | None]:
        from coordination.changes.resolve import find_conflict

        change = self._read(plan).repos.get(repo)
        declared = {one.name: one for one in self._access.document.ecosystem.repos}
        if change is None or repo not in declared:
            raise NotFound(f"{plan} has no changes in {repo}", f"see: coord changes {plan}")
        checkout = self._places()[repo]
        with self._access.reached() as connection:
            found = find_conflict(connection, change, plan, declared[repo], checkout, self._access.state)
        return found, change, checkout

    def _continue_merge(self, found: Resolution, checkout: Path | None) -> str:
        """Continue with a merge that is committed; return the run that does, or the adopted commit."""
        from coordination.changes.resolve import remove_worktree

        if found.run and found.live:
            return found.run
        if found.run:
            from coordination.api.run import Run

            return Run(self._access, found.run).retry().id
        (adopted,) = self.adopt(found.plan, found.repo, found.branch)
        if checkout is not None:
            remove_worktree(found, checkout)
        return adopted.tip

    def _places(self) -> Mapping[str, Path | None]:
        document = self._access.document
        return {repo.name: document.repo_path(repo) for repo in document.ecosystem.repos}

    def _read(self, plan: str) -> ChangeSet:
        with naming_unrecorded(self._access, plan), self._access.reached() as connection:
            found = ChangeSets(connection.store).read(plan)
            if found is None:
                ChangeReader(connection, self._ecosystem()).read(plan)  # raises, and says why
        assert found is not None
        return found

    @staticmethod
    def _chosen(found: ChangeSet, repos: Collection[str]) -> tuple[str, ...]:
        if unknown := sorted(set(repos) - found.repos.keys()):
            raise NotFound(
                f"{found.id} has no changes in {listed(unknown)}", f"see: coord changes {found.id}"
            )
        return tuple(sorted(repo for repo in found.repos if not repos or repo in repos))

    def _ecosystem(self) -> Ecosystem | None:
        return self._access.document.ecosystem if self._access.has_file else None


def rebuild_unrecorded(access: EcosystemAccess, plan: str, todos: Collection[Todo]) -> None:
    """Rebuild the parts of a change set of which Redis has lost the record, and say so. Raises Conflict as
    `plan_rebuild` does; NotAllowed.
    """
    with access.reached() as connection:
        found = plan_rebuild(access, plan, todos, connection)
    if not found:
        return
    Changes(access).record_adoption(plan, found)
    for one in found:
        access.warn(
            f"{one.repo}: Redis had no record of {listed(sorted(one.todos))}; the change set of {plan} was "
            f"rebuilt from {one.branch} ({one.tip[:12]})"
        )


def plan_rebuild(
    access: EcosystemAccess, plan: str, todos: Collection[Todo], connection: Connection | None
) -> tuple[Adoption, ...]:
    """Return the parts of a change set of which Redis has lost the record, from the branches at which coord
    left it in the checkouts of this machine. `todos`: those of a run; the repositories of the others of the
    plan count, too. `connection`: None for a Redis that has no data.

    Only a person may state that a branch has a plan's work where results are signed, or where the file does
    not have its todos as completed: another plan may have had the id. Then it raises Conflict.
    """
    ecosystem = access.document.ecosystem
    declared = next((one for one in ecosystem.coordination.plans if one.id == plan), None)
    own = (*todos, *(ecosystem.todos_of(declared) if declared else ()))
    found = _unrecorded(access, plan, connection, repos_written(own))
    done = {(one.id, one.repo) for one in ecosystem.coordination.todos if one.status is TodoStatus.COMPLETED}
    is_signed = connection is not None and connection.signing is not None
    if is_signed or any((todo, one.repo) not in done for one in found for todo in one.todos):
        _refuse(access, plan, found)
    if connection is not None and _is_declared(ecosystem, plan):
        rebuilt = {todo for one in found for todo in one.todos}
        _refuse_elsewhere(access, plan, connection, rebuilt=rebuilt)
    return found


def _refuse_elsewhere(
    access: EcosystemAccess,
    plan: str,
    connection: Connection,
    repos: Collection[str] | None = None,
    rebuilt: Collection[str] = (),
) -> None:
    """Raise Conflict where another host has completed work of a plan on the branch of its change set, and
    Redis has no record of it; NotLanded where a worker does not answer. `repos`: only there; `rebuilt`: todos
    whose records are being rebuilt.
    """
    from coordination.landing.completed import on_branches, unrecorded

    known = ChangeSets(connection.store).read(plan)
    asked = unrecorded(access.document.ecosystem, known, plan, chosen=repos or ())
    todos = {todo: repo for todo, repo in asked.todos.items() if todo not in rebuilt}
    found = on_branches(connection, replace(asked, todos=todos), access.memory.completed_by_hand)
    elsewhere = [one for one in found if one.host != access.settings.this_host]
    if not elsewhere:
        return
    places = dict.fromkeys(f"{one.ref.removeprefix(HEADS)} of {one.repo} on {one.host}" for one in elsewhere)
    hosts = dict.fromkeys(one.host for one in elsewhere)
    raise Conflict(
        f"Redis has no record of work of {plan} that has not landed: {listed(places)} "
        f"({listed(dict.fromkeys(one.todo for one in elsewhere))})",
        f"rebuild the change set there, on {listed(hosts)}, where the file is: "
        f"coord plan adopt {quoted(plan)}; then try again",
    )


@contextmanager
def naming_unrecorded(access: EcosystemAccess, plan: str) -> Iterator[None]:
    """Raise Conflict instead of NotFound where Redis has lost the record of a plan's change set; name the
    completed todos whose work is on another machine.
    """
    try:
        yield
    except NotFound:
        refuse_unrecorded(access, plan)
        if absent := absent_work(access, plan):
            raise NotFound(f"{plan} has no change set here: {absent.fact}", absent.next) from None
        raise


def absent_work(access: EcosystemAccess, plan: str) -> AbsentWork | None:
    """Return the completed todos of a plan whose work neither Redis nor a base branch of this machine has;
    None where a todo of it is open, or is in a change set.
    """
    from coordination.changes.absent import find_absent
    from coordination.landing.rules import plan_of

    if not access.has_file or not plan:
        return None
    document = access.document
    ecosystem = document.ecosystem
    if not _is_declared(ecosystem, plan):
        return None
    _, todos = plan_of(ecosystem, plan)
    done = [todo.id for todo in todos if todo.status is TodoStatus.COMPLETED]
    if not done or any(todo.status in OPEN_TODO for todo in todos):
        return None
    known, recorded = _recorded(access, plan, done)
    if known is not None and known.open:
        return None
    places = {repo.name: document.repo_path(repo) for repo in ecosystem.repos}
    prefix = access.settings.branch_prefix
    found = find_absent(plan, ecosystem, todos, places, known, recorded, prefix)
    if found is None or not access.state.exists():
        return found
    by_hand = access.memory.completed_by_hand(found.todos)
    left = {todo: repo for todo, repo in found.todos.items() if todo not in by_hand}
    return found.model_copy(update={"todos": left}) if left else None


def _recorded(
    access: EcosystemAccess, plan: str, todos: Sequence[str]
) -> tuple[ChangeSet | None, Collection[str]]:
    """Return the change set of a plan, and those of the todos of whose work Redis knows; start no server that
    has no data.
    """
    if not _has_data(access):
        return None, ()
    with access.reached() as connection:
        known = ChangeSets(connection.store).read(plan)
        found = connection.redis.hmget(connection.keys.commits, todos)
    return known, [todo for todo, record in zip(todos, found, strict=True) if record]


def where_unlanded(access: EcosystemAccess, plan: str) -> str:
    """Return where the work of a plan without an open todo is, if it has not landed, and the next command;
    empty if it has.
    """
    if absent := absent_work(access, plan):
        return f"{absent.fact}: {absent.next}"
    if not access.has_file or not _has_data(access):
        return ""
    with access.reached() as connection:
        found = ChangeSets(connection.store).read(plan)
    hosts = dict.fromkeys(change.host or "an unknown host" for change in found.open.values()) if found else {}
    if not hosts:
        return ""
    return f"not landed: its change set is on {listed(hosts)}: coord land {quoted(plan)}"


def refuse_unrecorded(access: EcosystemAccess, name: str, repos: Collection[str] = ()) -> None:
    """Raise Conflict where a checkout of this machine, or a worker, has work of a plan, a todo without plan,
    or an item of `coordination.waves`, and Redis has no record of it. `repos`: only there; empty for all.
    """
    if not access.has_file:
        return
    ecosystem = access.document.ecosystem
    waves = next((one for one in ecosystem.coordination.waves if one.id == name), None)
    for plan in filter(partial(_is_declared, ecosystem), waves.plans if waves else (name,)):
        # No server is started for it without data or such a branch.
        is_here = bool(_unrecorded(access, plan, None, repos or None))
        if is_here or _has_data(access):
            with access.reached() as connection:
                if is_here:
                    _refuse(access, plan, _unrecorded(access, plan, connection, repos or None))
                with suppress(NotLanded):  # a worker does not answer: the caller says what it knows itself
                    _refuse_elsewhere(access, plan, connection, repos)


def _has_data(access: EcosystemAccess) -> bool:
    """Return whether there is a Redis that may have records; one without data is not started."""
    return bool(access.settings.redis_url or access.local.server.has_data)


def _is_declared(ecosystem: Ecosystem, plan: str) -> bool:
    coordination = ecosystem.coordination
    return plan in {one.id for one in coordination.plans} | {one.id for one in coordination.todos}


def _unrecorded(
    access: EcosystemAccess,
    plan: str,
    connection: Connection | None,
    repos: Collection[str] | None = None,
) -> tuple[Adoption, ...]:
    from coordination.changes.adoption import find_unrecorded

    document = access.document
    declared = [one for one in document.ecosystem.repos if repos is None or one.name in repos]
    places = {one.name: document.repo_path(one) for one in declared}
    return find_unrecorded(connection, plan, declared, places, access.settings.this_host)


def _refuse(access: EcosystemAccess, plan: str, found: Sequence[Adoption]) -> None:
    if not found:
        return
    where = listed([f"{one.branch} of {one.repo} ({one.tip[:12]})" for one in found])
    hint = f"rebuild the change set from it: coord plan adopt {quoted(plan)}; then try again"
    if not _is_declared(access.document.ecosystem, plan):
        branch = quoted(found[0].branch)
        hint = f"the file has no {plan} any more; delete it there by hand: git branch -D {branch}"
    landed = _landed(access, plan)
    also = f"; landed, without a record: {listed(landed)}" if landed else ""
    raise Conflict(f"Redis has no record of work of {plan} that has not landed: {where}{also}", hint)


def _landed(access: EcosystemAccess, plan: str) -> list[str]:
    """Return the repositories whose base branch has what coord has left on the branch of a change set, each
    with the commit.
    """
    from coordination.changes.adoption import find_landed

    document = access.document
    repos = document.ecosystem.repos
    found = find_landed(plan, repos, {one.name: document.repo_path(one) for one in repos})
    return [f"{repo} ({commit[:12]})" for repo, commit in found.items()]
