"""A worker that requires signatures lands what somebody with the right to land has ordered, and only tips
that a signed result states.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from socket import gethostname

import pytest

from coordination.checks.report import recorded_checks
from coordination.landing.graph import landing_graph
from coordination.landing.records import Landing, RepoLanding
from coordination.models import Ecosystem, OnFailure, Plan, Repo, Via
from coordination.runs.change_sets.records import CheckResult, CheckVerdict, RepoChange
from coordination.runs.connection import Connection
from coordination.runs.records import Result, TodoState
from coordination.settings import Settings
from coordination.trust.results import AdoptionRecord, ResultRecord, seal_adoption, seal_result, trusting_own
from coordination.trust.rights import RIGHTS, Right, Role
from coordination.trust.trust_file import read_trust
from tests.integration.conftest import MakeWorker
from tests.plans import order
from tests.submitting import submit
from tests.testbed import git
from tests.trusted_worker import Persons, Trusting
from tests.worktrees import save

TIP = "a" * 40


@pytest.fixture
def site(make_worker: MakeWorker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Trusting:
    persons = Persons(tmp_path)
    monkeypatch.setenv("COORD_TRUST_FILE", str(persons.file))
    persons.trust(ann="submitter", olga="operator", bob="approver")
    worker = make_worker("r1", settings=Settings(signatures="require"))
    return Trusting(worker, persons, tmp_path / "ledger")


def land(
    site: Trusting, by: str, operation: str = "land", via: Via = Via.LOCAL, overrides: tuple[str, ...] = ()
) -> str:
    """Order a landing; return the error of its first todo."""
    landing = Landing(
        change_set="P",
        title="a change",
        patience=timedelta(hours=1),
        overrides=overrides,
        repos=(
            RepoLanding(
                repo="r1",
                branch="main",
                via=via,
                change=RepoChange(repo="r1", branch="coord/P", tip=TIP, run="R"),
            ),
        ),
    )
    records, graph = landing_graph(Ecosystem(repos=(Repo(name="r1"),)), landing)
    how = replace(order(on_failure=OnFailure.ROLLBACK), operation=operation)  # type: ignore[arg-type]
    site.run_id, reply = submit(site.store, graph, records, Settings(), how, signing=site.persons.signing(by))
    site.worker.dispatcher.follow(reply)
    site.deliver("P.check.r1")
    return site.todo("P.check.r1").error or ""


def recorded(site: Trusting, tip: str = TIP) -> None:
    """The owner of Redis says that the change set is at this commit."""
    site.redis.hset(
        site.store.keys.changes("P"), mapping={"tip r1": tip, "branch r1": "coord/P", "run r1": "R"}
    )


@pytest.mark.parametrize("by", ["ann", "bob"])
def test_an_order_to_land_needs_the_right_to_land(site: Trusting, by: str):
    assert "lacks the right land" in land(site, by)


@pytest.mark.parametrize("via", [Via.LOCAL, Via.PR])
def test_an_order_to_merge_a_pull_request_needs_the_right_to_merge_as_well(
    site: Trusting, via: Via, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(RIGHTS, Role.OPERATOR, RIGHTS[Role.OPERATOR] - {Right.MERGE})  # type: ignore[arg-type]
    assert ("lacks the right merge" in land(site, "olga", via=via)) is (via is Via.PR)


@pytest.mark.parametrize("overrides", [(), ("--no-qa",), ("--accept=T1", "--repo=r1")])
def test_an_order_to_land_without_a_safeguard_needs_the_right_to_override(
    site: Trusting, overrides: tuple[str, ...]
):
    assert ("lacks the right override" in land(site, "olga", overrides=overrides)) is bool(overrides)


@pytest.mark.parametrize("by", ["ann", "olga"])
def test_a_todo_that_lands_is_refused_in_the_order_of_a_sweep(site: Trusting, by: str):
    """Or everybody who may order a sweep could land."""
    assert "was ordered as sweep" in land(site, by, "sweep")


def test_a_tip_that_no_signed_result_states_does_not_land(site: Trusting):
    recorded(site)
    before = len(site.refusals)

    assert "not executed" not in land(site, "olga"), "the order is good"
    assert len(site.refusals) == before + 1
    assert site.todo("P.check.r1").was == "failed"


@pytest.mark.parametrize(
    ("by", "change_set", "repo", "tip", "believed"),
    [
        ("olga", "P", "r1", TIP, True),
        ("ann", "P", "r1", TIP, False),
        ("eve", "P", "r1", TIP, False),
        ("olga", "Q", "r1", TIP, False),
        ("olga", "P", "r2", TIP, False),
        ("olga", "P", "r1", "b" * 40, False),
    ],
)
def test_an_adopted_tip_lands_if_somebody_who_may_has_signed_it(
    site: Trusting, by: str, change_set: str, repo: str, tip: str, believed: bool
):
    recorded(site)
    at = "2026-01-01T00:00:00+00:00"
    record = AdoptionRecord(
        **site.store.audience("").origin(), change_set=change_set, repo=repo, base="c" * 40, tip=tip, at=at
    )
    signed = seal_adoption(record, site.persons.signer(by))
    site.redis.hset(site.store.keys.changes("P"), "result r1", signed)
    before = len(site.refusals)
    land(site, "olga")
    assert (len(site.refusals) == before) is believed


def test_still_possible_an_older_tip_of_a_change_set_lands_if_a_person_orders_it(site: Trusting):
    """Also that of a run that was rolled back: its signed result stays true."""
    facts = {"run": "R", "todo": "A", "attempt": 1, "fence": 1, "repo": "r1", "base": "c" * 40, "tip": TIP}
    origin = site.store.audience("").origin()
    record = ResultRecord(**origin, **facts, output="", outcome="succeeded", change_set="P")
    recorded(site)
    signed = seal_result(record, site.worker.worker_key.load())
    site.redis.hset(site.store.keys.changes("P"), "result r1", signed)
    before = len(site.refusals)

    land(site, "olga")
    assert len(site.refusals) == before


@pytest.mark.parametrize("other", [{"server": "f" * 32}, {"namespace": "staging"}])
@pytest.mark.parametrize("kind", ["result", "adoption"])
def test_what_was_signed_on_another_server_does_not_land(site: Trusting, kind: str, other: dict[str, str]):
    """A plan of the same name may exist there, and its worker may be trusted here."""
    origin = {**site.store.audience("").origin(), **other}
    if kind == "result":
        facts = {"run": "R", "todo": "A", "attempt": 1, "fence": 1, "repo": "r1", "base": "c" * 40}
        more = {"tip": TIP, "output": "", "outcome": "succeeded", "change_set": "P"}
        signed = seal_result(ResultRecord(**origin, **facts, **more), site.worker.worker_key.load())
    else:
        at = "2026-01-01T00:00:00+00:00"
        record = AdoptionRecord(**origin, change_set="P", repo="r1", base="c" * 40, tip=TIP, at=at)
        signed = seal_adoption(record, site.persons.signer("olga"))
    recorded(site)
    site.redis.hset(site.store.keys.changes("P"), "result r1", signed)

    land(site, "olga")

    assert len(site.refusals) == 1


@pytest.mark.parametrize("forged", [False, True])
def test_a_green_result_that_no_worker_has_signed_lets_nothing_land(
    make_worker: MakeWorker, checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, forged: bool
):
    base = git(checkout, "rev-parse", "main")
    git(checkout, "checkout", "-q", "-b", "coord/P")
    tip = save(checkout, "work", work="done\n")
    git(checkout, "checkout", "-q", "main")
    persons = Persons(tmp_path)
    monkeypatch.setenv("COORD_TRUST_FILE", str(persons.file))
    persons.trust(olga="operator")
    worker = make_worker(settings=Settings(signatures="require"), r1=checkout)
    site = Trusting(worker, persons, tmp_path / "ledger")
    origin, at = site.store.audience("").origin(), "2026-01-01T00:00:00+00:00"
    record = AdoptionRecord(**origin, change_set="P", repo="r1", base=base, tip=tip, at=at)
    signed = seal_adoption(record, persons.signer("olga"))
    site.redis.hset(site.store.keys.changes("P"), mapping={"base r1": base, "result r1": signed})
    recorded(site, tip)
    change = RepoChange(repo="r1", branch="coord/P", base=base, tip=tip, run="R")
    one = RepoLanding(repo="r1", branch="main", via=Via.LOCAL, change=change)
    landing = Landing(change_set="P", title="x", patience=timedelta(hours=1), qa=True, repos=(one,))
    checked = Repo.model_validate({"name": "r1", "qa": "false" if forged else "test -e work"})
    records, graph = landing_graph(Ecosystem(repos=(checked,)), landing)
    how = replace(order(on_failure=OnFailure.ROLLBACK), operation="land")
    site.run_id, _ = submit(site.store, graph, records, Settings(), how, signing=persons.signing("olga"))

    site.deliver("P.check.r1")
    if forged:
        claimed = site.store.claim(
            site.run_id,
            "P.qa.r1.qa",
            1,
            worker="w",
            host=gethostname(),
            lease=timedelta(minutes=1),
            request="x",
        )
        assert claimed.grant is not None
        green = CheckResult(verdict=CheckVerdict.GREEN).written()
        at = claimed.grant.tip or ""
        done = Result(outcome=TodoState.SUCCEEDED, exit_code=0, output=green, tip=at, began=at)
        assert site.store.settle(claimed.grant, done).word == "settled"
    else:
        site.deliver("P.qa.r1.qa")
    site.deliver("P.locks")
    site.deliver("P.land.r1")

    found = site.todo("P.land.r1")
    assert ((found.was or found.state) == "failed") is forged, found.error
    assert ("P.qa.r1.qa" in (found.error or "")) is forged
    assert (git(checkout, "rev-parse", "main") == base) is forged
    site.redis.delete(site.store.keys.changes("P"))  # its tip is not the commit that was checked
    trust = trusting_own(read_trust(persons.file), worker.worker_key.load())
    plan = Plan(id="P", title="x", repos=("r1",))
    with closing(Connection(worker.config.redis_url, Settings())) as connection:
        declared = Ecosystem(repos=(checked,))
        (shown,) = recorded_checks(connection, declared, plan).values()
        (believed,) = recorded_checks(connection, declared, plan, trust).values()
    assert (shown.accepted, believed.accepted) == (True, not forged), believed.why
