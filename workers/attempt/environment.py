"""The environment of an attempt (brief, folders, services, commits of other hosts), and its factory."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

from coordination.branches import run_branch
from coordination.credentials.records import Purpose
from coordination.credentials.store import credentials_file
from coordination.errors import CoordinationError, NotFound, PlanRefused
from coordination.messages.bus import MessageBus
from coordination.messages.records import Message
from coordination.models import LandCheck, QaAction
from coordination.runs.attempt_store import AttemptStore, Grant
from coordination.runs.change_sets.store import ChangeSets
from coordination.runs.records import AgentUsage, ReadRepo, RunBrief
from coordination.runs.run_contexts import ContextCalls
from coordination.runs.run_kinds import is_landing
from coordination.runs.submission.draft import HOST
from coordination.runs.worker_registry import Worker
from coordination.sandbox import Bounds
from coordination.text import listed
from workers.attempt.actions import AttemptAction, Compensate, RunTodo
from workers.attempt.attempt_cache import AttemptCache
from workers.attempt.changes import changes_of
from workers.attempt.checks import RunCheck
from workers.attempt.context import Context, PredecessorPaths
from workers.attempt.context_socket import ContextSocket
from workers.attempt.output import Log
from workers.attempt.reads import ReadRepos
from workers.attempt.result_cache import Results
from workers.cleanup.change_set_rollback import ChangeSetRollback
from workers.cleanup.landed import has_landed
from workers.cleanup.rollback import RollbackCleanup
from workers.config import ServedRepositories, WorkerConfig
from workers.credentials import GitCredentials, TodoSecrets
from workers.landing.history import taken_out
from workers.landing.records import BaseBranch
from workers.landing.remote import base_at_remote
from workers.landing.todo import LandServices, LandTodo
from workers.outcome import AttemptOutcome, OutcomeKind
from workers.process.trouble import until_answered
from workers.sandbox import Sandboxes
from workers.transfer.commits import CommitTransfer
from workers.transfer.fetcher import depot_of
from workers.transfer.routes import BundleStore
from workers.trust.signed_results import SignedResults
from workers.trust.worker_trust import OrderCheck
from workers.workspace.base_commit import Carried, RunBase
from workers.workspace.change_set import GitSessions
from workers.workspace.commit import CommitStyle
from workers.workspace.git_worktree import Fetch
from workers.workspace.repository import lacks_any

MakeLandTodo = Callable[
    [Callable[[], OutcomeKind | None], Callable[[str], None], Callable[[LandCheck, str], AttemptOutcome]],
    LandTodo,
]
"""Its arguments tell a stop, write a line of the log, and run a check at a commit."""


MESSAGES_READ = 10
"""Messages of an inbox that are read for a prompt; each may have a payload of 1 MiB."""


@dataclass(frozen=True, kw_only=True)
class AttemptEnvironment:
    brief: RunBrief
    context: Callable[[], Mapping[str, Any]]
    """The content of COORD_CONTEXT, made in the workspace; may take as long as the transfer of a commit."""
    state: Path
    checkout: Path
    output_limit_bytes: int
    verify: Callable[[], None]
    """Verifies the records with which the todo begins. Raises NotAllowed."""
    check_history: Callable[[str], None]
    """Takes the commit at which the todo starts; asks git if it has those of its predecessors. Raises
    NotAllowed.
    """
    results: Results | None
    """The result cache; None where this worker uses none."""
    connection: Callable[[Callable[[Any], Any]], AbstractContextManager[str]]
    """The content of COORD_CONNECTION's file, and the service behind it, while the command runs. The argument
    takes secrets out of a JSON value that the command sets.

    Raises OSError.
    """
    secrets: TodoSecrets
    """The credentials of this machine."""
    fetch: Fetch
    """Fetches a commit of another host."""
    git_sessions: GitSessions
    """The git processes that this worker keeps open."""
    sandboxes: Sandboxes
    reads: Callable[[], Mapping[str, Path]]
    """Checks out the other repositories that the agent sees; returns where. Raises a CoordinationError with
    the reason why one cannot be seen.
    """
    changes: Callable[[Mapping[str, Any]], str]
    """Returns the changes of a predecessor in COORD_CONTEXT, where this host has them."""
    messages: Callable[[], Sequence[Message]]
    """Returns the messages that wait in the inbox of the repository, the first ones; it takes none."""
    landing: MakeLandTodo | None
    """Makes the todo of a landing run; None if this worker may not write change sets."""
    base: Callable[[], RunBase] | None
    """Looks the base branch up where landing goes; None: the base is the local branch."""
    set_back: Callable[[], str]
    """Sets the branch of the change set back to where it was before the run; returns why it stays."""
    sandbox_demanded: bool
    """True if the role of the person who ordered the todo demands a sandbox."""
    note_usage: Callable[[AgentUsage], bool]
    """Counts what the agent of the attempt has used so far; returns whether the budget of its plan or of the
    day is used up.
    """
    withdraw: Callable[[], None]
    """Deletes what the run has published of the repository. Raises NotCarried with the remote's message."""

    def carried(self, repo: str) -> Carried | None:
        """Return the commits of earlier runs, or of the change set, that a run takes up in a repository."""
        brief, start = self.brief, self.brief.lineage.within(repo)
        if is_landing(brief.plan_id):  # a repository that does not land is checked at its base branch
            return Carried(runs=(), tip=None, base=self.base)
        runs = brief.lineage.takes_up
        if not runs and not start.branch:
            return None
        # All todos of the branch run again, so none of its commits is taken up as a person's correction.
        if start.set_back in runs:
            runs = runs[: runs.index(start.set_back)]
        return Carried(
            runs=runs,
            tip=start.tip or None,
            change_set=brief.change_set if start.branch else "",
            branch=start.branch,
            published=start.published,
            again=start.set_back,
            base=self.base if start.branch else None,
            has_landed=partial(has_landed, self.checkout),
            taken_out=partial(taken_out, BaseBranch(repo=repo, path=self.checkout, branch="")),
        )

    def commit_style(self, grant: Grant) -> CommitStyle:
        """Return the style of the commits of an attempt."""
        return CommitStyle(
            plan=self.brief.plan_id,
            message=self.brief.commit_message,
            hooks=self.brief.commit_hooks == "run",
            read_only=getattr(grant.spec.todo.action, "read_only", False),
        )

    def action(
        self, grant: Grant, log: Log, bounds: Callable[[], Bounds | None] = lambda: None
    ) -> AttemptAction:
        """Return the action of an attempt, which writes into the todo's log; `bounds` returns its sandbox."""
        if grant.undo is None:
            cache = self._attempt_cache(grant, log.line, bounds)
            limit = self.output_limit_bytes
            if isinstance(grant.spec.todo.action, QaAction):
                return RunCheck(
                    grant=grant, output_limit_bytes=limit, log=log, cache=cache, context=self.context
                )
            return RunTodo(grant=grant, output_limit_bytes=limit, log=log, cache=cache)
        repo = grant.spec.repo.name
        removal = RollbackCleanup(
            state=self.state,
            repo=repo,
            checkout=self.checkout,
            run_id=grant.run_id,
            tip=grant.tip,
            had_ended=grant.undo.had_ended,
            branch_prefix=self.brief.branch_prefix,
            carried=self.carried(repo),
        )
        return Compensate(
            grant=grant,
            undo=grant.undo,
            removal=removal,
            withdraw=self.withdraw,
            set_back=self.set_back,
            log_line=log.line,
        )

    def _attempt_cache(
        self, grant: Grant, log: Callable[[str], None], bounds: Callable[[], Bounds | None]
    ) -> AttemptCache | None:
        cache = grant.spec.todo.cache
        if cache is None:
            return None
        if self.results is None:
            log("cache: not used by this worker (cache_todos is off, or it is restricted); the todo runs")
            return None
        return AttemptCache(
            grant,
            cache,
            self.results,
            context=self.context,
            reads=self.reads,
            no_cache=self.brief.no_cache,
            state=self.state,
            bounds=bounds,
            log=log,
        )


