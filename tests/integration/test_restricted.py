"""Requests of a restricted worker to a keeper, and their refusals. A user who can publish for one repository
counts as its worker; here it asks for another repository.
"""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from inspect import signature
from typing import Any

import pytest
import redis

from coordination.backend.steps.run import Reply
from coordination.cache.connection import Connection, TodoContext
from coordination.cache.contexts import Cache
from coordination.cache.names import Scope, chain_of
from coordination.errors import NotAllowed, UsageError
from coordination.events.stream import EventStream
from coordination.models import Strategy
from coordination.runs.attempt_store import AttemptStore
from coordination.runs.cleanup_jobs import CleanupQueue
from coordination.runs.records import TodoState
from coordination.runs.remote_steps import calls
from coordination.runs.remote_steps.calls import (
    NobodyAnswers,
    ProxyCleanupQueue,
    ProxyContexts,
    ProxyPresence,
    ProxyStore,
)
from coordination.runs.remote_steps.handlers import StepHandlers, delivery_of
from coordination.runs.run_contexts import ContextCalls
from coordination.runs.worker_registry import WorkerRegistry
from tests.plans import PLAN
from tests.restricted_workers import DONE, LEASE, Site, granted
from tests.waiting import until
from workers.attempt.context_socket import ContextSocket


def test_a_worker_of_one_repository_settles_its_todo_and_the_next_todo_is_sent(site: Site):
    run_id = site.submit()

    settled = site.asking("alpha").settle(granted(site.asking("alpha"), run_id, "A"), DONE)

    assert settled == Reply(word="settled", status="running")  # the consequences are the keeper's
    assert site.queue("beta") == 1
    handed = site.asking("beta").handed_over(run_id, ["A"]).todos
    assert [(one.todo, one.output) for one in handed] == [("A", {"x": 1})]


def test_a_write_with_an_old_fence_is_counted(site: Site):
    run_id = site.submit()

    site.asking("alpha").refused(run_id, "A", 1, "its fence is old")

    assert site.client.hget(site.store.keys.counters, "stale_writes") == "1"


PROXIES = {
    ProxyStore: AttemptStore, ProxyCleanupQueue: CleanupQueue, ProxyPresence: WorkerRegistry,
    ProxyContexts: ContextCalls,
}  # fmt: skip
LOCAL = {"__init__", "__module__", "__doc__", "context_compute", "close"}
REMOTE = {name: getattr(real, name) for proxy, real in PROXIES.items() for name in vars(proxy).keys() - LOCAL}


@pytest.mark.parametrize("step", sorted(REMOTE))
def test_a_handler_takes_the_arguments_that_a_worker_sends(step: str):
    _, *sent = signature(REMOTE[step]).parameters
    _, _, *taken = signature(getattr(StepHandlers, step)).parameters

    assert sent == taken


def test_a_worker_reads_the_context_of_its_own_todos_only(site: Site):
    run_id = site.submit()
    cache = Cache(site.client, "test")
    cache.at(PLAN, run_id).set("a", [1])
    cache.close()
    own, others = (chain_of(PLAN, [run_id], todo) for todo in ("A", "C"))

    grant = granted(site.asking("alpha"), run_id, "A")
    over = site.asking("alpha").handed_over(run_id, [], own, 1000)

    assert grant.shared
    assert (over.context, over.omitted) == ({"a": [1]}, 0)
    assert site.asking("alpha").handed_over(run_id, [], own, 1).omitted == 1
    for chain, words in ((others, "is not a todo of alpha"), ((own[0], "plan/OTHER"), "sees other contexts")):
        with pytest.raises(NotAllowed, match=words):
            site.asking("alpha").handed_over(run_id, [], chain, 1000)


