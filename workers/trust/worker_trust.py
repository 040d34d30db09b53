"""The trust of a worker: its own key, the keys that it trusts, the check of orders, and warnings of expiry.

The worker's key is made at its first start (trust/identity.py), and signs in this process. The setting
`signatures` decides what a missing or wrong signature leads to: `off` checks none, `warn` logs it once for
each reason in a run (if the machine has a trust file), `require` refuses. The order of everything that this
worker is to execute is checked before any of it is parsed or started.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from pydantic import ValidationError

from coordination.credentials.store import CredentialStore, credentials_file
from coordination.ecosystem.changes import RunOutcome
from coordination.errors import CoordinationError, NotAllowed, NotTrusted, TrustCause, Unreadable, Unsafe
from coordination.files import locked, make_private, real_path, replace_file
from coordination.models import LandAction, RevertAction, ServiceAction, Signatures
from coordination.runs.attempt_store import AttemptStore, Grant
from coordination.runs.cleanup_jobs import CleanupJob
from coordination.runs.records import RunBrief, TodoSpec
from coordination.runs.signed.orders import SignedRun
from coordination.runs.signed.results import check_undo, confirm
from coordination.settings import Settings
from coordination.trust.administration import expiring_keys
from coordination.trust.envelope import open_envelope
from coordination.trust.identity import known_fingerprint, worker_identity
from coordination.trust.keys import Signer
from coordination.trust.orders import OPERATION, Audience, OperationKind, foreign, read_operation
from coordination.trust.results import trusting_own
from coordination.trust.rights import right_of
from coordination.trust.trust_file import TrustFile, read_trust
from workers.trust.order_memory import OrderMemory

WARNINGS_KEPT = 1000
RUNS_KEPT = 16
VERIFIED_KEPT = 10_000
"""Runs that are looked at until they end: 100 bytes each."""
"""Runs whose verified order is kept: the ones used last."""
EXPIRY_EVERY_S = 3600.0
EXPIRY_FILE = "expiry.json"
EXPIRY_FILE_BYTES = 1024 * 1024

logger = logging.getLogger(__name__)


class WorkerKey:
    """The key of the workers with a state folder, loaded or made when it is needed first."""

    def __init__(self, state: Path, host: str) -> None:
        self._state = state
        self._host = host
        self._signer: Signer | None = None

    def refuse_in_repository(self, places: Mapping[str, Path]) -> None:
        """Raise Unsafe if the key would lie in a repository: its todos read it, and it may be committed."""
        folder = self._state.resolve()
        for repo, place in places.items():
            if folder.is_relative_to(real_path(place)):
                raise Unsafe(
                    f"the worker's key would lie in the repository {repo}: {folder} is in {place}",
                    "start the worker outside the repositories, or move ecosystem.yaml out of them",
                )

    def load(self) -> Signer:
        """Return the key. Raises CoordinationError, for example if the disk is full."""
        if self._signer is None:
            self._signer = worker_identity(self._state, f"worker@{self._host}")
        return self._signer

    def fingerprint(self, *, load: bool) -> str:
        """Return the fingerprint of the key, which is made if there is none; empty if it cannot be, which the
        log says. Without `load`, a key that exists is not loaded before the first result: cryptography takes
        7 MB.
        """
        if not load and (known := known_fingerprint(self._state)):
            return known
        signer = self.load_or_log()
        return signer.fingerprint if signer else ""

    def load_or_log(self) -> Signer | None:
        try:
            return self.load()
        except CoordinationError as error:
            logger.warning("results are not signed: %s", error.message)
            return None


class WorkerTrust:
    """The trust file as it is now, with the worker's own key, and the setting `signatures`. Any thread may
    call it.
    """

    def __init__(
        self, path: Path, own: WorkerKey, repos: Callable[[], Collection[Path]], mode: Signatures
    ) -> None:
        """`repos` returns the folders in which the trust file must not lie."""
        self._path = path
        self._own = own
        self._repos = repos
        self._mode = mode
        self._seen: object = None
        self._read = TrustFile()
        self._warned: set[tuple[str, str]] = set()
        """Run and reason."""
        self._guard = threading.Lock()

    def sign_on(self, places: Mapping[str, Path]) -> None:
        """Log what this worker demands of signatures, and make its key, if it serves repositories.

        `places`: repository → its folder. Raises Unsafe where signatures are required and the key would not
        be safe.
        """
        try:
            self._own.refuse_in_repository(places)
        except Unsafe as unsafe:
            if self.requires:
                raise
            logger.info("%s", unsafe.message)
        if places and (fingerprint := self._own.fingerprint(load=self.requires)):
            logger.info("results are signed with %s", fingerprint)
        level, absent = logging.INFO, ""
        if not self._path.exists():
            absent = ", which does not exist"
            level = logging.INFO if self._mode is Signatures.OFF else logging.WARNING
        logger.log(level, "signatures: %s; trust file %s%s", self._mode, self._path, absent)

    @property
    def checks(self) -> bool:
        """Return whether signatures are looked at."""
        return self.requires or (self._mode is Signatures.WARN and self._path.exists())

    @property
    def requires(self) -> bool:
        return self._mode is Signatures.REQUIRE

    def read(self) -> TrustFile:
        """Return the trust file, the same object until it changes. Raises Unsafe or UsageError."""
        with self._guard:
            try:
                status = self._path.stat()
                seen: object = (status.st_ino, status.st_mtime_ns, status.st_size, status.st_mode)
            except OSError:  # without a file, a machine that requires no signatures trusts its own worker
                seen = ()
            if seen != self._seen:
                found = self.read_file()
                own = self._own.load_or_log()
                self._read, self._seen = trusting_own(found, own) if own else found, seen
            return self._read

    def read_file(self) -> TrustFile:
        """Return the trust file without the worker's own key. Raises Unsafe or UsageError."""
        # `require` without a file is an error of this machine: its todos wait for the file
        reads = self.requires or self._path.exists()
        return read_trust(self._path, self._repos()) if reads else TrustFile()

    def warn(self, grant: Grant, why: str) -> None:
        """Log a refusal that changes nothing: once for each reason in a run."""
        with self._guard:
            if (grant.run_id, why) in self._warned:
                return
            if len(self._warned) == WARNINGS_KEPT:
                self._warned.clear()
            self._warned.add((grant.run_id, why))
        todo = f"{grant.todo_id} of run {grant.run_id}"
        logger.warning("signatures: %s; COORD_SIGNATURES=require would refuse %s", why, todo)


