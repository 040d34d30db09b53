"""The signed order of a run in Redis, verified before anything of the run is parsed.

A run's key `order` holds `header` (an envelope), `block <n>`, the parts of the brief that restricted workers
read (`part`, `part <repo>`), and the envelopes of operations (`rollback`, `approve <todo>`). A run without a
header is unsigned.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property

from coordination.backend.address import is_own_socket
from coordination.errors import NotTrusted, TrustCause
from coordination.models import LandAction, Signatures, is_of_landing, merges_request
from coordination.planner.gates import MILESTONE_REPO, needs_approval
from coordination.runs.attempt_store import AttemptStore, PredecessorOutput, check_output
from coordination.runs.records import BriefPart, ByPerson, OrderedBrief, OrderedSpec, RunBrief, TodoSpec
from coordination.settings import Settings
from coordination.trust.break_glass import open_emergency
from coordination.trust.envelope import check_times, open_envelope
from coordination.trust.orders import (
    OPERATION,
    ORDER,
    Audience,
    Operation,
    OperationKind,
    RunOrder,
    broken,
    digest,
    foreign,
    parsed,
    read_operation,
    read_order,
)
from coordination.trust.results import RESULT, ResultRecord, open_result
from coordination.trust.rights import Right, right_of
from coordination.trust.trust_file import Principal, TrustFile

TAMPERED = frozenset({TrustCause.BROKEN, TrustCause.FOREIGN, TrustCause.WRONG_TYPE})
"""Causes that prove a change of the run's records: they must not be used."""
HEADER, PART = "header", "part"
LARGEST = 8 * 1024 * 1024
"""Greatest size of a header, block or part, in bytes; a header of 50,000 todos has 30 kB."""


def signatures_in_force(settings: Settings, url: str) -> Signatures:
    """Return the signatures that a worker of this machine demands: those of the setting; without one, none on
    this user's own server, else warnings.
    """
    return settings.signatures or (Signatures.OFF if is_own_socket(url) else Signatures.WARN)


def block_field(index: int) -> str:
    return f"block {index}"


def part_field(repo: str) -> str:
    return f"{PART} {repo}"


def operation_field(kind: OperationKind, todo: str = "") -> str:
    return f"{kind} {todo}".rstrip()


@dataclass(frozen=True, kw_only=True)
class SignedOperation:
    operation: Operation
    principal: Principal


@dataclass(frozen=True, kw_only=True)
class Head:
    """The commit of a repository on which a todo builds, as recorded in Redis."""

    repo: str
    commit: str
    todo: str
    """The predecessor that left it."""
    doubt: NotTrusted | None = None
    """Reason why the work up to it is not covered by results that were verified here."""

    @property
    def tampered(self) -> bool:
        return self.doubt is not None and self.doubt.cause in TAMPERED


def commits_of(heads: Iterable[Head]) -> dict[str, str]:
    """Return repository → commit."""
    return {head.repo: head.commit for head in heads if head.commit}