def test_a_keeper_records_the_credentials_that_a_worker_reads_for_its_own_todos(site: Site):
    run_id = site.submit()

    site.asking("alpha").secrets_read(run_id, "A", "alpha", "w@h", ["npm"])
    for wrong in (("C", ["npm"]), ("A", ["../npm"]), ("A", ["n" * 65])):
        with pytest.raises(NotAllowed):
            site.asking("alpha").secrets_read(run_id, wrong[0], "gamma", "w@h", wrong[1])

    site.asking("beta").secrets_read(run_id, "", "alpha", "w@h", ["git-token"])  # B builds on A
    with pytest.raises(NotAllowed):
        site.asking("alpha").secrets_read(run_id, "", "gamma", "w@h", ["git-token"])

    stream = EventStream(site.client, "test")
    event, of_git = (one for one in stream.latest(50) if one.kind == "credential.read")
    assert (event.subject, event.run, event.actor, event.repos) == ("npm", run_id, "w@h", ("alpha",))
    assert (event.data, of_git.data, of_git.repos) == ({"todo": "A"}, {"todo": "git"}, ("alpha",))


def test_the_same_request_and_the_same_settle_again_change_nothing(site: Site):
    run_id, alpha = site.submit(), site.asking("alpha")

    first, second = granted(alpha, run_id, "A"), granted(alpha, run_id, "A")
    words = [alpha.settle(first, DONE).word for _ in range(2)]

    assert first == second
    assert words == ["settled", "again"]
    assert site.queue("beta") == 1


def test_all_a_worker_does_to_a_run_can_be_asked_for(site: Site):
    run_id, alpha = site.submit(), site.asking("alpha")

    grant = granted(alpha, run_id, "A")
    alpha.log(run_id, "A", 1, "a line\n")
    renewed = alpha.renew({f"{run_id} A": grant.fence}, LEASE)
    kept = alpha.checkpoint(grant, "[1]")
    parked = alpha.park(grant, "a slot", timedelta(seconds=5))
    site.dispatcher.follow(site.store.fire(run_id, "A"))
    first = granted(alpha, run_id, "A")
    retried = alpha.retry(first, timedelta(0), replace(DONE, outcome=TodoState.FAILED))
    again = granted(alpha, run_id, "A", attempt=2)
    back = alpha.hand_back(again, "[2]")

    assert renewed == ([], [])
    assert [reply.word for reply in (kept, parked, retried, back)] == [
        "kept",
        "parked",
        "retrying",
        "retrying",
    ]
    last = granted(alpha, run_id, "A", attempt=3)
    assert [grant.checkpoint for grant in (first, again, last)] == ["[1]", DONE.output, "[2]"]
    assert [fields["text"] for _, fields in site.client.xrange(site.store.keys.run(run_id).log("A"))] == [
        "a line\n"
    ]
    assert alpha.status(run_id) == "running"


def test_a_worker_reads_the_brief_of_its_own_todos_and_their_predecessors_only(site: Site):
    run_id = site.submit()

    brief = site.asking("beta").brief(run_id)

    assert brief.repo_of == {"A": "alpha", "B": "beta"}
    assert brief.predecessors == {"A": (), "B": ("A",)}
    assert site.asking("elsewhere").status(run_id) is None
    with pytest.raises(NotAllowed, match=r"C of run .* is not a predecessor of a todo of beta"):
        site.asking("beta").handed_over(run_id, ["A", "C"])


@pytest.mark.parametrize("who", [("alpha", "lone"), ("alpha",), ("lone",)], ids=lambda who: "+".join(who))
def test_a_level_is_joined_by_the_worker_or_the_leader(site: Site, who: tuple[str, ...]):
    """`who` asks; the other todo of the level is counted as Celery counts it for a worker that may do
    everything.
    """
    run_id = site.submit(Strategy.LEVELS)
    control = site.store.keys.control_queue

    for todo, repo in (("A", "alpha"), ("L", "lone")):
        assert site.client.llen(control) == 0
        store = site.asking(repo) if repo in who else site.store
        store.settle(granted(store, run_id, todo), DONE)
        if repo not in who:
            site.dispatcher.join(delivery_of(site.store, run_id, todo))

    (advance,) = site.client.lrange(control, 0, -1)
    assert json.loads(advance)["headers"]["task"] == "coord.advance"
    site.dispatcher.advance(run_id, 0, "join")
    assert site.queue("beta") == 1


