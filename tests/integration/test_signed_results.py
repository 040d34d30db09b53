"""Under `signatures: require` a worker uses what Redis tells of results only as trusted workers signed it.

The adversary has a raw Redis client. Each attack would make an unchanged `sh check.sh` run foreign code, or
hand foreign data to it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import yaml

from coordination.backend.keys import RunKeys, tip_field
from coordination.errors import NotTrusted
from coordination.models import Signatures
from coordination.runs.attempt_store import Grant
from coordination.runs.connection import Connection
from coordination.runs.control.signing import sign_operation, subject_of, with_signatures
from coordination.runs.records import RunBrief
from coordination.runs.submission.draft import Signing
from coordination.trust.keys import new_key
from coordination.trust.orders import OperationKind
from coordination.trust.results import open_result, seal_result
from coordination.trust.trust_file import read_trust
from tests.engine import retry_of, submit_retry
from tests.hosts import Host, World, reads, tip
from tests.plans import PLAN
from tests.testbed import git
from workers.task_result import TaskResultKind

CHECK = {"action": "sh check.sh"}
WORK = {"action": 'echo "$COORD_TODO_ID" >> work; echo "{\\"by\\": \\"$COORD_TODO_ID\\"}" > "$COORD_OUTPUT"'}
CHAIN = {"T1": "up", "T2": ("up", ["T1"]), "T3": ("up", ["T2"]), "R": ("down", ["T1"])}


class Site:
    """Two machines whose workers trust each other: `a` serves `up`, `b` serves `down` and `up`."""

    def __init__(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        self.world = world
        self.file = world.folder / "trust.yaml"
        self.ran = world.folder / "foreign"
        monkeypatch.setenv("COORD_TRUST_FILE", str(self.file))
        world.settings = world.settings.model_copy(update={"signatures": Signatures.REQUIRE})
        self.person = new_key(world.folder / "keys" / "person")
        world.signing = Signing(signer=self.person, ttl=timedelta(days=1))
        self.up = world.repo("a/up")
        (self.up / "check.sh").write_text("true\n")
        git(self.up, "add", "check.sh")
        git(self.up, "commit", "-q", "-m", "a check")
        self.a = world.host("a", up=self.up)
        self.b = world.host("b", down=world.repo("b/down"), up=world.clone(self.up, "b/up"))
        self.redis, self.store = self.a.parts.redis, self.a.parts.store
        self.trust(a={"a": None, "b": None}, b={"a": None, "b": None})

    def trust(self, **machines: Mapping[str, list[str] | None]) -> None:
        """Write the trust file: worker → the repositories whose results it may sign; None: all."""
        workers = {"a": self.a, "b": self.b}
        grants = {name: repos for of in machines.values() for name, repos in of.items()}
        principals = [
            {
                "name": name,
                "kind": "worker",
                "keys": [{"key": workers[name].parts.worker_key.load().public_key}],
                "grants": [{"role": "viewer", "repos": repos}] if repos is not None else [],
            }
            for name, repos in grants.items()
        ]
        person = {
            "name": "person",
            "keys": [{"key": self.person.public_key}],
            "grants": [{"role": "submitter"}],
        }
        principals.append(person)
        self.file.write_text(yaml.safe_dump({"principals": principals}))
        self.file.chmod(0o600)

    def run(self, **more: Mapping[str, Any]) -> str:
        todos = {"T1": WORK, "T2": WORK, "T3": CHECK} | reads("R")
        return self.world.run(CHAIN, **{**todos, **more})

    def done(self, *todos: str, **more: Mapping[str, Any]) -> str:
        """Return a run of which machine `a` has executed these todos of `up`."""
        run = self.run(**more)
        for todo in todos:
            self.a.do(run, todo, "up")
        return run

    def keys(self, run: str) -> RunKeys:
        return self.store.keys.run(run)

    def foreign(self, base: str = "main") -> str:
        """Return a commit in the repository whose check is foreign code; no result led to it."""
        tree = self.world.folder / "foreign-tree"
        git(self.up, "worktree", "add", "-q", "--detach", str(tree), base)
        (tree / "check.sh").write_text(f"touch {self.ran}\n")
        git(tree, "commit", "-qam", "foreign")
        return git(tree, "rev-parse", "HEAD")

    def refused(self, host: Host, run: str, todo: str, repo: str, words: str = "") -> None:
        """A todo fails, runs nothing, and an event says why."""
        told = host.parts.deliveries.handle(run, todo, 1, repo)
        assert told.kind is TaskResultKind.FAILED
        assert not self.ran.exists()
        assert re.search(words, self.reported(run, todo)[-1])

    def claimed(self, run: str, todo: str) -> Grant:
        worker = self.a.parts.worker
        grant = self.store.claim(
            run, todo, 1, worker=worker.id, host=worker.host, lease=timedelta(minutes=1)
        ).grant
        assert grant is not None
        return grant

    def reported(self, run: str, todo: str) -> list[str]:
        entries = [fields for _, fields in self.redis.xrange(self.store.keys.events.lasting)]
        return [
            entry["title"]
            for entry in entries
            if (entry["kind"], entry.get("run"), entry.get("subject")) == ("trust.refused", run, todo)
        ]

    def sign_rollback(self, run: str) -> None:
        with closing(Connection(self.a.parts.config.redis_url, self.world.settings)) as connection:
            connection.identity = self.world.signing
            assert sign_operation(connection, run, OperationKind.ROLLBACK)

    def retry(self, run: str, **how: Any) -> str:
        """End a run, retry it, and return the new one."""
        self.store.complete(run, "OPEN", "somebody")
        left = retry_of(self.store, run, None, self.world.settings, **how)
        return submit_retry(self.store, left, self.world.settings, signing=self.world.signing)[0]


@pytest.fixture
def site(world: World, monkeypatch: pytest.MonkeyPatch) -> Site:
    return Site(world, monkeypatch)


def test_two_machines_build_on_each_others_results_also_in_a_retry(site: Site):
    first = site.run(T3={"action": "sh check.sh && test -e fixed"})
    for todo in ("T1", "T2"):
        site.a.do(first, todo, "up")
    site.b.do(first, "R", "down")
    assert site.b.told(first, "R")["T1"]["output"] == {"by": "T1"}
    assert site.a.parts.deliveries.handle(first, "T3", 1, "up").kind is TaskResultKind.FAILED

    (site.up / "fixed").touch()
    git(site.up, "add", "fixed")
    git(site.up, "commit", "-q", "-m", "fix")
    second = site.retry(first)
    site.a.do(second, "T3", "up")
    assert site.reported(first, "T3") == site.reported(second, "T3") == []

    third = site.retry(second, start=["T2"])  # from the commit with which T2 began, and then on
    for todo in ("T2", "T3"):
        site.a.do(third, todo, "up")
    signed = site.redis.hget(site.keys(third).results, "T2")
    assert open_result(signed, read_trust(site.file), datetime.now(UTC)).run == third


def moved_tip(site: Site, run: str) -> None:
    site.redis.hset(site.keys(run).tips, "up", site.foreign())


def no_tip(site: Site, run: str) -> None:
    site.redis.hdel(site.keys(run).tips, "up")


def older_tip(site: Site, run: str) -> None:
    keys = site.keys(run)
    site.redis.hset(keys.tips, "up", site.redis.hget(keys.facts, "T1 commit"))
    site.redis.hset(keys.results, tip_field("up"), site.redis.hget(keys.results, "T1"))


def result_of_another_run(site: Site, run: str) -> None:
    other = site.run()
    site.a.do(other, "T1", "up")
    for field in ("T1", tip_field("up")):
        site.redis.hset(site.keys(run).results, field, site.redis.hget(site.keys(other).results, field))
    site.redis.hset(site.keys(run).tips, "up", site.redis.hget(site.keys(other).tips, "up"))


def no_result(site: Site, run: str) -> None:
    site.redis.delete(site.keys(run).results)


def untrusted_key(site: Site, run: str) -> None:
    """A worker of the adversary states that T2 led to the foreign commit."""
    keys, commit = site.keys(run), site.foreign()
    record = open_result(site.redis.hget(keys.results, "T2"), read_trust(site.file), datetime.now(UTC))
    forged = seal_result(record.model_copy(update={"tip": commit}), new_key(site.world.folder / "stolen"))
    site.redis.hset(keys.tips, "up", commit)
    site.redis.hset(keys.results, mapping={"T2": forged, tip_field("up"): forged})


def changed_payload(site: Site, run: str) -> None:
    """The payload is another, below the old signature."""
    keys, commit = site.keys(run), site.foreign()
    envelope = json.loads(site.redis.hget(keys.results, "T2"))
    other = json.loads(site.redis.hget(keys.results, "T1"))
    envelope["payload"] = other["payload"]
    site.redis.hset(keys.tips, "up", commit)
    site.redis.hset(keys.results, tip_field("up"), json.dumps(envelope))


def not_a_worker_of_it(site: Site, run: str) -> None:
    site.trust(a={"a": ["down"], "b": None})


def huge(site: Site, run: str) -> None:
    site.redis.hset(site.keys(run).results, tip_field("up"), "[" * 10_000_000)


@pytest.mark.parametrize(
    ("attack", "words"),
    [
        (moved_tip, "is at"),
        (no_tip, "lacks the work of T"),
        (older_tip, "lacks the work of T2"),
        (result_of_another_run, "in run"),
        (no_result, "no signature"),
        (untrusted_key, "not in the trust file"),
        (changed_payload, "over other bytes"),
        (not_a_worker_of_it, "no worker of it"),
        (huge, "more than"),
    ],
    ids=lambda it: getattr(it, "__name__", ""),
)
def test_a_todo_does_not_begin_at_a_commit_that_no_result_led_to(
    site: Site, attack: Callable[[Site, str], None], words: str
):
    run = site.done("T1", "T2")
    attack(site, run)
    site.refused(site.a, run, "T3", "up", words)


def by_a_replacement(site: Site, first: str, second: str) -> None:
    git(site.up, "replace", "--graft", second, first)


def by_a_graft(site: Site, first: str, second: str) -> None:
    (site.up / ".git" / "info" / "grafts").write_text(f"{second} {first}\n")


@pytest.mark.parametrize("pretended", [lambda *_: None, by_a_replacement, by_a_graft])
def test_a_todo_does_not_begin_at_a_signed_commit_that_lacks_the_work_of_a_predecessor(
    site: Site, pretended: Callable[[Site, str, str], None]
):
    run = site.world.run({"T1": "up", "T2": "up", "T3": ("up", ["T1"])}, T1=WORK, T2=WORK, T3=CHECK)
    site.a.do(run, "T1", "up")
    first = tip(site.up, run)
    no_tip(site, run)
    site.a.do(run, "T2", "up")
    pretended(site, first, tip(site.up, run))

    site.refused(site.a, run, "T3", "up", "without the work of a predecessor")


def done_in_a_change_set(site: Site) -> str:
    """Return an ended run of a change set in which T1 has succeeded."""
    site.world.with_change_set = True
    run = site.world.run({"T1": "up"}, T1=WORK)
    site.a.do(run, "T1", "up")
    site.store.complete(run, "OPEN", "somebody")
    return run


def change(site: Site, **facts: str) -> None:
    fields = {f"{name} up": value for name, value in facts.items()}
    site.redis.hset(site.store.keys.changes(PLAN), mapping=fields)


def tip_of_the_set(site: Site, _run: str) -> None:
    change(site, tip=site.foreign())


def result_of_no_set(site: Site, run: str) -> None:
    """All that Redis tells fits each other, and was true of a run outside of the change set."""
    site.world.with_change_set = False
    other = site.world.run({"T1": "up"}, T1=WORK)
    site.a.do(other, "T1", "up")
    site.world.with_change_set = True
    result = site.redis.hget(site.keys(other).results, "T1")
    tip = site.redis.hget(site.keys(other).tips, "up")
    change(site, tip=tip, result=result, run=other, runs=f"{run} {other}")
    site.redis.hset(site.store.keys.changes(PLAN), "todo T1", f"{other} up")


def test_the_next_run_of_a_change_set_builds_on_signed_results_of_both_machines(site: Site):
    first = done_in_a_change_set(site)
    second = site.run(T1={**WORK, "status": "completed"})

    site.a.do(second, "T2", "up")
    site.b.do(second, "R", "down")

    assert site.b.told(second, "R")["T1"]["output"] == {"by": "T1"}
    assert git(site.up, "show", f"{tip(site.up, second)}:work") == "T1\nT2"
    assert site.reported(first, "T1") == site.reported(second, "T2") == site.reported(second, "R") == []


@pytest.mark.parametrize(
    ("attack", "words"),
    [(tip_of_the_set, "is at"), (result_of_no_set, "not one of change set")],
    ids=lambda it: getattr(it, "__name__", ""),
)
def test_the_next_run_of_a_change_set_uses_no_tip_that_was_not_signed_for_it(
    site: Site, attack: Callable[[Site, str], None], words: str
):
    attack(site, done_in_a_change_set(site))
    run = site.run(T1={**WORK, "status": "completed"})
    site.refused(site.a, run, "T2", "up", words)
    if attack is result_of_no_set:
        site.refused(site.b, run, "R", "down", words)


def output(site: Site, run: str) -> None:
    site.redis.hset(site.keys(run).output, "T1", '{"by": "somebody else"}')


def commit(site: Site, run: str) -> None:
    site.redis.hset(site.keys(run).facts, "T1 commit", site.foreign())


def result_of_another_todo(site: Site, run: str) -> None:
    keys = site.keys(run)
    site.redis.hset(keys.results, "T1", site.redis.hget(keys.results, "T2"))


def whole_result_of_another_run(site: Site, run: str) -> None:
    """Facts, output and signed result fit each other, and were true elsewhere."""
    other = site.run(T1={"action": "echo 7 > $COORD_OUTPUT"})
    site.a.do(other, "T1", "up")
    keys, theirs = site.keys(run), site.keys(other)
    for name in ("commit", "settled_by"):
        site.redis.hset(keys.facts, f"T1 {name}", site.redis.hget(theirs.facts, f"T1 {name}"))
    site.redis.hset(keys.facts, "T1 run", other)
    site.redis.hset(keys.output, "T1", site.redis.hget(theirs.output, "T1"))
    site.redis.hset(keys.results, "T1", site.redis.hget(theirs.results, "T1"))


@pytest.mark.parametrize(
    ("attack", "words"),
    [
        (output, "the output of T1"),
        (commit, "the tip of T1"),
        (result_of_another_todo, "the todo of T1"),
        (whole_result_of_another_run, "does not count here"),
        (no_result, "no signature"),
    ],
    ids=lambda it: getattr(it, "__name__", ""),
)
def test_a_todo_on_another_machine_gets_only_what_its_predecessor_signed(
    site: Site, attack: Callable[[Site, str], None], words: str
):
    run = site.done("T1", "T2")
    attack(site, run)
    site.refused(site.b, run, "R", "down", words)


def test_a_view_names_the_worker_that_signed_each_result(site: Site):
    run = site.done("T1", T2={"action": "false"})
    site.b.do(run, "R", "down")
    site.a.parts.deliveries.handle(run, "T2", 1, "up")

    def look() -> tuple[dict[str, str | None], tuple[str, ...]]:
        with closing(Connection(site.a.parts.config.redis_url, site.world.settings)) as reader:
            view = with_signatures(reader, reader.reader.read(run))
        return {todo.id: todo.signed_by for todo in view.todos if todo.state.ended}, view.unsigned or ()

    assert look() == ({"T1": "a", "R": "b", "T2": "a", "T3": None}, ())
    site.redis.hset(site.keys(run).state, "T2", "succeeded")
    site.redis.hset(site.keys(run).results, "R", site.redis.hget(site.keys(run).results, "T1"))
    signed, unsigned = look()
    assert (signed["T1"], signed["R"], signed["T2"]) == ("a", None, None)
    assert len(unsigned) == 2


def test_a_person_approves_what_this_machine_verified(site: Site):
    """Task, order and commits that an approval shows and signs are not those that Redis tells."""
    run = site.done("T1", "T2", R={"gate": True, "task": "Deploy"})
    keys = site.keys(run)
    spec, commit_of_t1 = site.redis.hget(keys.spec, "R"), site.redis.hget(keys.facts, "T1 commit")
    with closing(Connection(site.a.parts.config.redis_url, site.world.settings)) as person:
        person.identity = site.world.signing
        subject = subject_of(person, run, "R")
        assert subject is not None
        assert (subject.task, subject.repo, subject.ordered_by) == ("Deploy", "down", "person")
        assert (subject.heads, subject.unverified) == ({"up": commit_of_t1}, ())

        site.redis.hset(keys.spec, "R", spec.replace("Deploy", "Look"))
        with pytest.raises(NotTrusted, match="spec of R"):
            subject_of(person, run, "R")
        site.redis.hset(keys.spec, "R", spec)
        site.redis.hset(keys.facts, "T1 commit", site.foreign())
        with pytest.raises(NotTrusted, match="the tip of T1"):
            subject_of(person, run, "R")
        site.redis.hset(keys.facts, "T1 commit", commit_of_t1)
        site.redis.hdel(keys.results, "T1")
        unsigned = subject_of(person, run, "R")
        assert unsigned is not None
        assert "no signature" in unsigned.unverified[0]
        site.redis.delete(keys.order)
        nothing = subject_of(person, run, "R")
        assert nothing is not None
        assert (nothing.task, nothing.order, nothing.unverified) == ("", "", ("the order",))


def test_a_predecessor_that_did_not_run_is_not_believed(site: Site):
    run = site.run()
    keys = site.keys(run)
    site.redis.hset(keys.state, mapping={"T1": "succeeded", "R": "dispatched"})
    site.refused(site.b, run, "R", "down", "the result of T1: there is no signature")


def test_a_retry_does_not_begin_at_a_tip_that_was_moved_before_it(site: Site):
    """The person who submits the retry reads the moved tip, and puts it into the brief."""
    run = site.done("T1", "T2", T3={"action": "false"})
    assert site.a.parts.deliveries.handle(run, "T3", 1, "up").kind is TaskResultKind.FAILED
    site.b.do(run, "R", "down")
    moved_tip(site, run)
    again = site.retry(run)
    brief = RunBrief.model_validate_json(site.redis.hget(site.keys(again).meta, "brief"))
    assert brief.lineage.within("up").tip == site.redis.hget(site.keys(run).tips, "up")
    site.refused(site.a, again, "T3", "up", "is at")


@pytest.mark.parametrize("moved", [True, False], ids=["forged", "still_possible_to_do_a_todo_again"])
def test_a_retry_behind_a_forged_compensation_begins_where_a_signed_result_began(site: Site, moved: bool):
    run = site.done("T1", "T2", "T3")
    site.b.do(run, "R", "down")
    keys = site.keys(run)
    site.redis.hset(keys.state, "T2", "compensated")
    site.redis.hset(
        keys.facts, mapping={"T2 was": "succeeded"} | ({"T2 began": site.foreign()} if moved else {})
    )
    again = site.retry(run)

    if moved:
        site.refused(site.a, again, "T2", "up")
    else:
        site.a.do(again, "T2", "up")
        assert git(site.up, "show", f"{tip(site.up, again)}:work") == "T1\nT2"


def test_a_result_that_a_retry_makes_again_is_not_taken_from_the_former_run(site: Site):
    run = site.done("T1", "T2", "T3")
    site.b.do(run, "R", "down")
    again = site.retry(run, start=["T1"])
    old, new = site.keys(run), site.keys(again)
    facts = {f"T1 {name}": site.redis.hget(old.facts, f"T1 {name}") for name in ("commit", "settled_by")}
    site.redis.hset(new.facts, mapping={**facts, "T1 run": run})
    site.redis.hset(new.output, "T1", site.redis.hget(old.output, "T1"))
    site.redis.hset(new.state, mapping={"T1": "succeeded", "R": "dispatched"})
    site.refused(site.b, again, "R", "down", "does not count here")


@pytest.mark.parametrize("says", ["what it holds", "the signed commit"])
def test_a_bundle_with_other_commits_is_not_used(site: Site, says: str):
    """The wanted commit is the signed one, and its hash tells what belongs to it."""
    run = site.done("T1")
    signed, foreign = tip(site.up, run), site.foreign()
    git(site.up, "branch", "coord/20260101-000000-evil", foreign)
    file = site.world.folder / "bundle"
    git(site.up, "bundle", "create", "-q", str(file), "coord/20260101-000000-evil")
    data = file.read_bytes()
    if says == "the signed commit":
        data = data.replace(foreign.encode(), signed.encode())
    site.redis.hset(site.keys(run).bundle("up"), signed, data)

    told = site.b.parts.deliveries.handle(run, "R", 1, "down")
    assert told.kind is TaskResultKind.LATER
    assert "whose work is not on this host" in told.why
    assert not (site.b.state / "carried" / run / "up" / signed).exists()
