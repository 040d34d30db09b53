"""Somebody owns Redis: a worker that requires signatures executes what was ordered, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from coordination.environment import actor
from coordination.errors import NotAllowed, NotTrusted
from coordination.models import OnFailure, Verdict
from coordination.runs.cleanup_jobs import CleanupJob
from coordination.runs.connection import Connection
from coordination.runs.control import approvals, starting, steering
from coordination.runs.control.signing import with_signatures
from coordination.runs.logs import LogReader
from coordination.runs.maintenance.cleaning import Cleaning
from coordination.runs.signed.orders import SignedRun
from coordination.runs.submission import draft
from coordination.runs.views.records import RunView
from coordination.runs.views.run_view import RunReader
from coordination.settings import Settings
from coordination.trust.administration import TrustEditor
from coordination.trust.break_glass import declare_emergency, keep_emergency
from coordination.trust.orders import OperationKind, RunOrder, blocks_of, digest, times
from coordination.trust.trust_file import Kind, read_trust
from tests.contracts.run_harness import attempt_of
from tests.integration.conftest import MakeWorker
from tests.sandboxes import needs_bubblewrap
from tests.trusted import TTL, Persons, Trusting

Tamper = Callable[[Trusting], None]


@pytest.fixture
def site(make_worker: MakeWorker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Trusting:
    persons = Persons(tmp_path)
    monkeypatch.setenv("COORD_TRUST_FILE", str(persons.file))
    persons.trust(ann="submitter", bob="approver", eve="viewer", olaf={"submitter": ["r2"]})
    worker = make_worker("r1", "r2", settings=Settings(signatures="require"))
    return Trusting(worker, persons, tmp_path / "ledger")


def refused(site: Trusting, name: str = "A") -> str:
    """The error of a todo that the worker refused, after it was delivered; nothing was executed."""
    site.deliver(name)
    todo = site.todo(name)
    assert todo.state == "failed"
    assert site.executed == []
    assert len(site.refusals) == 1
    assert site.refusals[0] in (todo.error or "")
    return todo.error or ""


def test_a_run_of_a_person_who_may_order_it_is_executed(site: Trusting):
    site.sweep({"A": "r1", "B": ("r2", ["A"])})

    site.deliver("A")
    site.deliver("B", "r2")

    assert site.executed == ["A", "B"]
    assert site.refusals == []


@needs_bubblewrap
@pytest.mark.parametrize(("by", "confined"), [("agent", True), ("ann", False)])
def test_the_role_of_the_person_who_orders_demands_a_sandbox(site: Trusting, by: str, confined: bool):
    site.persons.trust(ann="submitter", agent="submitter")
    text = site.persons.file.read_text()
    rows = yaml.safe_load(text)["principals"]
    rows[1]["grants"][0]["sandbox"] = "bubblewrap"
    site.persons.file.write_text(yaml.safe_dump({"principals": rows}))
    site.sweep({"A": "r1"}, by, A={"action": f"test -e {site.ledger.parent}/keys", "sandbox": "off"})

    site.deliver("A")

    assert site.refusals == []
    assert site.todo("A").state == ("failed" if confined else "succeeded"), site.todo("A").error


def change_spec(site: Trusting) -> None:
    keys = site.store.keys.run(site.run_id)
    spec = json.loads(site.redis.hget(keys.spec, "A"))
    spec["todo"]["action"]["run"] = f"echo foreign >> {site.ledger}"
    site.redis.hset(keys.spec, "A", json.dumps(spec))


def add_field(site: Trusting) -> None:
    keys = site.store.keys.run(site.run_id)
    spec = json.loads(site.redis.hget(keys.spec, "A"))
    site.redis.hset(keys.spec, "A", json.dumps({**spec, "later": 1}))


def swap_todos(site: Trusting) -> None:
    keys = site.store.keys.run(site.run_id)
    site.redis.hset(keys.spec, "A", site.redis.hget(keys.spec, "B"))


def change_brief(site: Trusting) -> None:
    meta = site.store.keys.run(site.run_id).meta
    brief = json.loads(site.redis.hget(meta, "brief"))
    brief["agent_command"] = "sh"
    brief["origins"] = {"r1": {"url": "/tmp/elsewhere", "branch": "main"}}
    site.redis.hset(meta, "brief", json.dumps(brief))


def test_forged_runs_open_no_circuit_breaker(site: Trusting):
    needs: dict[str, Any] = {"capacities": {"db": 1}, "A": {"resources": ["db"]}}
    for _ in range(Settings().breaker_failures):
        site.sweep({"A": "r1"}, by=None, **needs)
        site.deliver("A")
        assert site.todo("A").state == "failed"

    site.sweep({"A": "r1"}, **needs)
    site.deliver("A")

    assert site.executed == ["A"]


@pytest.mark.parametrize("broken", ["spec", "brief"])
def test_a_spec_that_cannot_be_read_fails_at_once_and_opens_no_circuit_breaker(
    site: Trusting, make_worker: MakeWorker, broken: str
):
    site.worker = make_worker(settings=Settings(signatures="off"), r1=site.ledger.parent / "r1")
    needs: dict[str, Any] = {"capacities": {"db": 1}, "A": {"resources": ["db"]}}
    for _ in range(Settings().breaker_failures):
        site.sweep({"A": "r1"}, by=None, **needs)
        keys = site.store.keys.run(site.run_id)
        hash_, field = (keys.spec, "A") if broken == "spec" else (keys.meta, "brief")
        site.redis.hset(hash_, field, '{"todo": 1}')
        site.deliver("A")
        assert site.redis.hget(keys.state, "A") == "failed"
        attempt, error = site.redis.hmget(keys.facts, ["A attempt", "A error"])
        assert attempt == "1"
        assert "cannot be read" in error

    site.sweep({"A": "r1"}, by=None, **needs)
    site.deliver("A")

    assert site.executed == ["A"]
    assert site.refusals == []


def test_the_logs_of_todo_and_worker_name_who_ordered_it(site: Trusting, caplog: pytest.LogCaptureFixture):
    caplog.set_level("INFO", logger="workers.trust.worker_trust")
    site.sweep({"A": "r1"}, A={"action": "echo done"})
    site.deliver("A")

    (first, *_) = LogReader(site.redis, site.store.keys, site.run_id, ["A"]).written()
    by = f"ordered by ann (person), key {site.persons.signer('ann').fingerprint}"
    assert by in first.text
    assert f"A of run {site.run_id} was {by}" in caplog.text


def change_block(site: Trusting) -> None:
    order = site.store.keys.run(site.run_id).order
    site.redis.hset(order, "block 0", site.redis.hget(order, "block 0").replace('"A"', '"a"'))


def drop_signature(site: Trusting) -> None:
    site.redis.delete(site.store.keys.run(site.run_id).order)


def break_signature(site: Trusting) -> None:
    order = site.store.keys.run(site.run_id).order
    header = json.loads(site.redis.hget(order, "header"))
    header["payload"] = header["payload"][:40] + "AAAA" + header["payload"][44:]
    site.redis.hset(order, "header", json.dumps(header))


@pytest.mark.parametrize(
    ("tamper", "cause"),
    [
        (change_spec, "spec"),
        (add_field, "spec"),
        (swap_todos, "spec"),
        (change_brief, "brief"),
        (change_block, "block"),
        (drop_signature, "not signed"),
        (break_signature, "signature"),
    ],
)
def test_what_was_changed_in_redis_is_refused_and_reported(site: Trusting, tamper: Tamper, cause: str):
    site.sweep({"A": "r1", "B": "r2"})
    tamper(site)

    assert cause in refused(site)


@pytest.mark.parametrize(
    ("by", "cause"),
    [
        (None, "not signed"),
        ("mallory", "not in the trust file"),
        ("eve", "lacks the right sweep"),
        ("olaf", "lacks the right sweep for r1"),
    ],
)
def test_an_order_of_somebody_who_may_not_give_it_is_refused(site: Trusting, by: str | None, cause: str):
    site.sweep({"A": "r1"}, by)

    assert cause in refused(site)


def test_an_order_is_refused_after_its_time(site: Trusting):
    site.sweep({"A": "r1"}, ttl=timedelta(microseconds=1))

    assert "expired" in refused(site)


def test_a_copy_of_a_run_under_another_id_is_refused(site: Trusting):
    run = site.sweep({"A": "r1"})
    copy = f"{run[:-4]}copy"
    for key in site.redis.scan_iter(f"coord:run:{run}:*"):
        site.redis.copy(key, key.replace(run, copy))
    site.run_id = copy

    assert f"for run '{run}'" in refused(site)


def test_a_run_of_another_namespace_is_refused(site: Trusting, make_worker: MakeWorker):
    run = site.sweep({"A": "r1"})
    for key in list(site.redis.scan_iter(f"coord:run:{run}:*")):
        site.redis.rename(key, key.replace("coord:", "other:", 1))
    other = make_worker(
        settings=Settings(signatures="require", namespace="other"), r1=site.ledger.parent / "r1"
    )
    site.worker, site.store = other, other.store

    assert "namespace 'coord'" in refused(site)


def test_a_key_that_is_revoked_counts_no_longer_with_the_next_todo(site: Trusting):
    site.sweep({"A": "r1", "B": ("r2", ["A"])})
    site.deliver("A")
    site.persons.trust(bob="approver")

    site.deliver("B", "r2")

    assert site.executed == ["A"]
    assert "not in the trust file" in (site.todo("B").error or "")


@pytest.mark.parametrize(
    ("damage", "cause"),
    [(lambda file: file.chmod(0o666), "may write"), (lambda file: file.unlink(), "there is no trust file")],
)
def test_a_worker_whose_trust_file_cannot_be_used_fails_no_todo_and_says_so_once(
    site: Trusting, damage: Callable[[Path], None], cause: str
):
    site.sweep({"A": "r1"})
    kept = site.persons.file.read_text()
    damage(site.persons.file)

    site.deliver("A")
    site.store.fire(site.run_id, "A")
    site.deliver("A")

    assert site.todo("A").state == "parked"
    assert cause in (site.todo("A").waits_for or "")
    assert site.executed == []
    (piece,) = LogReader(site.redis, site.store.keys, site.run_id, ["A"]).written()
    assert piece.text.count("[coord] not executed: ") == 1

    site.persons.file.write_text(kept)
    site.persons.file.chmod(0o600)
    site.store.fire(site.run_id, "A")
    site.deliver("A")
    assert site.executed == ["A"]


def test_an_emergency_orders_for_an_hour_and_approves_nothing(
    site: Trusting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    site.persons.trust(ann="submitter", dora="break-glass", eve="viewer")
    trust, now, dora = read_trust(site.persons.file), datetime.now(UTC), site.persons.signer("dora")
    _, over = declare_emergency("api is down", dora, trust, now - timedelta(hours=2))
    _, lasting = declare_emergency("api is down", dora, trust, now)

    keep_emergency(over)
    site.sweep({"A": "r1"}, by="dora")
    assert "lacks the right sweep" in refused(site)
    monkeypatch.setattr(draft, "current_emergency", lambda _: (over.decode(), None))  # a hostile client
    site.sweep({"A": "r1"}, by="dora")
    site.deliver("A")
    assert "expired" in (site.todo("A").error or "")
    monkeypatch.undo()

    monkeypatch.setenv("COORD_TRUST_FILE", str(site.persons.file))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    keep_emergency(lasting)
    site.sweep({"A": "r1"}, by="eve")
    site.deliver("A")
    assert "lacks the right sweep" in (site.todo("A").error or ""), "it is an emergency of dora's"
    site.sweep({"A": "r1"}, by="dora")
    site.deliver("A")
    assert site.executed == ["A"]
    assert RunReader(site.redis, site.store.keys).read(site.run_id).break_glass == "api is down"


def connected(site: Trusting, by: str | None) -> Connection:
    """The connection of a person."""
    connection = Connection(site.worker.config.redis_url, Settings())
    connection.identity = site.persons.signing(by) if by else None
    connection.registry.meet = lambda *_: None  # no worker has signed on
    return connection


def gated(site: Trusting, *, more: Mapping[str, Any] | None = None, **gate: object) -> None:
    site.sweep({"A": "r1", "B": ("r2", ["A"])}, B={"gate": gate or True}, **(more or {}))
    site.deliver("A")


@pytest.mark.parametrize(("by", "succeeds"), [("bob", True), ("ann", False), (None, False)])
def test_a_todo_behind_a_gate_starts_only_if_somebody_who_may_has_signed(
    site: Trusting, by: str | None, succeeds: bool
):
    gated(site)
    approvals.decide(connected(site, by), Verdict.APPROVE, "B", site.run_id)

    site.deliver("B", "r2")

    assert (site.todo("B").state == "succeeded") == succeeds
    assert site.executed == (["A", "B"] if succeeds else ["A"])
    assert bool(site.refusals) != succeeds


def test_an_approval_ends_when_the_commits_that_it_names_change(site: Trusting):
    gated(site)
    site.redis.hset(site.store.keys.run(site.run_id).facts, "A commit", "1" * 40)
    approvals.decide(connected(site, "bob"), Verdict.APPROVE, "B", site.run_id)
    site.redis.hset(site.store.keys.run(site.run_id).facts, "A commit", "2" * 40)

    site.deliver("B", "r2")

    assert site.executed == ["A"]
    assert "other commits" in site.refusals[-1]


def test_an_approval_of_another_run_or_todo_is_refused(site: Trusting):
    gated(site)
    approvals.decide(connected(site, "bob"), Verdict.APPROVE, "B", site.run_id)
    order = site.store.keys.run(site.run_id).order
    approval = site.redis.hget(order, "approve B")
    gated(site)
    site.store.approve(site.run_id, "B", "bob", "")
    site.redis.hset(site.store.keys.run(site.run_id).order, "approve B", approval)

    site.deliver("B", "r2")

    assert site.executed == ["A", "A"]
    assert "for run" in site.refusals[-1]


def test_nobody_approves_their_own_order_where_two_persons_are_required(site: Trusting):
    site.persons.trust(ann="approver", bob="approver")
    gated(site, two_persons=True)
    site.redis.hset(site.store.keys.run(site.run_id).meta, "actor", actor())
    with pytest.raises(NotAllowed, match="two persons"):
        approvals.decide(connected(site, "ann"), Verdict.APPROVE, "B", site.run_id)
    site.redis.hset(site.store.keys.run(site.run_id).meta, "actor", "somebody else")
    approvals.decide(connected(site, "ann"), Verdict.APPROVE, "B", site.run_id)

    site.deliver("B", "r2")

    assert site.executed == ["A"]
    assert "may not approve" in site.refusals[-1]


@pytest.mark.parametrize(
    ("by", "on_failure", "undone"),
    [
        ("ann", OnFailure.HALT, True),
        ("eve", OnFailure.HALT, False),
        (None, OnFailure.HALT, False),
        (None, OnFailure.ROLLBACK, True),
    ],
)
def test_a_compensation_runs_only_if_the_order_or_a_signed_rollback_covers_it(
    site: Trusting, by: str | None, on_failure: OnFailure, undone: bool
):
    undo = {"compensate": f"echo undone >> {site.ledger}"}
    site.sweep({"A": "r1", "B": ("r2", ["A"])}, A=undo, B=undo, on_failure=on_failure)
    site.deliver("A")
    steering.roll_back(connected(site, by), site.run_id)

    site.deliver("A", attempt=attempt_of(site.store, site.run_id, "A"))

    assert site.executed == (["A", "undone"] if undone else ["A"])
    assert site.todo("A").state == ("compensated" if undone else "compensation_failed")


@pytest.mark.parametrize("by", ["root", "ann", None])
def test_after_an_acceptance_the_rollback_goes_on_only_if_somebody_who_may_has_signed_it(
    site: Trusting, by: str | None
):
    site.persons.trust(ann="submitter", root="admin")
    undo = f"echo undone >> {site.ledger}"
    site.sweep({"A": "r1", "B": ("r2", ["A"])}, A={"compensate": undo}, B={"compensate": "false"})
    site.deliver("A")
    site.deliver("B", "r2")
    steering.roll_back(connected(site, "ann"), site.run_id)
    site.deliver("B", "r2", attempt=attempt_of(site.store, site.run_id, "B"))

    steering.accept(connected(site, by), site.run_id, ["B"], "undone by hand")
    site.deliver("A", attempt=attempt_of(site.store, site.run_id, "A"))

    assert ("undone" in site.executed) == (by == "root")
    assert site.todo("A").state == ("compensated" if by == "root" else "compensation_failed")
    assert bool(site.refusals) != (by == "root")


@pytest.mark.parametrize(("by", "timeout"), [("bob", None), ("ann", None), (None, None), (None, "1ms")])
def test_a_rejection_rolls_back_only_if_somebody_who_may_has_signed_it_or_the_gate_does_it_alone(
    site: Trusting, by: str | None, timeout: str | None
):
    gate = {"on_timeout": "reject", "timeout": timeout} if timeout else True
    more = {"A": {"compensate": f"echo undone >> {site.ledger}"}, "B": {"gate": gate}}
    site.sweep({"A": "r1", "B": ("r2", ["A"])}, on_failure=OnFailure.ROLLBACK, **more)
    site.deliver("A")
    approvals.decide(connected(site, by), Verdict.REJECT, "B", site.run_id)
    site.deliver("A", attempt=attempt_of(site.store, site.run_id, "A"))

    counts = by == "bob" or timeout is not None
    assert ("undone" in site.executed) == counts
    assert site.todo("A").state == ("compensated" if counts else "compensation_failed")
    if not counts:  # a person who may decide so orders it
        steering.roll_back(connected(site, "ann"), site.run_id)
        site.deliver("A", attempt=attempt_of(site.store, site.run_id, "A"))
        assert site.executed == ["A", "undone"]


def retried(site: Trusting) -> None:
    connection = connected(site, "ann")
    site.run_id = starting.start_retry(connection, starting.plan_retry(connection, site.run_id))


def test_a_retry_of_a_signed_run_is_signed_and_one_of_changed_records_is_refused(site: Trusting):
    site.sweep({"A": "r1", "B": ("r2", ["A"])}, B={"action": "false"})
    site.deliver("A")
    site.deliver("B", "r2")
    first = site.run_id
    retried(site)
    site.deliver("B", "r2")

    assert site.todo("B").error == "exit code 1"
    assert site.refusals == []
    assert first != site.run_id
    spec = site.store.keys.run(site.run_id).spec
    site.redis.hset(spec, "B", site.redis.hget(spec, "B").replace("false", "foreign"))
    with pytest.raises(NotTrusted, match="spec of B"):
        retried(site)


@pytest.mark.parametrize(("by", "cleaned"), [("eve", False), (None, False), ("root", True)])
def test_files_are_removed_only_by_a_signed_job(site: Trusting, by: str | None, cleaned: bool):
    site.persons.trust(root="admin", eve="viewer")
    run = "20260101-000000-abcd"
    logs = site.worker.config.state / "logs" / run
    logs.mkdir(parents=True)
    job = CleanupJob(id="1" * 32, until_ms=site.store.now_ms() + 60_000, remove=True, runs=(run,))
    if by:
        cleaning = Cleaning(site.store, site.persons.signing(by))
        job = job.model_copy(update={"signed": cleaning._signed(cleaning._signing, job, OperationKind.CLEAN)})
    site.worker.cleanup_queue.post(job)

    site.worker.cleanup_jobs.run_once()

    assert logs.exists() != cleaned
    assert bool(site.refusals) != cleaned


def test_a_signed_job_removes_nothing_else(site: Trusting):
    site.persons.trust(root="admin")
    job = CleanupJob(id="1" * 32, until_ms=0, remove=True, runs=("20260101-000000-abcd",))
    other = job.model_copy(update={"runs": None})

    assert job.is_covered_by(job.words_to_sign())
    assert not other.is_covered_by(job.words_to_sign())


def test_views_say_whose_signatures_are_verified_and_what_is_unsigned(site: Trusting):
    gated(site)
    approvals.decide(connected(site, None), Verdict.APPROVE, "B", site.run_id)
    connection = connected(site, "eve")
    signed = with_signatures(connection, connection.reader.read(site.run_id))
    site.sweep({"A": "r1"}, by=None)
    unsigned = with_signatures(connection, connection.reader.read(site.run_id))
    site.sweep({"A": "r1"})
    break_signature(site)
    broken = with_signatures(connection, connection.reader.read(site.run_id))

    assert (signed.signed_by, signed.unsigned) == ("ann", ("the approval of B",))
    assert (unsigned.signed_by, unsigned.unsigned) == (None, ("the order",))
    assert broken.signed_by is None
    assert broken.unsigned[0].startswith("the order: ")


def test_views_name_rejections_and_acceptances_that_nobody_signed(site: Trusting):
    site.persons.trust(ann="submitter", bob="approver", root="admin")
    undo = {"A": {"compensate": "false"}}
    seen = []
    for by, admin in (("bob", "root"), (None, None)):
        gated(site, more=undo)
        approvals.decide(connected(site, by), Verdict.REJECT, "B", site.run_id)
        steering.roll_back(connected(site, "ann"), site.run_id)
        site.deliver("A", attempt=attempt_of(site.store, site.run_id, "A"))
        steering.accept(connected(site, admin), site.run_id, ["A"], "undone by hand")
        connection = connected(site, "ann")
        seen.append(with_signatures(connection, connection.reader.read(site.run_id)).unsigned)

    assert seen == [(), ("the acceptance of A", "the rejection of B")]


# The owner of Redis can still do the following, as docs/trust.md says.


def test_still_possible_runs_can_be_read_delayed_paused_cancelled_and_deleted(site: Trusting):
    for harm in ("delay", "pause", "cancel", "delete"):
        site.sweep({"A": "r1"})
        keys = site.store.keys.run(site.run_id)
        assert str(site.ledger) in site.redis.hget(keys.spec, "A")
        if harm == "delay":
            site.redis.hset(keys.state, "A", "retrying")
            site.redis.zadd(site.store.keys.timers, {f"{site.run_id} A": site.store.now_ms() + 10**9})
        elif harm == "pause":
            site.store.pause(site.run_id, "nobody")
        elif harm == "cancel":
            site.store.cancel(site.run_id, "nobody")
        else:
            site.redis.delete(*site.redis.keys(f"{keys.prefix}:*"))
        site.deliver("A")
    assert site.executed == []


def test_still_possible_a_paused_run_is_resumed_and_events_are_made_up_and_deleted(site: Trusting):
    site.sweep({"A": "r1"})
    site.store.pause(site.run_id, "ann")
    site.store.resume(site.run_id, "nobody")
    site.deliver("A")
    assert site.executed == ["A"]

    site.store.announce("trust.refused", "A", actor="ann", title="made up")
    assert site.refusals == ["made up"]
    site.redis.delete(site.store.keys.events.lasting)
    assert site.refusals == []


def test_still_possible_the_soak_of_a_wave_ends_when_the_order_is_as_old_as_it(site: Trusting):
    soak = {"gate": {"timeout": "1h", "on_timeout": "approve"}}  # as of a landing
    site.sweep({"A": "r1", "SOAK": ("r1", ["A"]), "B": ("r2", ["SOAK"])}, SOAK=soak)
    run = SignedRun(store=site.store, run_id=site.run_id, trust=read_trust(site.persons.file))
    spec = run.authorized_spec("B", site.redis.hget(site.store.keys.run(site.run_id).spec, "B"))
    soaking = run.authorized_spec("SOAK", site.redis.hget(site.store.keys.run(site.run_id).spec, "SOAK"))
    with pytest.raises(NotTrusted):
        run.check_start("SOAK", soaking)

    later = replace(run, now=lambda: datetime.now(UTC) + timedelta(hours=1))
    later.check_start("SOAK", soaking)
    later.check_start("B", spec)


@pytest.mark.parametrize("withheld", [False, True], ids=["forged", "still_possible_with_results_deleted"])
def test_a_todo_is_undone_behind_those_that_workers_have_signed_as_undone(site: Trusting, withheld: bool):
    undo = f"echo undone >> {site.ledger}"
    site.sweep({"A": "r1", "B": ("r2", ["A"])}, A={"compensate": undo}, B={"compensate": "false"})
    site.deliver("A")
    site.deliver("B", "r2")
    steering.roll_back(connected(site, "ann"), site.run_id)
    site.deliver("B", "r2", attempt=attempt_of(site.store, site.run_id, "B"))
    keys = site.store.keys.run(site.run_id)
    site.store.accept(site.run_id, "B", "nobody", "it is hidden who")
    site.redis.hdel(keys.facts, "B accepted_by")
    if withheld:
        site.redis.hdel(keys.results, "B")
    site.deliver("A", attempt=attempt_of(site.store, site.run_id, "A"))

    assert site.executed == (["A", "B", "undone"] if withheld else ["A", "B"])
    assert len(site.refusals) == (0 if withheld else 1)


@pytest.mark.parametrize("was", ["succeeded", "failed"])
def test_still_possible_a_compensation_gets_another_output_if_the_todo_is_said_to_have_failed(
    site: Trusting, was: str
):
    undo = f'cat "$COORD_TODO_OUTPUT" >> {site.ledger}'
    site.sweep({"A": "r1"}, A={"action": 'echo {} > "$COORD_OUTPUT"', "compensate": undo})
    site.deliver("A")
    keys = site.store.keys.run(site.run_id)
    steering.roll_back(connected(site, "ann"), site.run_id)
    site.redis.hset(keys.facts, "A was", was)
    site.redis.hset(keys.output, "A", '{"forged":1}')
    site.deliver("A", attempt=attempt_of(site.store, site.run_id, "A"))

    assert site.executed == ([] if was == "succeeded" else ['{"forged":1}'])


@pytest.mark.parametrize("forged", [False, True])
def test_a_manual_todo_that_a_person_completed_is_undone(site: Trusting, forged: bool):
    site.sweep({"A": "r1"}, A={"action": {"type": "manual"}, "compensate": f"echo undone >> {site.ledger}"})
    if forged:
        site.store.approve(site.run_id, "A", "bob", "")
    else:
        approvals.decide(connected(site, "bob"), Verdict.APPROVE, "A", site.run_id)
    steering.roll_back(connected(site, "ann"), site.run_id)
    site.deliver("A", attempt=attempt_of(site.store, site.run_id, "A"))

    assert (site.executed, len(site.refusals)) == (([], 1) if forged else (["undone"], 0))


def test_a_rollback_that_was_forged_is_shown_as_unsigned(site: Trusting):
    site.persons.trust(ann="submitter")
    undo = {"compensate": "true"}
    trust_worker(site)
    site.sweep({"A": "r1", "B": "r2"}, A=undo, B=undo)
    site.deliver("A")
    site.deliver("B", "r2")
    connection = connected(site, "ann")
    assert viewed(site, connection).unsigned == ()
    steering.roll_back(connection, site.run_id)
    for todo, repo in (("A", "r1"), ("B", "r2")):
        site.deliver(todo, repo, attempt=attempt_of(site.store, site.run_id, todo))
    assert viewed(site, connection).unsigned == ()

    keys = site.store.keys.run(site.run_id)
    result = site.redis.hget(keys.results, "A")
    for forged in (None, result, site.redis.hget(keys.results, "undone B")):
        site.redis.hdel(keys.results, "undone A")
        if forged:
            site.redis.hset(keys.results, "undone A", forged)
        (doubt,) = viewed(site, connection).unsigned
        assert "compensation of A" in doubt


def viewed(site: Trusting, connection: Connection) -> RunView:
    return with_signatures(connection, connection.reader.read(site.run_id))


def trust_worker(site: Trusting) -> None:
    """Add the key of the worker to the trust file, so that views verify its results."""
    line = site.worker.worker_key.load().public_key
    TrustEditor(site.persons.file).add(line, name="w", kind=Kind.WORKER)


def test_still_possible_a_run_that_was_ordered_so_is_rolled_back(site: Trusting):
    undo = f"echo undone >> {site.ledger}"
    site.sweep({"A": "r1", "B": ("r2", ["A"])}, on_failure=OnFailure.ROLLBACK, A={"compensate": undo},
        B={"gate": True})  # fmt: skip
    site.deliver("A")
    site.store.reject(site.run_id, "B", "nobody", "")
    site.redis.hdel(site.store.keys.run(site.run_id).facts, "B rejected_by")
    site.deliver("A", attempt=attempt_of(site.store, site.run_id, "A"))

    assert site.executed == ["A", "undone"]
    assert site.refusals == []


def test_still_possible_a_todo_is_executed_again_until_its_order_expires(site: Trusting):
    site.sweep({"A": "r1"})
    site.deliver("A")
    keys = site.store.keys.run(site.run_id)
    for later in (timedelta(), 2 * TTL):
        site.redis.hset(keys.state, "A", "dispatched")
        site.redis.hset(keys.meta, "status", "running")
        known = site.worker.order_check._run(site.run_id)
        known.now = lambda later=later: datetime.now(UTC) + later
        site.deliver("A")

    assert site.executed == ["A", "A"]
    assert "expired" in site.refusals[-1]


def test_an_order_of_50_000_todos_is_small_and_a_worker_reads_one_block_of_it():
    leaves = {f"TODO-{i:05d}": digest(str(i)) for i in range(50_000)}
    blocks = list(blocks_of(leaves))
    order = RunOrder(
        namespace="n",
        run="r",
        operation="sweep",
        plan="p",
        on_failure="halt",
        brief=digest(""),
        blocks=tuple((first, digest(text)) for first, text in blocks),
        **times(timedelta(days=1)),
    )

    assert len(order.model_dump_json()) < 32 * 1024
    assert max(len(text) for _, text in blocks) < 32 * 1024
    index = order.block_of("TODO-31234")
    assert order.leaves(index, blocks[index][1])["TODO-31234"] == leaves["TODO-31234"]
    with pytest.raises(NotTrusted):
        order.leaves(index, blocks[index - 1][1])