def test_a_level_of_one_todo_is_followed_by_its_advance(site: Site):
    run_id = site.submit(Strategy.LEVELS)
    for todo in ("A", "L"):
        site.store.settle(granted(site.store, run_id, todo), DONE)
    site.dispatcher.advance(run_id, 0, "join")

    site.asking("beta").settle(granted(site.asking("beta"), run_id, "B"), DONE)

    assert site.client.llen(site.store.keys.control_queue) == 1


def test_a_request_without_a_leading_keeper_waits_and_is_answered_once_one_leads(
    site: Site, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(calls, "UNHEARD_S", 0.1)
    site.serving.stop()
    until(lambda: site.client.pubsub_numpat() == 0)

    with pytest.raises(NobodyAnswers, match="coord keeper"):
        site.asking("alpha").status("R")
    site.serving.start()

    until(lambda: site.client.pubsub_numpat() == 1)
    assert site.asking("alpha").status("R") is None


def test_an_answer_that_was_lost_is_asked_for_again(site: Site, redis_url: str):
    class Deaf(redis.Redis):
        """Loses the first answer, as a connection may."""

        lost = 0

        def blpop(self, *words: Any, **more: Any) -> Any:
            answer = super().blpop(*words, **more)
            self.lost += 1
            return None if self.lost == 1 else answer

    run_id = site.submit()
    deaf = Deaf.from_url(redis_url, decode_responses=True)

    grant = granted(ProxyStore(deaf, "test", ["alpha"]), run_id, "A")

    assert deaf.lost == 2
    assert site.client.hget(site.store.keys.holders, f"{run_id} A") == str(grant.fence)
    deaf.close()


def test_answers_leave_nothing_behind(site: Site):
    run_id = site.submit()
    granted(site.asking("alpha"), run_id, "A")

    assert site.client.keys("test:restricted:*") == []


def test_a_todo_of_a_restricted_worker_uses_its_own_context_only(site: Site):
    run_id = site.submit()
    alpha, beta = ProxyContexts(site.asking("alpha")), ProxyContexts(site.asking("beta"))

    alpha.context_set(run_id, "A", "shared", '{"n":["\\ud800",1]}')
    alpha.context_set(run_id, "A", "own", "1", scope=Scope.TODO)

    assert beta.context_get(run_id, "B", "shared") == ['{"n": ["\\ud800", 1]}']
    assert beta.context_get(run_id, "B", "own") == []
    assert [kept.key for kept in beta.context_list(run_id, "B")] == ["shared"]
    assert beta.context_delete(run_id, "B", ["sh*"]) == 1
    for refused, ask in (
        (NotAllowed, lambda: alpha.context_get(run_id, "B", "own")),
        (NotAllowed, lambda: alpha.context_set(run_id, "L", "own", "1")),
        (UsageError, lambda: alpha.context_set(run_id, "A", "*", "1")),
        (UsageError, lambda: alpha.context_set(run_id, "A", "a", "no JSON")),
        (NotAllowed, lambda: alpha.context_compute(run_id, "A", "a", lambda: "1")),
    ):
        with pytest.raises(refused):
            ask()


def test_a_restricted_workers_todo_asks_over_the_same_socket(site: Site):
    run_id = site.submit()
    with ContextSocket(ProxyContexts(site.asking("alpha")), run_id, "A", 1000) as told:
        todo = TodoContext(Connection.model_validate_json(told))
        todo.set("a", {"b": 1})

        assert todo.get("a") == {"b": 1}
        assert [kept.key for kept in todo.list()] == ["a"]
        with pytest.raises(UsageError):
            todo.set("a", "x" * 10_000_000)
        with pytest.raises(UsageError):
            todo._ask("get", name="a")