@dataclass(kw_only=True)
class SignedRun:
    """The order of one run, verified by a trust file. Methods raise NotTrusted, or MissingRight where the
    signer may not do it.
    """

    store: AttemptStore
    run_id: str
    trust: TrustFile
    here: Audience
    restricted: bool = False
    """True for a restricted worker, which may not read the whole brief."""
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    _blocks: dict[int, Mapping[str, str]] = field(default_factory=dict)

    @cached_property
    def _raw_header(self) -> str | None:
        """Return the envelope of the order; None without one: a run gets none after its submission."""
        return self.read_fields([HEADER])[0]

    @cached_property
    def _header(self) -> tuple[RunOrder, str, Principal, str]:
        raw = self._raw_header
        if raw is None:
            hint = "its submitter has no identity: coord identity init; then submit it again"
            raise NotTrusted(TrustCause.UNSIGNED, f"the order of run {self.run_id} is not signed", hint)
        verified = open_envelope(raw.encode(), ORDER, self.trust, now=self.now())
        order = read_order(verified.payload, run=self.run_id, here=self.here, now=self.now())
        return order, digest(verified.payload), verified.principal, verified.fingerprint

    @property
    def order(self) -> RunOrder:
        """Return the header; its times are checked each time."""
        order = self._header[0]
        if not self._is_imported:
            self.here.check_server("order", order)
        check_times("the order", order.issued_at, order.expires_at, self.now())
        return order

    @cached_property
    def _is_imported(self) -> bool:
        """Return whether an administrator has imported the run of another server into this one."""
        if self._header[0].server == self.here.server:
            return False
        (text,) = self.read_fields([operation_field(OperationKind.IMPORT)])
        if text is None:
            return False
        signed = self.open_operation(text, {self.run_id}, {OperationKind.IMPORT})
        self.here.check_server("signed import", signed.operation)
        self.trust.check(signed.principal, right_of(signed.operation.operation), None)
        return True

    @property
    def digest(self) -> str:
        return self._header[1]

    @property
    def principal(self) -> Principal:
        """Return the person or program that ordered the run."""
        return self._header[2]

    @property
    def fingerprint(self) -> str:
        return self._header[3]

    @cached_property
    def brief(self) -> RunBrief:
        """Return the brief, as it was signed; a restricted worker gets the parts of its repositories."""
        if self.restricted:
            return self._brief_of_parts()
        text = self.store.brief_json(self.run_id)
        self._check_brief(text)
        return parsed(OrderedBrief, text, f"the brief of run {self.run_id}")

    def _brief_of_parts(self) -> RunBrief:
        """Return the signed parts of the brief. The maintenance leader states which todos the predecessors
        build on; `check_start` compares the predecessors themselves.
        """
        order, unsigned = self.order, self.store.brief(self.run_id)
        repos = sorted(set(unsigned.repo_of.values()))
        common, *texts = (text or "" for text in self.read_fields([PART, *map(part_field, repos)]))
        if not {digest(text) for text in (common, *texts)} <= set(order.parts):
            raise broken(f"a part of the brief of run {self.run_id} is not the one that was signed")
        what = f"the brief of run {self.run_id}"
        parts = [parsed(BriefPart, text, what) for text in texts]
        if [part.repo for part in parts] != repos:
            raise foreign(f"{what} has parts of other repositories")
        brief = parsed(OrderedBrief, common, what)
        return brief.model_copy(
            update={
                "predecessors": unsigned.predecessors,
                "repo_of": unsigned.repo_of,
                "origins": {part.repo: part.origin for part in parts if part.origin},
                "lineage": brief.lineage.model_copy(
                    update={"repos": {part.repo: part.start for part in parts}}
                ),
            }
        )

    def authorized_spec(self, todo: str, text: str) -> TodoSpec:
        """Return the spec of a todo from its stored text, if it was signed and its repository is one in which
        the signer may order it.
        """
        spec = self.signed_spec(todo, text)
        needs_land = is_of_landing(spec.todo.action) or is_of_landing(spec.todo.compensate)
        if needs_land and right_of(self.order.operation) is not Right.LAND:
            raise foreign(f"{todo} lands or reverts a change set, and was ordered as {self.order.operation}")
        for repo in sorted(self._repos_of(todo, spec)):
            self.check_right(self.principal, self.order, repo)
        for one in spec.reads:
            self.check_right(self.principal, self.order, one.repo, Right.SEE_FILES)
        if isinstance(spec.todo.action, LandAction) and spec.todo.action.overrides:
            self.check_right(self.principal, self.order, spec.repo.name, Right.OVERRIDE)
        if merges_request(spec.todo.action):
            self.check_right(self.principal, self.order, spec.repo.name, Right.MERGE)
        return spec

    def _repos_of(self, todo: str, spec: TodoSpec) -> set[str]:
        """Return the repositories that a todo works in or reads: its own, and those of all todos before it,
        whose commits are checked out for it.
        """
        brief, repos = self.brief, {spec.repo.name, *spec.predecessors.values()}
        if self.principal.missing(right_of(self.order.operation), self._all_repos):
            repos |= {brief.repo_of[name] for name in brief.ancestors(todo)}
        return repos - {MILESTONE_REPO}

    @cached_property
    def _all_repos(self) -> frozenset[str]:
        return frozenset(self.brief.repo_of.values())

    def signed_spec(self, todo: str, text: str) -> TodoSpec:
        """Return the spec of a todo from its stored text, if it was signed; the rights of the signer are not
        checked.
        """
        self._check_leaf(todo, text)
        spec = parsed(OrderedSpec, text, f"the spec of {todo}")
        if spec.todo.id != todo:
            raise foreign(f"the spec of {todo} is one of {spec.todo.id}")
        return spec

    def check_records(self, brief_json: str, specs: Mapping[str, str]) -> None:
        """Check that the stored brief and specs of the whole run are those that were signed."""
        self._check_brief(brief_json)
        for todo, text in specs.items():
            self._check_leaf(todo, text)

    def _check_brief(self, text: str) -> None:
        if digest(text) != self.order.brief:
            raise broken(f"the brief of run {self.run_id} is not the one that was signed")

    def _check_leaf(self, todo: str, text: str) -> None:
        if self._leaves(self.order.block_of(todo)).get(todo) != digest(text):
            raise broken(f"the spec of {todo} is not the one that was signed for run {self.run_id}")

    def heads(self, todo: str) -> list[Head]:
        """Return the commits on which a todo builds now, one for each repository: that of the predecessor
        which was settled last there. All predecessors are compared with their signed results.
        """
        brief, found = self.brief, dict[str, Head]()
        if not (before := sorted(brief.ancestors(todo))):
            return []
        inputs = self.store.handed_over(self.run_id, before, signed=before)
        for one in sorted(inputs.todos, key=lambda one: one.fence):
            repo = brief.repo_of[one.todo]
            head = found.get(repo) or Head(repo=repo, commit="", todo=one.todo)
            doubt = head.doubt or self._doubt_of(one, inputs.signed.get(one.todo, ""))
            last = {"commit": one.commit, "todo": one.todo} if one.commit else {}
            found[repo] = replace(head, doubt=doubt, **last)
        return [found[repo] for repo in sorted(found) if found[repo].commit or found[repo].tampered]

    def _doubt_of(self, output: PredecessorOutput, signed: str) -> NotTrusted | None:
        """Return why the result of a predecessor is not the one that a trusted worker signed."""
        if output.todo in self.brief.by_hand and not output.commit:
            return None
        try:
            record = open_result(signed, self.trust, self.now())
            self.check_origin(record)
            check_output(output, record, self.brief)
        except NotTrusted as doubt:
            return doubt
        return None

    def check_start(self, todo: str, spec: TodoSpec) -> None:
        """Check the signed decisions of persons without which the todo must not start."""
        brief = self.brief
        if {name: brief.repo_of.get(name) for name in brief.predecessors.get(todo, ())} != spec.predecessors:
            raise foreign(f"{todo} of run {self.run_id} has other predecessors than those that were signed")
        if needs_approval(spec.todo):
            self._check_decision(todo, spec, ByPerson.of(spec.todo))
        for name, by_person in spec.by_person.items():
            if name not in self.order.done:
                self._check_decision(name, spec, by_person)

    def check_answer(self, todo: str, repo: str, answer: str) -> None:
        """Check that a person who may approve the todo gave this answer to the question of its agent."""
        signed = self.operation(OperationKind.APPROVE, todo, repo)
        if signed is None:
            what = f"no signed answer to {todo} of run {self.run_id}"
            raise NotTrusted(TrustCause.UNSIGNED, what, "answer it with an identity: coord identity init")
        if signed.operation.comment != answer:
            raise foreign(f"the answer to {todo} is not the one that was signed")

    def check_order(self, repo: str) -> None:
        """Check that the signer may order todos of a repository."""
        self.check_right(self.principal, self.order, repo)

    @property
    def signer(self) -> str:
        """Return the name, kind and key of the person or program that ordered the run."""
        return f"{self.principal.name} ({self.principal.kind}), key {self.fingerprint}"

    def demands_sandbox(self, repo: str) -> bool:
        """Return whether the signer's role demands a sandbox for the todos that the signer orders in a
        repository.
        """
        return self.principal.confined(right_of(self.order.operation), repo)

    def check_decision(self, todo: str) -> None:
        """Check the signed decision by which a person settled a manual todo or milestone of the run."""
        text = self.store.redis.hget(self.store.keys.run(self.run_id).spec, todo)
        self.check_completion(todo, self.signed_spec(todo, text or ""))

    def check_completion(self, todo: str, spec: TodoSpec) -> None:
        """Check the same for a todo whose spec is known."""
        if todo not in self.order.done:
            self._check_decision(todo, spec, ByPerson.of(spec.todo))

    def operation(self, kind: OperationKind, todo: str, repo: str) -> SignedOperation | None:
        """Return the signed operation of this kind on a todo, whose signer may do it in that repository; None
        if there is none.
        """
        (text,) = self.read_fields([operation_field(kind, todo)])
        if text is None:
            return None
        signed = self.open_operation(text, {self.run_id}, {kind})
        if signed.operation.todo != todo:
            raise foreign(f"the signed {kind} of {todo} is one of {signed.operation.todo}")
        self.check_right(signed.principal, signed.operation, repo)
        return signed

    def _check_decision(self, todo: str, spec: TodoSpec, by_person: ByPerson) -> None:
        """Check the approval of a gate, or that a person with the right to do so completed a manual todo."""
        kinds = {OperationKind.APPROVE, OperationKind.COMPLETE}
        texts = self.read_fields([operation_field(kind, todo) for kind in sorted(kinds)])
        text = next((text for text in texts if text is not None), None)
        if text is None:
            if by_person.approved_after and self.now() >= self.order.issued_at + by_person.approved_after:
                return
            what = f"no signed approval of {todo} of run {self.run_id}"
            raise NotTrusted(TrustCause.UNSIGNED, what, "approve it with an identity: coord identity init")
        signed = self.open_operation(text, {self.run_id, *self.brief.lineage.takes_up}, kinds)
        if signed.operation.todo != todo:
            raise foreign(f"the approval of {todo} is one of {signed.operation.todo}")
        repo = spec.predecessors.get(todo, spec.repo.name)
        self.check_right(
            signed.principal, signed.operation, spec.repo.name if repo == MILESTONE_REPO else repo
        )
        if (self.order.two_persons or by_person.two_persons) and signed.principal.name == self.principal.name:
            raise foreign(f"{self.principal.name} ordered run {self.run_id} and may not approve {todo} of it")
        heads = self.heads(todo)
        if signed.operation.heads != commits_of(heads):
            what = f"the approval of {todo} is for other commits than those of its predecessors"
            raise NotTrusted(TrustCause.FOREIGN, what, f"retry the run: coord retry {self.run_id}")
        if doubts := [head.doubt for head in heads if head.doubt]:
            raise doubts[0]

    def check_origin(self, result: ResultRecord) -> None:
        """Check that a result was signed on this server, or on the one where the run was ordered."""
        self.here.check_origin(RESULT, result, also=self.order.server)

    def open_operation(self, text: str, runs: set[str], kinds: set[OperationKind]) -> SignedOperation:
        """Return the operation in an envelope, if it is one of these kinds on one of these runs."""
        verified = open_envelope(text.encode(), OPERATION, self.trust, now=self.now())
        operation = read_operation(verified.payload, runs=runs, here=self.here, now=self.now(), kinds=kinds)
        if operation.run == self.run_id and operation.order != self.digest:
            raise foreign(f"the signed {operation.operation} is for another order of run {self.run_id}")
        if operation.run != self.run_id:
            also = self._header[0].server
            self.here.check_server(f"signed {operation.operation}", operation, also=also)
        return SignedOperation(operation=operation, principal=verified.principal)

    def check_right(
        self, principal: Principal, signed: RunOrder | Operation, repo: str, right: Right | None = None
    ) -> None:
        """Check that the signer has a right in a repository (default: the one that the operation needs), also
        by emergency access while that lasts.
        """
        right = right or right_of(signed.operation)
        if signed.break_glass and principal.missing(right, [repo]):
            open_emergency(signed.break_glass.encode(), self.trust, principal, self.now())
            self.trust.check(principal, right, [repo], emergency=True)
        else:
            self.trust.check(principal, right, [repo])

    def _leaves(self, index: int) -> Mapping[str, str]:
        if index not in self._blocks:
            (block,) = self.read_fields([block_field(index)])
            self._blocks[index] = self.order.leaves(index, block)
        return self._blocks[index]

    def read_fields(self, fields: list[str]) -> list[str | None]:
        """Return fields of the stored order, unverified."""
        found = self.store.signed(self.run_id, fields)
        if any(text is not None and len(text) > LARGEST for text in found):
            raise broken(f"the order of run {self.run_id} has a field of more than {LARGEST} bytes")
        return found
