"""What a restricted worker can ask a keeper for, and what it is refused. Whoever can publish for one repository is taken for its
worker; here it asks for what is another one's.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
import redis

from coordination.backend.client import Profile, connect
from coordination.backend.embedded import EmbeddedServer
from coordination.broker.celery_app import make_app
from coordination.cache.connection import Connection, TodoContext
from coordination.cache.contexts import Cache
from coordination.cache.names import Scope, chain_of
from coordination.errors import Conflict, NotAllowed, UsageError
from coordination.models import Strategy
from coordination.runs.dispatch import Dispatcher
from coordination.runs.presence import Presence, Worker
from coordination.runs.records import Grant, Reply, Result, TodoState
from coordination.runs.remote_steps.handlers import StepHandlers
from coordination.runs.remote_steps.proxy import NobodyAnswers, ProxyContexts, ProxyPresence, ProxyStore
from coordination.runs.remote_steps.serving import Serving, Waiting
from coordination.runs.store import RunStore
from coordination.runs.submission.submit import submit
from coordination.settings import Settings
from tests.plans import PLAN, ecosystem, graph, order
from tests.waiting import until
from workers.context_socket import served

TODOS = {"A": "alpha", "B": ("beta", ["A"]), "C": ("gamma", ["B"]), "L": "lone"}
LEASE = timedelta(seconds=15)
DONE = Result(outcome=TodoState.SUCCEEDED, output='{"x":1}')
Ask = Callable[..., ProxyStore]


class Site:
    """A keeper that serves, and the store as those see it who may do everything."""

    def __init__(self, url: str) -> None:
        settings = Settings(namespace="test")
        self.client, self.pubsub_redis = (
            connect(url, Profile.WORKER),
            connect(url, Profile.READER, decode=False),
        )
        self.store = RunStore(self.client, "test")
        self.presence = Presence(self.client, self.store.keys)
        self.leads = True
        self.dispatcher = Dispatcher(make_app(url, self.store.keys, settings), self.store)
        deeds = StepHandlers(self.store, self.dispatcher, settings, "1")
        self.serving = Serving(self.client, self.pubsub_redis, self.store.keys, deeds, lambda: self.leads)

    def submit(self, strategy: Strategy = Strategy.DATAFLOW) -> str:
        run_id, reply = submit(self.store, graph(TODOS), ecosystem(TODOS), Settings(), order(strategy))
        self.dispatcher.follow(reply)
        return run_id

    def asking(self, *repos: str) -> ProxyStore:
        return ProxyStore(self.client, "test", repos)

    def queue(self, repo: str, host: str | None = None) -> int:
        length: int = self.client.llen(self.store.keys.queue(repo, host))
        return length

    def close(self) -> None:
        self.serving.stop()
        self.client.close()
        self.pubsub_redis.close()


@pytest.fixture(scope="module")
def serving(server: EmbeddedServer) -> Iterator[Site]:
    made = Site(server.start())
    made.serving.start()
    until(lambda: made.client.pubsub_numpat() == 1)
    yield made
    made.close()


@pytest.fixture
def site(serving: Site, redis_url: str) -> Site:
    """With an empty Redis."""
    return serving


def claim(store: RunStore, run_id: str, todo: str, attempt: int = 1, lease: timedelta = LEASE) -> Reply:
    return store.claim(run_id, todo, attempt, worker="w", host="h", lease=lease, request="q")


def granted(store: RunStore, run_id: str, todo: str, attempt: int = 1) -> Grant:
    grant = claim(store, run_id, todo, attempt).grant
    assert grant is not None
    return grant


def test_a_worker_of_one_repository_carries_its_todo_and_the_next_ones_worker_is_told(site: Site):
    run_id = site.submit()

    settled = site.asking("alpha").settle(granted(site.asking("alpha"), run_id, "A"), DONE)

    assert settled == Reply(word="settled", status="running")  # what follows from it is the keeper's
    assert site.queue("beta") == 1
    handed = site.asking("beta").handed_over(run_id, ["A"]).todos
    assert [(one.todo, one.output) for one in handed] == [("A", {"x": 1})]


def test_what_is_shared_is_told_of_its_own_todos_alone(site: Site):
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
    for chain, words in ((others, "no todo of alpha"), ((own[0], "plan/OTHER"), "sees other contexts")):
        with pytest.raises(NotAllowed, match=words):
            site.asking("alpha").handed_over(run_id, [], chain, 1000)


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
    parked = alpha.park(grant, "a seat", timedelta(seconds=5))
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


LASTING = timedelta(days=365_000)


def test_nobody_holds_a_todo_for_longer_than_the_keeper_allows(site: Site):
    run_id, asking = site.submit(), site.asking("alpha")
    reply = claim(asking, run_id, "A", lease=LASTING)
    assert reply.grant is not None
    latest = site.store.now_ms() + 60_000
    assert 0 < site.client.zscore(site.store.keys.leases, f"{run_id} A") < latest
    asking.renew({f"{run_id} A": reply.grant.fence}, LASTING)
    assert site.client.zscore(site.store.keys.leases, f"{run_id} A") < latest + 60_000


@pytest.mark.parametrize("todo", ["B", "L", "no-such"])
@pytest.mark.parametrize(
    "deed",
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
def test_a_todo_of_another_repository_is_refused(site: Site, deed: Callable[..., Any], todo: str):
    run_id = site.submit()
    grant = replace(granted(site.store, run_id, "A"), todo_id=todo)
    before = site.client.hgetall(site.store.keys.run(run_id).facts)

    with pytest.raises(NotAllowed, match=f"{todo} of run {run_id} is no"):
        deed(site.asking("alpha"), run_id, grant)

    assert site.client.hgetall(site.store.keys.run(run_id).facts) == before


def test_a_worker_is_told_of_its_own_todos_and_what_they_build_on_alone(site: Site):
    run_id = site.submit()

    brief = site.asking("beta").brief(run_id)

    assert brief.repo_of == {"A": "alpha", "B": "beta"}
    assert brief.predecessors == {"A": (), "B": ("A",)}
    assert site.asking("elsewhere").status(run_id) is None
    with pytest.raises(NotAllowed, match=r"C of run .* is no predecessor of a todo of beta"):
        site.asking("beta").handed_over(run_id, ["A", "C"])


@pytest.mark.parametrize(
    ("result", "why"),
    [
        (Result(outcome=TodoState.WAITING), "does not end as waiting"),
        (Result(outcome=TodoState.SKIPPED), "does not end as skipped"),
        (replace(DONE, output="{"), "is no JSON"),
        (replace(DONE, output="[" * 10_000 + "]" * 10_000), "is no JSON"),
        (replace(DONE, output="NaN"), "is no JSON"),
        (replace(DONE, output=f'"{"x" * 100_000}"'), "more than 65536"),
        (replace(DONE, tip="--upload-pack=touch /tmp/x"), "is no commit"),
    ],
)
def test_a_result_that_would_harm_others_is_refused(site: Site, result: Result, why: str):
    run_id, alpha = site.submit(), site.asking("alpha")
    grant = granted(alpha, run_id, "A")

    with pytest.raises(NotAllowed, match=why):
        alpha.settle(grant, result)

    assert site.client.hget(site.store.keys.run(run_id).state, "A") == "running"


@pytest.mark.parametrize(
    ("deed", "given"),
    [
        ("cancel", {"run_id": "R", "actor": "me"}),
        ("complete", {}),
        ("_own", {}),
        ("claim", {"repos": ["beta"], "run_id": "R", "todo_id": "B"}),
        ("claim", {"run_id": "R"}),
        ("renew", {"leases": {"no member": "x"}, "lease": "soon"}),
    ],
)
def test_words_that_are_no_request_are_refused(site: Site, deed: str, given: dict[str, Any]):
    with pytest.raises(NotAllowed):
        site.asking("alpha").wire.ask(deed, given)


@pytest.mark.parametrize(
    "rubbish", ["", "{", "[]", '{"id": 1}', '{"id": "q", "deed": "claim", "given": 7}', "\udc80"]
)
def test_a_request_that_cannot_be_read_holds_nobody_up(site: Site, rubbish: str):
    site.client.publish(
        site.store.keys.restricted(["alpha"]).requests, rubbish.encode(errors="surrogateescape")
    )

    assert site.asking("alpha").status("no-such") is None


@pytest.mark.parametrize(
    ("deed", "given", "error"),
    [
        ("context_delete", {"names": ["key"] * 1001}, UsageError),
        ("context_set", {"key": "k", "value": "x" * (9 * 2**20 + 1)}, UsageError),
        ("context_list", {"pattern": "*a" * 200}, UsageError),
        ("refused", {"attempt": 1, "words": "x" * 100_000}, NotAllowed),
        ("renew", {"leases": {f"R T{n}": 1 for n in range(10_001)}, "lease": 1}, NotAllowed),
    ],
)
def test_a_request_for_too_much_at_once_is_refused(site: Site, deed: str, given: dict[str, Any], error):
    run_id = site.submit()
    whose = {} if deed == "renew" else {"run_id": run_id, "todo_id": "A"}

    with pytest.raises(error):
        site.asking("alpha").wire.ask(deed, {**whose, **given})


def test_many_requests_of_one_worker_keep_no_other_waiting_and_renewals_come_first():
    waiting, asked = Waiting(), [b'{"id":"%032x","deed":"%s","given":{}}' % (n, b"log") for n in range(1500)]
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
    waiting.clear()
    waiting.add("alpha", b"x" * 2**25)
    waiting.add("alpha", b"x")
    assert [len(data) for _, data in iter(waiting.take, None)] == [2**25]


def test_a_damaged_run_is_refused_and_holds_nobody_up(site: Site):
    run_id, run = site.submit(), site.store.keys.run("damaged")
    site.client.set(run.meta, "no hash")

    with pytest.raises(NotAllowed, match="damaged"):
        claim(site.asking("alpha"), "damaged", "A")

    assert granted(site.asking("alpha"), run_id, "A")


def test_a_worker_speaks_for_itself_alone(site: Site):
    ours, theirs = (
        Worker(id=repo, host="h", pid=1, version="1", repos=(repo,), jobs=1) for repo in ("alpha", "beta")
    )
    presence = ProxyPresence(site.asking("alpha"))
    ProxyPresence(site.asking("beta")).say(theirs, 0, LEASE)

    presence.say(ours, 0, LEASE)
    for forged in (
        theirs,
        ours.model_copy(update={"id": theirs.id}),
        ours.model_copy(update={"repos": ("alpha", "beta")}),
        ours.model_copy(update={"unfit": {"beta": "it is gone"}}),
    ):
        with pytest.raises(NotAllowed, match="serves more than alpha"):
            presence.say(forged, 0, LEASE)
        with pytest.raises(NotAllowed, match="serves more than alpha"):
            presence.leave(forged)
    with pytest.raises(Conflict, match=r"this is coord 2, .* is coord 1"):
        presence.meet("2", LEASE)

    assert sorted(one.id for one in site.presence.workers()) == ["alpha", "beta"]
    presence.leave(ours)
    assert site.presence.workers() == (theirs,)


@pytest.mark.parametrize("who", [("alpha", "lone"), ("alpha",), ("lone",)], ids=lambda who: "+".join(who))
def test_a_level_is_joined_whoever_counts_its_parts(site: Site, who: tuple[str, ...]):
    """`who` asks; the other todo of the level is counted as Celery counts it for a worker that may do everything."""
    run_id = site.submit(Strategy.LEVELS)
    control = site.store.keys.control_queue

    for todo, repo in (("A", "alpha"), ("L", "lone")):
        assert site.client.llen(control) == 0
        store = site.asking(repo) if repo in who else site.store
        store.settle(granted(store, run_id, todo), DONE)
        if repo not in who:
            site.dispatcher.join(site.store.delivery(run_id, todo))

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


def test_who_asks_while_no_keeper_leads_is_told_so_and_answered_as_soon_as_one_does(site: Site):
    site.leads = False
    until(lambda: site.client.pubsub_numpat() == 0)

    with pytest.raises(NobodyAnswers, match="coord keeper"):
        site.asking("alpha").status("R")
    site.leads = True

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


def test_a_restricted_workers_todo_has_its_context_as_any_other_and_nobody_elses(site: Site):
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
    with served(ProxyContexts(site.asking("alpha")), run_id, "A", 1000) as told:
        todo = TodoContext(Connection.model_validate_json(told))
        todo.set("a", {"b": 1})

        assert todo.get("a") == {"b": 1}
        assert [kept.key for kept in todo.list()] == ["a"]
        with pytest.raises(UsageError):
            todo.set("a", "x" * 10_000_000)
        with pytest.raises(UsageError):
            todo._ask("get", name="a")