class ExpiryWatch:
    """Announce keys, credentials and the certificate of this machine that expire soon or have expired.

    A periodic job of each worker (cleanup/jobs.py). Each fact is announced once: the state folder keeps the
    announced facts for all workers of the machine.
    """

    def __init__(
        self,
        settings: Settings,
        state: Path,
        trust: Callable[[], TrustFile],
        announce: Callable[[str, str], object],
    ) -> None:
        """`trust` returns the trust file. `announce` writes an event: the fact, and the next command."""
        self._settings = settings
        self._file = state / EXPIRY_FILE
        self._trust = trust
        self._announce = announce
        self._next = 0.0

    def run_once(self, now: datetime | None = None) -> list[str]:
        """Announce new facts; return them. Looks at most once an hour, unless `now` is given. A source that
        cannot be read is skipped: `coord doctor` says why.
        """
        if now is None and time.monotonic() < self._next:
            return []
        self._next = time.monotonic() + EXPIRY_EVERY_S
        facts = dict(self._facts(now or datetime.now(UTC)))
        if not facts and not self._file.exists():
            return []
        make_private(self._file.parent)
        with locked(self._file.with_suffix(".lock")):
            new = sorted(facts.keys() - self._announced())
            for fact in new:
                self._announce(fact, facts[fact])
            replace_file(self._file, json.dumps(sorted(facts)).encode(), durable=False)
        return new

    def _facts(self, now: datetime) -> Iterator[tuple[str, str]]:
        for source in (self._keys, self._credentials, self._certificate):
            try:
                yield from source(now)
            except CoordinationError as error:
                logger.debug("expiry: %s", error.message)

    def _keys(self, now: datetime) -> Iterator[tuple[str, str]]:
        yield from expiring_keys(self._trust(), now)

    def _credentials(self, now: datetime) -> Iterator[tuple[str, str]]:
        for credential in CredentialStore(credentials_file()).all():
            if words := credential.expiry_words(now):
                yield words, f"coord credential rotate {credential.name} REFERENCE --expires DATE"

    def _certificate(self, now: datetime) -> Iterator[tuple[str, str]]:
        if self._settings.tls_certificate is None:
            return
        from coordination.operations.listening import look_at_certificate

        found = look_at_certificate(self._settings, now)
        if found is not None and (found.problem or found.soon):
            words = found.problem or f"the certificate {found.path} expires at {found.expires}"
            yield words, found.hint or "renew it"

    def _announced(self) -> set[str]:
        try:
            with self._file.open("rb") as opened:
                found = json.loads(opened.read(EXPIRY_FILE_BYTES))
        except (OSError, ValueError):
            return set()
        return {str(fact) for fact in found} if isinstance(found, list) else set()


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
        store: AttemptStore,
        trust: WorkerTrust,
        *,
        restricted: bool,
        here: Callable[[], Audience],
        repos: Callable[[], Collection[str]] = tuple,
        report: Callable[[str, str, str], object] = lambda *_: None,
        confines_all: bool = False,
        urls: Callable[[str], Collection[str]] = lambda _: (),
        repos_of_service: Callable[[str], Collection[str]] = lambda _: (),
        memory: OrderMemory | None = None,
    ) -> None:
        """`here` returns the audience whose orders are executed; `repos` the repositories that are served.
        `report` announces a refusal: subject, why, run. `confines_all`: this worker executes nothing outside
        of a sandbox. `urls` returns the addresses that this machine has for a repository, `repos_of_service`
        the repositories whose service of this name this machine knows. `memory`: the orders that have ended;
        None where signatures are not required.
        """
        self._store = store
        self._trust = trust
        self._restricted = restricted
        self._here = here
        self._repos = repos
        self._report = report
        self._confines_all = confines_all
        self._urls = urls
        self._repos_of_service = repos_of_service
        self._memory = memory
        self._guard = threading.Lock()
        self._runs: OrderedDict[str, SignedRun] = OrderedDict()
        self._verified: OrderedDict[str, float] = OrderedDict()
        """When the order of a run expires, for runs with a todo that was allowed to start."""

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
        """Return whether the role of the person who ordered the todo demands a sandbox for it. Only a
        verified order demands one.
        """
        if not self._trust.checks:
            return False
        try:
            return self._run(grant.run_id).demands_sandbox(grant.spec.repo.name)
        except CoordinationError:  # the trust file has changed since the order was verified
            return self._trust.requires

    def ordered_on(self, run_id: str) -> str:
        """Return the server on which a run was ordered, also if it was imported here; empty without a valid
        order.
        """
        try:
            return self._run(run_id).order.server
        except CoordinationError:
            return ""

    def remember_ended(self, run_id: str) -> None:
        """Remember on this machine that a run has ended, if its order is valid; any other is refused anyway.
        Raises CoordinationError.
        """
        if self._memory is None:
            return
        if not self._memory.has_ended(run_id):
            try:
                order = self._run(run_id, keep=False).order
            except CoordinationError:
                return
            self._memory.note_ended(order)
        with self._guard:
            self._verified.pop(run_id, None)

    def verified_runs(self) -> Collection[str]:
        """Return the runs with todos that this worker has allowed to start, and which it does not know to
        have ended.
        """
        now = time.time()
        with self._guard:
            self._verified = OrderedDict((run, until) for run, until in self._verified.items() if until > now)
            return tuple(self._verified)

    def remember_landed(self, grant: Grant, change_set: str) -> None:
        """Remember on this machine that the order of the todo has landed or reverted a change set. Raises
        CoordinationError.
        """
        if self._memory is not None and grant.undo is None:
            order, repo = self._run(grant.run_id).order, grant.spec.repo.name
            self._memory.note_landed(order, self._here(), change_set, repo)

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
        kinds, here = {OperationKind.CLEAN, OperationKind.DISCARD}, self._here()
        operation = read_operation(verified.payload, runs={""}, here=here, now=now, kinds=kinds)
        here.check_server(f"signed {operation.operation}", operation)
        if not job.is_covered_by(operation.job):
            raise foreign("the signature of the cleanup job is for another one")
        if operation.operation is not OperationKind.DISCARD:
            trust.check(verified.principal, right_of(operation.operation), self._repos())
            return
        if job.runs != () or not all(one.keep for one in job.sets):
            raise foreign("the order to discard change sets also removes something else")
        repos = {one.repo for one in job.sets} & set(self._repos())
        trust.check(verified.principal, right_of(operation.operation), repos)

    def _verify(self, grant: Grant) -> None:
        run = self._run(grant.run_id)
        spec = run.authorized_spec(grant.todo_id, grant.spec_json)
        if self._confines_all or run.demands_sandbox(spec.repo.name):
            self._check_urls(run.brief, spec)
        if self._memory is not None and grant.undo is None:
            self._memory.refuse_ended(grant.run_id)
            if isinstance(spec.todo.action, LandAction | RevertAction):
                name = spec.todo.action.change_set
                self._memory.refuse_older(run.order, self._here(), name, spec.repo.name)
        if isinstance(action := grant.action, ServiceAction):
            self._check_service(run, action, spec.repo.name)
        if grant.undo is None:
            run.check_start(grant.todo_id, spec)
            if grant.question or grant.answer:
                run.check_answer(grant.todo_id, spec.repo.name, grant.answer)
        elif grant.undo.run not in (grant.run_id, *run.brief.lineage.takes_up):
            raise foreign(f"{grant.todo_id} is recorded as executed by run {grant.undo.run!r:.100}")
        else:
            check_undo(run, grant.todo_id, spec)
        if self._memory is not None and grant.undo is None:
            self._note_verified(run)

    def _note_verified(self, run: SignedRun) -> None:
        with self._guard:
            self._verified[run.order.run] = run.order.expires_at.timestamp()
            while len(self._verified) > VERIFIED_KEPT:
                self._verified.popitem(last=False)

    def _check_service(self, run: SignedRun, action: ServiceAction, repo: str) -> None:
        """Check that the service is one of the todo's repository, or that its signer may order todos of the
        repository that the service of this name has now: a start replaces it.
        """
        if action.service and (action.service.name, action.service.repo) != (action.name, repo):
            raise foreign(f"the order of service {action.name} in {repo} declares another service")
        for other in sorted(set(self._repos_of_service(action.name)) - {repo}):
            run.check_order(other)

    def _check_urls(self, brief: RunBrief, spec: TodoSpec) -> None:
        """Check that a confined todo is ordered with addresses that this machine has for its repositories:
        the worker fetches from them with its own login.
        """
        before = (brief.repo_of[name] for name in brief.ancestors(spec.todo.id))
        repos = {spec.repo.name, *spec.predecessors.values(), *before}
        named = {(repo, brief.origins[repo].url) for repo in repos if repo in brief.origins}
        named |= {(one.repo, one.url) for one in spec.reads if one.url}
        # an address may contain a token, so the reason does not show it
        for repo, url in sorted(named | ({(spec.repo.name, spec.repo.url)} if spec.repo.url else set())):
            if url not in self._urls(repo):
                raise NotTrusted(
                    TrustCause.FOREIGN,
                    f"{spec.todo.id} runs in a sandbox, and its order names an address of {repo} that this "
                    "machine does not have",
                    f"name it in the checkout: git remote add NAME URL; or as `url` of {repo} in the file of "
                    "the worker",
                )

    def _run(self, run_id: str, *, keep: bool = True) -> SignedRun:
        """Return the order of a run. `keep`: it is needed again; else the runs that are kept stay so."""
        trust = self._trust.read()
        with self._guard:
            known = self._runs.get(run_id)
            if known is None or known.trust is not trust:
                known = SignedRun(
                    store=self._store,
                    run_id=run_id,
                    trust=trust,
                    here=self._here(),
                    restricted=self._restricted,
                )
            if not keep:
                return known
            self._runs[run_id] = known
            self._runs.move_to_end(run_id)
            while len(self._runs) > RUNS_KEPT:
                self._runs.popitem(last=False)
            return known
