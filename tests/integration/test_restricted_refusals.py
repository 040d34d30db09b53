"""Refusals of a restricted worker: any publisher for a repository counts as its worker."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from coordination.errors import Conflict, NotAllowed, UsageError
from coordination.runs.records import Result, TodoState
from coordination.runs.remote_steps.calls import ProxyPresence
from coordination.runs.remote_steps.serving import CallQueue
from coordination.runs.worker_registry import Worker
from coordination.settings import Settings
from tests.restricted_workers import DONE, LEASE, Site, claim, granted

LASTING = timedelta(days=365_000)


def test_no_lease_is_longer_than_the_leader_allows(site: Site):
    run_id, asking = site.submit(), site.asking("alpha")
    reply = claim(asking, run_id, "A", lease=LASTING)
    assert reply.grant is not None
    latest = site.store.now_ms() + 60_000
    assert 0 < site.client.zscore(site.store.keys.leases, f"{run_id} A") <= latest
    asking.renew({f"{run_id} A": reply.grant.fence}, LASTING)
    assert site.client.zscore(site.store.keys.leases, f"{run_id} A") <= latest + 60_000


@pytest.mark.parametrize("todo", ["B", "L", "no-such"])
@pytest.mark.parametrize(
    "step",
    [
        lambda store, run_id, grant: claim(store, run_id, grant.todo_id),
        lambda store, run_id, grant: store.settle(grant, DONE),
        lambda store, run_id, grant: store.retry(grant, LEASE, DONE),
        lambda store, run_id, grant: store.hand_back(grant),
        lambda store, run_id, grant: store.checkpoint(grant, "[1]"),
        lambda store, run_id, grant: store.park(grant, "me", LEASE),
        lambda store, run_id, grant: store.renew({f"{run_id} {grant.todo_id}": grant.fence}, LEASE),
        lambda store, run_id, grant: store.log(run_id, grant.todo_id, 1, "words"),
        lambda store, run_id, grant: store.handed_over(run_id, [grant.todo_id]),
    ],
    ids=["claim", "settle", "retry", "hand_back", "checkpoint", "park", "renew", "log", "handed_over"],
)
def test_a_todo_of_another_repository_is_refused(site: Site, step: Callable[..., Any], todo: str):
    run_id = site.submit()
    grant = replace(granted(site.store, run_id, "A"), todo_id=todo)
    before = site.client.hgetall(site.store.keys.run(run_id).facts)

    with pytest.raises(NotAllowed, match=f"{todo} of run {run_id} is no"):
        step(site.asking("alpha"), run_id, grant)

    assert site.client.hgetall(site.store.keys.run(run_id).facts) == before


@pytest.mark.parametrize(
    ("result", "why"),
    [
        (Result(outcome=TodoState.WAITING), "does not end as waiting"),
        (Result(outcome=TodoState.SKIPPED), "does not end as skipped"),
        (replace(DONE, output="{"), "is not JSON"),
        (replace(DONE, output="[" * 10_000 + "]" * 10_000), "is not JSON"),
        (replace(DONE, output="NaN"), "is not JSON"),
        (replace(DONE, output=f'"{"x" * 100_000}"'), "more than 65536"),
        (replace(DONE, tip="--upload-pack=touch /tmp/x"), "is not a commit"),
    ],
)
def test_a_harmful_result_is_refused(site: Site, result: Result, why: str):
    run_id, alpha = site.submit(), site.asking("alpha")
    grant = granted(alpha, run_id, "A")

    with pytest.raises(NotAllowed, match=why):
        alpha.settle(grant, result)

    assert site.client.hget(site.store.keys.run(run_id).state, "A") == "running"


@pytest.mark.parametrize(
    ("step", "given"),
    [
        ("cancel", {"run_id": "R", "actor": "me"}),
        ("complete", {}),
        ("_own", {}),
        ("claim", {"repos": ["beta"], "run_id": "R", "todo_id": "B"}),
        ("claim", {"run_id": "R"}),
        ("renew", {"leases": {"no member": "x"}, "lease": "soon"}),
    ],
)
def test_words_that_are_no_request_are_refused(site: Site, step: str, given: dict[str, Any]):
    with pytest.raises(NotAllowed):
        site.asking("alpha").client.ask(step, given)


@pytest.mark.parametrize(
    "rubbish", ["", "{", "[]", '{"id": 1}', '{"id": "q", "step": "claim", "given": 7}', "\udc80"]
)
def test_an_unreadable_request_delays_no_other_worker(site: Site, rubbish: str):
    site.client.publish(
        site.store.keys.restricted(["alpha"]).requests, rubbish.encode(errors="surrogateescape")
    )

    assert site.asking("alpha").status("no-such") is None


@pytest.mark.parametrize(
    ("step", "given", "error"),
    [
        ("context_delete", {"names": ["key"] * 1001}, UsageError),
        ("context_set", {"key": "k", "value": "x" * (9 * 2**20 + 1)}, UsageError),
        ("context_list", {"pattern": "*a" * 200}, UsageError),
        ("refused", {"attempt": 1, "why": "x" * 100_000}, NotAllowed),
        ("renew", {"leases": {f"R T{n}": 1 for n in range(10_001)}, "lease": 1}, NotAllowed),
    ],
)
def test_a_request_for_too_much_at_once_is_refused(site: Site, step: str, given: dict[str, Any], error):
    run_id = site.submit()
    whose = {} if step == "renew" else {"run_id": run_id, "todo_id": "A"}

    with pytest.raises(error):
        site.asking("alpha").client.ask(step, {**whose, **given})


def test_many_requests_of_one_worker_keep_no_other_waiting_and_renewals_come_first():
    waiting, asked = (
        CallQueue(),
        [b'{"id":"%032x","step":"%s","given":{}}' % (n, b"log") for n in range(1500)],
    )
    renewal = asked[0].replace(b"log", b"renew")
    for data in (*asked, renewal):
        waiting.add("alpha", data)
    waiting.add("beta", b"settle")
    assert [waiting.take() for _ in range(3)] == [
        ("alpha", asked[0]),
        ("beta", b"settle"),
        ("alpha", asked[1]),
    ]

    waiting.add("alpha", renewal)

    assert waiting.take() == ("alpha", renewal)
    waiting = CallQueue()
    waiting.add("alpha", b"x" * 2**25)
    waiting.add("alpha", b"x")
    assert [len(data) for _, data in iter(waiting.take, None)] == [2**25]


def test_a_damaged_run_is_refused_and_delays_no_other_worker(site: Site):
    run_id, run = site.submit(), site.store.keys.run("damaged")
    site.client.set(run.meta, "no hash")

    with pytest.raises(NotAllowed, match="damaged"):
        claim(site.asking("alpha"), "damaged", "A")

    assert granted(site.asking("alpha"), run_id, "A")


def test_a_worker_speaks_for_itself_alone(site: Site):
    ours, theirs = (
        Worker(id=repo, host="h", pid=1, version="1", repos=(repo,), jobs=1) for repo in ("alpha", "beta")
    )
    registry = ProxyPresence(site.asking("alpha"))
    ProxyPresence(site.asking("beta")).say(theirs, 0, LEASE)

    registry.say(ours, 0, LEASE)
    for forged in (
        theirs,
        ours.model_copy(update={"id": theirs.id}),
        ours.model_copy(update={"repos": ("alpha", "beta")}),
        ours.model_copy(update={"unfit": {"beta": "it is gone"}}),
    ):
        with pytest.raises(NotAllowed, match="serves more than alpha"):
            registry.say(forged, 0, LEASE)
        with pytest.raises(NotAllowed, match="serves more than alpha"):
            registry.leave(forged)
    with pytest.raises(Conflict, match=r"this is coord 2, .* is coord 1"):
        registry.meet("2", LEASE)

    assert sorted(one.id for one in site.registry.workers()) == ["alpha", "beta"]
    registry.leave(ours)
    assert site.registry.workers() == (theirs,)


def test_a_restricted_worker_cannot_write_more_of_a_log_than_the_keeper_keeps(site: Site):
    run_id, alpha = site.submit(), site.asking("alpha")
    granted(alpha, run_id, "A")

    for _ in range(3):
        alpha.log(run_id, "A", 1, "x" * 3_000_000, limit_bytes=2**40)
    with pytest.raises(NotAllowed, match="has had no attempt 2"):
        alpha.log(run_id, "A", 2, "one more")
    with pytest.raises(NotAllowed, match="are invalid"):
        alpha.log(run_id, "A", 1, "back", skipped=-1)

    log = site.client.xrange(site.store.keys.run(run_id).log("A"))
    assert sum(len(fields["text"]) for _, fields in log) <= Settings().log_limit_bytes
