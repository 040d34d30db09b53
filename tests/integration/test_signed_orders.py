"""Somebody owns Redis: a worker that requires signatures executes what was ordered, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from coordination.errors import NotTrusted
from coordination.files import make_private
from coordination.health.records import Health, Kind, Subject
from coordination.health.recovery import RecoveryRuns
from coordination.messages.bus import MessageBus
from coordination.models import Ecosystem, Repo, Service, ServiceAction, Workspace
from coordination.runs.logs import LogReader
from coordination.runs.records import OrderedBrief
from coordination.runs.submission import draft
from coordination.runs.views.records import TodoView
from coordination.services.host import DesiredService, ServiceHost
from coordination.settings import Settings
from coordination.trust.break_glass import declare_emergency, keep_emergency
from coordination.trust.orders import RunOrder, blocks_of, digest, times
from coordination.trust.trust_file import read_trust
from tests.engine import view_of
from tests.integration.conftest import MakeWorker
from tests.plans import ecosystem
from tests.sandboxes import needs_bubblewrap
from tests.testbed import git
from tests.trusted_worker import Persons, Trusting

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


@needs_bubblewrap
@pytest.mark.parametrize("known", [False, True])
def test_a_confined_order_names_no_address_that_the_machine_does_not_have(
    site: Trusting, monkeypatch: pytest.MonkeyPatch, known: bool
):
    site.persons.trust(ann="submitter", agent="submitter")
    rows = yaml.safe_load(site.persons.file.read_text())["principals"]
    rows[1]["grants"][0]["sandbox"] = "bubblewrap"
    site.persons.file.write_text(yaml.safe_dump({"principals": rows}))
    places = {name: site.ledger.parent / name for name in ("r1", "r2")}
    for place in places.values():
        git(place, "init", "-q")
    git(places["r2"], "remote", "add", "origin", "file:///elsewhere/r2")
    if known:
        git(places["r1"], "remote", "add", "mirror", "file:///elsewhere/r1")

    def with_urls(*args: Any, **options: Any) -> Ecosystem:
        declared = ecosystem(*args, **options)
        repos = tuple(
            repo.model_copy(update={"url": f"file:///elsewhere/{repo.name}"}) for repo in declared.repos
        )
        return declared.model_copy(update={"repos": repos})

    monkeypatch.setattr("tests.trusted_worker.ecosystem", with_urls)
    site.sweep({"A": "r1"}, "agent", A={"action": "true"})
    site.deliver("A")
    site.sweep({"B": "r1"}, "ann", B={"action": "true"})
    site.deliver("B")

    assert site.todo("B").state == "succeeded", site.todo("B").error
    assert len(site.refusals) == (0 if known else 1)


def order_service(
    site: Trusting, monkeypatch: pytest.MonkeyPatch, step: str, repo: str = "r2", name: str = "db"
) -> None:
    """Have olaf, who may order todos of r2, order this step of the service `db`."""
    declared = Service.model_validate({"name": name, "repo": repo, "command": "exec sleep 600"})
    action = ServiceAction.model_validate(
        {"type": "service", "step": step, "name": "db"}
        | ({"service": declared} if step == "start" else {})
        | ({"lines": 5} if step == "logs" else {})
    )

    def with_service(*args: Any, **options: Any) -> Ecosystem:
        found = ecosystem(*args, **options)
        todos = tuple(
            todo.model_copy(update={"action": action, "workspace": Workspace.WORKTREE})
            for todo in found.coordination.todos
        )
        return found.model_copy(
            update={"coordination": found.coordination.model_copy(update={"todos": todos})}
        )

    monkeypatch.setattr("tests.trusted_worker.ecosystem", with_service)
    site.sweep({"A": "r2"}, "olaf")


@pytest.mark.parametrize("step", ["start", "stop", "logs"])
def test_a_service_of_another_repository_is_neither_replaced_nor_stopped_nor_read(
    site: Trusting, monkeypatch: pytest.MonkeyPatch, step: str
):
    host = ServiceHost(site.worker.config.state)
    make_private(host.folder)
    ours = Service(name="db", repo="r1", command="exec sleep 600")
    desired = DesiredService(service=ours, folder=site.ledger.parent, order="earlier")
    (host.folder / "wanted.json").write_text(json.dumps({"db": desired.model_dump(mode="json")}))

    order_service(site, monkeypatch, step)
    site.deliver("A", "r2")
    assert len(site.refusals) == 1

    assert host.desired() == {"db": desired}


@pytest.mark.parametrize("fields", [{"repo": "r1"}, {"name": "other"}])
def test_the_order_of_a_service_declares_no_other_one(
    site: Trusting, monkeypatch: pytest.MonkeyPatch, fields: dict[str, str]
):
    order_service(site, monkeypatch, "start", **fields)
    site.deliver("A", "r2")
    assert len(site.refusals) == 1
    assert ServiceHost(site.worker.config.state).desired() == {}


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
    brief["kill_grace"] = "PT9S"
    brief["origins"] = {"r1": {"url": "/tmp/elsewhere", "branch": "main"}}
    site.redis.hset(meta, "brief", json.dumps(brief))


def recovered(site: Trusting, by: str | None, *, tamper: Tamper = lambda _: None, **repo: Any) -> TodoView:
    """Have the monitor recover `r1` with the identity of its worker's user; return the todo of that run."""
    declared = Repo(name="r1", recover=f"touch {site.ledger}; test ! -e {site.persons.file}", **repo)
    runs = RecoveryRuns(
        lambda: site.connected(by),
        lambda: Ecosystem(repos=(declared,)),
        list,
        MessageBus(site.redis, site.store.keys.namespace),
    )
    record = Health(subject=Subject(kind=Kind.REPO, name="r1", repo="r1", recoverable=True), since=0.0)
    git(site.ledger.parent / "r1", "init", "-q")
    site.run_id = runs.begin(record)
    (name,) = (one.id for one in view_of(site.store, site.run_id).todos)
    tamper(site)
    site.deliver(name)
    return site.todo(name)