class AttemptEnvironments:
    """Makes the environments of a worker's attempts, from its services."""

    def __init__(
        self,
        *,
        store: AttemptStore,
        worker: Worker,
        config: WorkerConfig,
        served: ServedRepositories,
        bundles: BundleStore,
        contexts: ContextCalls,
        results: Results | None,
        signed_results: SignedResults,
        orders: OrderCheck,
        git_sessions: GitSessions,
        change_sets: ChangeSets | None,
        bus: MessageBus | None,
    ) -> None:
        """`change_sets`, `bus`: None for a restricted worker, whose Redis user may not use them."""
        self._store = store
        self._worker = worker
        self._config = config
        self._served = served
        self._contexts = contexts
        self._results = results
        self._signed_results = signed_results
        self._orders = orders
        self._git_sessions = git_sessions
        self._change_sets = change_sets
        self._bus = bus
        self._sandboxes = Sandboxes(config.settings, config.state)
        self._secrets = TodoSecrets(credentials_file(), os.environ, worker.host, self._record_secrets)
        self._access = GitCredentials(self._secrets.store, config.state, self._record_git).access
        self.transfer = CommitTransfer(bundles, config, served, self._access)
        predecessor_paths = PredecessorPaths(self.transfer.fetcher, config.state, self._home)
        limit_bytes = config.settings.context_limit_bytes
        self._read_repos = ReadRepos(self.transfer.fetcher, served, config.state, self._access)
        self.context = Context(store, predecessor_paths, limit_bytes, signed_results, orders.brief)
        self._rollback = change_sets and ChangeSetRollback(
            change_sets=change_sets, signed_results=signed_results, checkouts=served,
            send=self._send_reopened, read_signed=self._read_signed,
        )  # fmt: skip
        self._land_services = change_sets and LandServices(
            store=store, change_sets=change_sets, signed_results=signed_results, checkouts=served,
            access=self._access, results=self.context.results, settings=config.settings, state=config.state,
            send=self._send_reopened, remember=orders.remember_landed,
        )  # fmt: skip

    def of(self, grant: Grant, log: Log) -> AttemptEnvironment:
        """Return the environment of an attempt. `log`: names predecessors whose work is not on this host."""
        brief = until_answered(lambda: self.context.brief(grant.run_id))
        known_runs = (grant.run_id, *brief.lineage.runs)
        context = cache(lambda: self._context_of(grant, log))
        value_bytes = self._config.settings.cache_value_bytes
        return AttemptEnvironment(
            brief=brief,
            context=context,
            state=self._config.state,
            checkout=self._served[grant.spec.repo.name],
            output_limit_bytes=self._config.settings.output_limit_bytes,
            check_history=partial(self._check_history, grant, context),
            verify=lambda: self._signed_results.check_start(grant, brief),
            connection=lambda masked: ContextSocket(
                self._contexts, grant.run_id, grant.todo_id, value_bytes, masked
            ),
            secrets=self._secrets,
            reads=cache(lambda: self._reads(grant, brief, context, log)),
            changes=partial(self._changes, grant),
            messages=lambda: self._messages(grant, log),
            results=self._results,
            git_sessions=self._git_sessions,
            sandboxes=self._sandboxes,
            sandbox_demanded=self._orders.demands_sandbox(grant),
            fetch=lambda *target: until_answered(lambda: self.transfer.fetch(grant, known_runs, *target)),
            base=self._base_of(grant, brief),
            set_back=partial(self._rollback.roll_back, grant, brief) if self._rollback else str,
            landing=partial(LandTodo, grant, self._land_services) if self._land_services else None,
            note_usage=lambda used: self._store.note_usage(grant, used).word == "over",
            withdraw=lambda: until_answered(lambda: self._withdraw(grant, brief)),
        )

    def _reads(
        self, grant: Grant, brief: RunBrief, context: Callable[[], Mapping[str, Any]], log: Log
    ) -> Mapping[str, Path]:
        if not grant.spec.reads or grant.undo is not None:
            return {}
        if self._change_sets is None:
            raise PlanRefused(
                f"{grant.todo_id} reads {listed([one.repo for one in grant.spec.reads])}, and this worker is "
                "restricted to its own repositories",
                f"let a worker that is not restricted serve {grant.spec.repo.name}; or remove `reads`",
            )
        commits = context()["commits"]

        def check(read: ReadRepo) -> None:
            self._signed_results.check_read(grant, read, brief.change_set)

        return until_answered(lambda: self._read_repos.of(grant, brief, commits, check, log.line))

    def _changes(self, grant: Grant, predecessor: Mapping[str, Any]) -> str:
        repo, began, commit = (predecessor.get(name) or "" for name in ("repo", "began", "commit"))
        if not began or not commit:
            return ""
        served, fetched = self._served.get(repo), depot_of(self._config.state, grant.run_id, repo)
        return changes_of([place for place in (served, fetched) if place and place.is_dir()], began, commit)

    def _messages(self, grant: Grant, log: Log) -> Sequence[Message]:
        inbox = f"repo:{grant.spec.repo.name}"
        try:
            return self._bus.peek(inbox, MESSAGES_READ) if self._bus else ()
        except NotFound:  # nobody has ever sent one
            return ()
        except (CoordinationError, ValueError, OverflowError, RecursionError) as error:
            # any program can write there; the agent does without what cannot be read
            log.line(f"the messages of {inbox} are left out: {error}")
            return ()

    def _check_history(self, grant: Grant, context: Callable[[], Mapping[str, Any]], start: str) -> None:
        """Ask git if the commit at which a todo starts has those of its predecessors in its repository."""
        if not self._signed_results.checks or not grant.spec.predecessors:
            return
        repo, predecessors = grant.spec.repo.name, context()["predecessors"]
        commits = [one["commit"] for one in predecessors if one["repo"] == repo and one["commit"]]
        if commits:
            place = self._served[repo]
            self._signed_results.check_history(grant, lambda: lacks_any(place, start, commits))

    def _send_reopened(self, grant: Grant, tip: str, base: str) -> None:
        branch = run_branch(grant.run_id, self.context.brief(grant.run_id).branch_prefix)
        self.transfer.send_reopened(grant, branch, tip, base)

    def _withdraw(self, grant: Grant, brief: RunBrief) -> None:
        """Delete the branches that the run has pushed of the repository. Raises NotCarried."""
        signed = partial(self._read_signed, grant)

        def own_tips(pushed: Collection[str]) -> Collection[str]:
            return self._signed_results.deletable_tips(grant, brief, pushed, signed)

        self.transfer.withdraw(grant, (grant.run_id, *brief.lineage.takes_up), own_tips)

    def _read_signed(self, grant: Grant, todos: Sequence[str]) -> Mapping[str, str]:
        return self._store.handed_over(grant.run_id, [], signed=todos).signed

    def _base_of(self, grant: Grant, brief: RunBrief) -> Callable[[], RunBase] | None:
        repo, url = grant.spec.repo, grant.spec.repo.url
        if not url or brief.lands_locally:
            return None
        access = partial(self._access, grant.run_id, repo.name, url, Purpose.READ)
        return partial(base_at_remote, repo, self._served[repo.name], access)

    def _home(self, run_id: str, repo: str) -> Path | None:
        """Return the checkout of a repository if the run works on it on this host, else None. Always None in
        a restricted worker, which may not read the host.
        """
        if self._change_sets is None:
            return None
        meta = self._store.keys.run(run_id).meta
        host = until_answered(lambda: self._store.redis.hget(meta, f"{HOST}{repo}"))
        return self._served.get(repo) if host == self._worker.host else None

    def _record_secrets(self, grant: Grant, names: Sequence[str]) -> None:
        ids = (grant.run_id, grant.todo_id, grant.spec.repo.name)
        until_answered(lambda: self._store.secrets_read(*ids, self._worker.id, names))

    def _record_git(self, run_id: str, repo: str, name: str) -> None:
        until_answered(lambda: self._store.secrets_read(run_id, "", repo, self._worker.id, [name]))

    def _context_of(self, grant: Grant, log: Log) -> dict[str, Any]:
        context = until_answered(lambda: self.context.of(grant))
        for why in dict.fromkeys(one["why"] for one in context["predecessors"] if "why" in one):
            log.line(why)
        return context
