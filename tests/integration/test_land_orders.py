"""A worker that requires signatures lands what somebody with the right to land has ordered, and only tips
that a signed result states.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from socket import gethostname
from typing import Any

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
from tests.engine import submit
from tests.integration.conftest import MakeWorker
from tests.plans import order
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
    how = replace(landing(TIP, via), overrides=overrides)
    site.run_id, reply = ordered(site, by, how, Repo(name="r1"), operation)
    site.worker.dispatcher.follow(reply)
    site.deliver("P.check.r1")
    return site.todo("P.check.r1").error or ""


def landing(tip: str, via: Via = Via.LOCAL, **facts: Any) -> Landing:
    change = RepoChange(repo="r1", branch="coord/P", tip=tip, run="R", **facts)
    one = RepoLanding(repo="r1", branch="main", via=via, change=change)
    return Landing(change_set="P", title="a change", patience=timedelta(hours=1), repos=(one,))


def ordered(site: Trusting, by: str, found: Landing, repo: Repo, operation: str = "land") -> tuple[str, Any]:
    records, graph = landing_graph(Ecosystem(repos=(repo,)), found)
    how = replace(order(on_failure=OnFailure.ROLLBACK), operation=operation)  # type: ignore[arg-type]
    return submit(site.store, graph, records, Settings(), how, signing=site.persons.signing(by))


def signed_result(site: Trusting, **origin: str) -> str:
    """The result by which TIP may land, as the worker signs it."""
    facts = {"run": "R", "todo": "A", "attempt": 1, "fence": 1, "repo": "r1", "base": "c" * 40, "tip": TIP}
    where = {**site.store.audience("").origin(), **origin}
    record = ResultRecord(**where, **facts, output="", outcome="succeeded", change_set="P")
    return seal_result(record, site.worker.worker_key.load())


def adoption(site: Trusting, by: str, **facts: str) -> str:
    """The adoption by which TIP may land, as a person signs it."""
    where = {**site.store.audience("").origin(), "at": "2026-01-01T00:00:00+00:00"}
    known = {"change_set": "P", "repo": "r1", "base": "c" * 40, "tip": TIP}
    return seal_adoption(AdoptionRecord(**{**where, **known, **facts}), site.persons.signer(by))


def recorded(site: Trusting, tip: str = TIP, *, base: str = "", signed: str = "") -> None:
    """The owner of Redis says that the change set is at this commit, and that this is signed."""
    facts = {"tip": tip, "branch": "coord/P", "run": "R", "base": base, "result": signed}
    found = {f"{fact} r1": value for fact, value in facts.items() if value}
    site.redis.hset(site.store.keys.changes("P"), mapping=found)


@pytest.mark.parametrize(
    ("by", "how", "refused"),
    [
        ("ann", {}, "lacks the right land"),
        ("bob", {}, "lacks the right land"),
        ("olga", {"via": Via.PR}, "lacks the right merge"),
        ("olga", {"overrides": ("--no-qa",)}, "lacks the right override"),
        ("olga", {"overrides": ("--accept=T1", "--repo=r1")}, "lacks the right override"),
        # or everybody who may order a sweep could land
        ("ann", {"operation": "sweep"}, "was ordered as sweep"),
        ("olga", {"operation": "sweep"}, "was ordered as sweep"),
    ],
)
def test_an_order_to_land_needs_each_right_that_it_uses(
    site: Trusting, monkeypatch: pytest.MonkeyPatch, by: str, how: dict[str, Any], refused: str
):
    """An order that only lands does not need the rights to merge and to override."""
    monkeypatch.setitem(RIGHTS, Role.OPERATOR, RIGHTS[Role.OPERATOR] - {Right.MERGE})  # type: ignore[arg-type]
    assert refused in land(site, by, **how)
    assert "lacks" not in land(site, "olga")


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
    recorded(site, signed=adoption(site, by, change_set=change_set, repo=repo, tip=tip))
    before = len(site.refusals)
    land(site, "olga")
    assert (len(site.refusals) == before) is believed


def test_still_possible_an_older_tip_of_a_change_set_lands_if_a_person_orders_it(site: Trusting):
    """Also that of a run that was rolled back: its signed result stays true."""
    recorded(site, signed=signed_result(site))
    before = len(site.refusals)

    land(site, "olga")
    assert len(site.refusals) == before


@pytest.mark.parametrize("other", [{"server": "f" * 32}, {"namespace": "staging"}])
@pytest.mark.parametrize("kind", ["result", "adoption"])
def test_what_was_signed_on_another_server_does_not_land(site: Trusting, kind: str, other: dict[str, str]):
    """A plan of the same name may exist there, and its worker may be trusted here."""
    recorded(
        site, signed=signed_result(site, **other) if kind == "result" else adoption(site, "olga", **other)
    )

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
    recorded(site, tip, base=base, signed=adoption(site, "olga", base=base, tip=tip))
    checked = Repo.model_validate({"name": "r1", "qa": "false" if forged else "test -e work"})
    site.run_id, _ = ordered(site, "olga", replace(landing(tip, base=base), qa=True), checked)

    site.deliver("P.check.r1")
    if forged:
        how = {"worker": "w", "host": gethostname(), "lease": timedelta(minutes=1), "request": "x"}
        claimed = site.store.claim(site.run_id, "P.qa.r1.qa", 1, **how)
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
