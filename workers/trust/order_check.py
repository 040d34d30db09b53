"""Check the order of everything that this worker is to execute, before any of it is parsed or started.

Under `require` a refused todo fails. Under `warn` the worker logs the refusal and executes the todo. Under
`off`, and under `warn` without a trust file, nothing is read and nothing is checked.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Collection
from contextlib import suppress
from datetime import UTC, datetime

from pydantic import ValidationError

from coordination.ecosystem.changes import RunOutcome
from coordination.errors import CoordinationError, NotAllowed, Unreadable, Unsafe
from coordination.runs.cleanup_jobs import CleanupJob
from coordination.runs.records import RunBrief
from coordination.runs.replies import Grant
from coordination.runs.signed.orders import SignedRun
from coordination.runs.signed.results import check_undo, confirm
from coordination.runs.store import RunStore
from coordination.trust.envelope import open_envelope
from coordination.trust.orders import OPERATION, OperationKind, foreign, read_operation
from coordination.trust.rights import right_of
from workers.trust.worker_trust import WorkerTrust

RUNS_KEPT = 16
"""Runs whose verified order is kept: the ones used last."""

logger = logging.getLogger(__name__)


def is_refusal(error: CoordinationError) -> bool:
    """Return whether the order is at fault, and not the trust file of this machine."""
    return isinstance(error, NotAllowed | Unreadable) and not isinstance(error, Unsafe)


def _unreadable(grant: Grant, brief_of: Callable[[str], RunBrief]) -> CoordinationError | None:
    """Return why nobody can execute the todo, where its spec or the brief of its run cannot be parsed: else
    each attempt would end as a lost lease.
    """
    what = f"the spec of {grant.todo_id}"
    try:
        _ = grant.spec
        what = f"the brief of run {grant.run_id}"
        brief_of(grant.run_id)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        why = f"{what} cannot be read: {'.'.join(map(str, first['loc']))}: {first['msg']}"
        return Unreadable(why, "somebody changed it in Redis; start a new run: coord sweep")
    except CoordinationError as refused:
        return refused
    return None


class OrderCheck:
    def __init__(
        self,
        store: RunStore,
        trust: WorkerTrust,
        *,
        restricted: bool,
        repos: Callable[[], Collection[str]] = tuple,
        report: Callable[[str, str, str], object] = lambda *_: None,
    ) -> None:
        """`repos` returns the repositories that are served. `report` announces a refusal: subject, why,
        run.
        """
        self._store = store
        self._trust = trust
        self._restricted = restricted
        self._repos = repos
        self._report = report
        self._guard = threading.Lock()
        self._runs: OrderedDict[str, SignedRun] = OrderedDict()

    def brief(self, run_id: str) -> RunBrief:
        """Return the brief of a run, verified where signatures are required. Raises NotAllowed."""
        if self._trust.checks:
            try:
                return self._run(run_id).brief
            except CoordinationError:
                if self._trust.requires:
                    raise
        return self._store.brief(run_id)

    def refusal(self, grant: Grant, brief_of: Callable[[str], RunBrief]) -> CoordinationError | None:
        """Return why the todo must not, or cannot, be executed; None if it may. `is_refusal` tells which
        refusals are final. `brief_of` reads the brief of a run.
        """
        if self._trust.checks:
            try:
                self._verify(grant)
            except CoordinationError as refused:
                if self._trust.requires:
                    return refused
                self._trust.warn(grant, refused.message)
        return _unreadable(grant, brief_of)

    def name_signer(self, grant: Grant, write_line: Callable[[str], object]) -> None:
        """Name in the logs of the todo and of this worker who ordered it, if the signature was verified."""
        if not self._trust.checks:
            return
        with suppress(CoordinationError):  # under `warn`, a run without a valid signature is executed
            by = self._run(grant.run_id).signer
            write_line(f"ordered by {by}")
            logger.info("%s of run %s was ordered by %s", grant.todo_id, grant.run_id, by)

    def demands_sandbox(self, grant: Grant) -> bool:
        """Return whether the role of the person who ordered the todo demands a sandbox for it. An order that
        cannot be verified, and is executed because nothing requires that, demands none.
        """
        if not self._trust.checks:
            return False
        try:
            return self._run(grant.run_id).demands_sandbox(grant.spec.repo.name)
        except CoordinationError:  # the trust file has changed since the order was verified
            return self._trust.requires

    def refuse_job(self, job: CleanupJob) -> None:
        """Raise NotAllowed for a job to remove files without the signed order of a person who may clean."""
        if not self._trust.checks:
            return
        try:
            self._verify_job(job)
        except CoordinationError as refused:
            if self._trust.requires:
                self._report("clean", refused.message, "")
                raise
            logger.warning("signatures: the cleanup job %s: %s", job.id, refused.message)

    def confirm_outcome(self, run_id: str, file: str, outcome: RunOutcome) -> tuple[RunOutcome, str]:
        """Return what may be written of the outcome of a run into the ecosystem file with this digest, and
        the reason why that is not all. Raises Unsafe and UsageError where the trust file cannot be used.
        """
        if not self._trust.checks:
            return outcome, ""
        try:
            found, why = confirm(self._run(run_id), outcome, file)
        except CoordinationError as unusable:
            if self._trust.requires:
                raise
            found, why = outcome, unusable.message
        if not why:
            return found, ""
        if self._trust.requires:
            self._report("write_back", why, run_id)
            return found, f"not confirmed by signatures: {why}"
        logger.warning("signatures: results of run %s are written unconfirmed: %s", run_id, why)
        return outcome, ""

    def _verify_job(self, job: CleanupJob) -> None:
        trust, now = self._trust.read(), datetime.now(UTC)
        verified = open_envelope(job.signed.encode(), OPERATION, trust, now=now)
        kinds, namespace = {OperationKind.CLEAN, OperationKind.DISCARD}, self._store.keys.namespace
        operation = read_operation(verified.payload, runs={""}, namespace=namespace, now=now, kinds=kinds)
        if not job.is_covered_by(operation.job):
            raise foreign("the signature of the cleanup job is for another one")
        if operation.operation is not OperationKind.DISCARD:
            trust.check(verified.principal, right_of(operation.operation), self._repos())
            return
        if job.runs != () or not all(one.keep for one in job.sets):
            raise foreign("the order to discard change sets is said to remove something else")
        repos = {one.repo for one in job.sets} & set(self._repos())
        trust.check(verified.principal, right_of(operation.operation), repos)

    def _verify(self, grant: Grant) -> None:
        run = self._run(grant.run_id)
        spec = run.authorized_spec(grant.todo_id, grant.spec_json)
        if grant.undo is None:
            run.check_start(grant.todo_id, spec)
        elif grant.undo.run not in (grant.run_id, *run.brief.carried_from):
            raise foreign(f"{grant.todo_id} is said to have been executed by run {grant.undo.run!r:.100}")
        else:
            check_undo(run, grant.todo_id, spec)

    def _run(self, run_id: str) -> SignedRun:
        trust = self._trust.read()
        with self._guard:
            known = self._runs.get(run_id)
            if known is None or known.trust is not trust:
                known = SignedRun(store=self._store, run_id=run_id, trust=trust, restricted=self._restricted)
            self._runs[run_id] = known
            self._runs.move_to_end(run_id)
            while len(self._runs) > RUNS_KEPT:
                self._runs.popitem(last=False)
            return known