@pytest.mark.parametrize("by", ["ann", "eve", "olaf", None])
def test_a_repository_is_recovered_where_the_user_of_the_monitor_may_execute_there(
    site: Trusting, by: str | None
):
    todo = recovered(site, by)

    may = by == "ann"
    assert site.ledger.exists() == may, todo.error
    assert len(site.refusals) == (0 if may else 1)


def test_a_recovery_that_was_changed_in_redis_is_refused(site: Trusting):
    def change(site: Trusting) -> None:
        keys = site.store.keys.run(site.run_id)
        ((name, spec),) = site.redis.hgetall(keys.spec).items()
        site.redis.hset(keys.spec, name, spec.replace("touch", "echo foreign >>"))

    assert recovered(site, "ann", tamper=change).state == "failed"
    assert not site.ledger.exists()
    assert len(site.refusals) == 1


@needs_bubblewrap
@pytest.mark.parametrize("required", [False, True])
def test_a_recovery_runs_in_the_sandbox_that_the_worker_requires(
    site: Trusting, make_worker: MakeWorker, required: bool
):
    if required:
        places = {name: site.ledger.parent / name for name in ("r1", "r2")}
        site.worker = make_worker(settings=Settings(signatures="require", sandbox="require"), **places)

    todo = recovered(site, "ann")

    assert site.refusals == []
    assert (todo.state, site.ledger.exists()) == (("succeeded", False) if required else ("failed", True))


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


def pretend_to_be_there(site: Trusting) -> None:
    site.redis.set(site.store.keys.server, site.worker.here.server)


@pytest.mark.parametrize("disguise", [lambda site: None, pretend_to_be_there])
def test_an_order_of_another_server_is_refused(site: Trusting, disguise: Tamper):
    assert site.worker.here.server == site.store.server  # the worker knows the server
    site.redis.set(site.store.keys.server, "0" * 32)
    del site.store.server
    site.sweep({"A": "r1"})
    disguise(site)

    assert "another Redis server" in refused(site)


def test_a_server_that_has_lost_its_id_gets_it_back_from_a_worker(site: Trusting, make_worker: MakeWorker):
    known = site.worker.here.server
    site.redis.flushall()
    again = make_worker(settings=Settings(signatures="require"), r1=site.ledger.parent / "r1")

    assert again.here.server == known == site.redis.get(site.store.keys.server)


@pytest.mark.parametrize("theirs", ["", "eco-staging"])
def test_an_order_of_another_ecosystem_is_refused(site: Trusting, theirs: str):
    site.worker.config = replace(site.worker.config, ecosystem_id="eco-production")
    site.sweep({"A": "r1"}, ecosystem_id=theirs)

    assert "ecosystem 'eco-production'" in refused(site)


@pytest.mark.parametrize(
    "fields",
    [
        {"lineage": {"takes_up": ("../../x",)}},
        {"lineage": {"builds_on": ("--upload-pack=x",)}},
        {"lineage": {"repos": {"r1": {"set_back": "a b"}}}},
        {"lineage": {"repos": {"r1": {"tip": "--output=x"}}}},
        {"lineage": {"repos": {"r1": {"published": "main"}}}},
        {"lineage": {"redone": {"A": ".."}}},
    ],
)
def test_an_order_names_runs_and_commits_in_their_one_form_only(fields: dict[str, Any]):
    known = {"run_id": "20260102-120000-efgh", "plan_id": "P"}
    assert OrderedBrief.model_validate(known)
    with pytest.raises(ValidationError):
        OrderedBrief.model_validate(known | fields)


def test_a_worker_whose_file_has_no_id_refuses_the_order_for_one_with_an_id(site: Trusting):
    site.worker.config = replace(site.worker.config, file=site.ledger.parent / "ecosystem.yaml")
    site.sweep({"A": "r1"}, ecosystem_id="eco-staging")

    assert "ecosystem 'eco-staging'" in refused(site)


@pytest.mark.parametrize("run", ["../../../x", "", "..", "20260101-000000-abcd/..", "20260101-000000-abcd\n"])
@pytest.mark.parametrize("signatures", ["require", "off"])
def test_nothing_is_executed_under_a_name_that_is_no_id_of_a_run(
    site: Trusting, make_worker: MakeWorker, run: str, signatures: str
):
    worker = make_worker(settings=Settings(signatures=signatures), r1=site.ledger.parent / "r1")
    ordered = site.sweep({"A": "r1"})
    for key in site.redis.scan_iter(f"coord:run:{ordered}:*"):
        site.redis.rename(key, key.replace(ordered, run))
    before = sorted(site.ledger.parent.rglob("*.log"))

    worker.deliveries.handle(run, "A", 1, "r1")

    assert site.executed == []
    assert sorted(site.ledger.parent.rglob("*.log")) == before


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
    assert view_of(site.store, site.run_id).break_glass == "api is down"


def test_an_order_of_50_000_todos_is_small_and_a_worker_reads_one_block_of_it():
    leaves = {f"TODO-{i:05d}": digest(str(i)) for i in range(50_000)}
    blocks = list(blocks_of(leaves))
    order = RunOrder(
        namespace="n",
        server="s" * 32,
        run="20260101-000000-abcd",
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
