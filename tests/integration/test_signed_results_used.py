"""Signed results in the result cache, in rollbacks and through a lying keeper; and what stays possible."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from coordination.backend.keys import tip_field
from coordination.backend.steps.run import Reply
from coordination.cache import Limits, Store
from coordination.cache.entries import RESULTS
from coordination.cache.names import store as context_of_store
from coordination.errors import NotTrusted, Unsafe
from coordination.runs.attempt_store import Grant, TodoInputs
from coordination.runs.records import Result, RunBrief, TodoState
from coordination.runs.remote_steps.handlers import StepHandlers
from coordination.runs.remote_steps.serving import StepServer
from coordination.trust.results import open_result, seal_result
from coordination.trust.trust_file import read_trust
from tests.engine import attempt_of
from tests.hosts import World, tip
from tests.integration.test_signed_results import CHECK, WORK, Site, older_tip, output, site
from tests.testbed import git
from tests.waiting import until
from workers.attempt.result_cache import CachedResult
from workers.container import Container
from workers.restricted import RestrictedContainer
from workers.task_result import TaskResultKind

__all__ = ["site"]

CACHED = {"action": 'cp check.sh copy; echo 1 > "$COORD_OUTPUT"', "cache": True}


def test_a_cached_result_is_used_on_another_machine_if_it_is_signed(site: Site):
    first, second = site.run(T1=CACHED), site.run(T1=CACHED)
    site.a.do(first, "T1", "up")
    site.b.do(second, "T1", "up")
    assert f"cached: from T1 of run {first}" in site.b.log(second, "T1")


@pytest.mark.parametrize("poison", ["another output", "no signature", "an older time"])
def test_a_poisoned_entry_of_the_result_cache_is_a_miss_and_reported(site: Site, poison: str):
    first, second = site.run(T1=CACHED), site.run(T1=CACHED)
    site.a.do(first, "T1", "up")
    store = Store(site.redis, site.store.keys.namespace, RESULTS, Limits.of(site.world.settings))
    (key,) = site.redis.hkeys(site.store.keys.cache.entries(context_of_store(RESULTS)))
    kept = CachedResult.unpacked(store.get(key) or b"")
    assert kept is not None
    changed = {
        "another output": replace(kept, output='"foreign"'),
        "no signature": replace(kept, output='"foreign"', signed=""),
        "an older time": replace(kept, at=kept.at + 1),  # it would live longer
    }
    store.put(key, changed[poison].packed, timedelta(hours=1))

    site.b.do(second, "T1", "up")
    assert site.redis.hget(site.keys(second).output, "T1") == "1"
    assert "cached: from" not in site.b.log(second, "T1")
    assert re.search("not the signed one|no signature", site.reported(second, "T1")[-1])
    store.close()


@pytest.mark.parametrize("altered", [False, True])
def test_a_compensation_gets_only_the_output_that_its_todo_signed(site: Site, altered: bool):
    run = site.done("T1", T1={**WORK, "compensate": f'cp "$COORD_TODO_OUTPUT" {site.ran}'})
    if altered:
        output(site, run)
    site.sign_rollback(run)
    site.a.parts.dispatcher.follow(site.store.rollback(run, "somebody", "a test"))
    until(lambda: site.redis.hget(site.keys(run).state, "T1") == "dispatched")
    attempt = attempt_of(site.store, run, "T1")
    told = site.a.parts.deliveries.handle(run, "T1", attempt, "up")
    assert (told.kind is TaskResultKind.DONE, site.ran.exists()) == (not altered, not altered)
    assert bool(site.reported(run, "T1")) == altered


@pytest.mark.parametrize("gone_on", [False, True])
def test_a_rollback_deletes_at_the_remote_only_what_a_worker_has_signed(
    world: World, monkeypatch: pytest.MonkeyPatch, gone_on: bool
):
    remote = world.remote("up")
    world.limit(0)  # so that commits are pushed
    site = Site(world, monkeypatch)
    run = world.run({"T1": "up"}, T1=WORK)
    site.a.do(run, "T1", "up")
    branch = f"coord/{run}"
    assert branch in git(remote, "branch", "--list", branch)
    if gone_on:  # a person, with a commit that somebody else declares to be pushed by the run
        git(site.up, "push", "-q", str(remote), f"{site.foreign()}:refs/heads/{branch}", "--force")
        persons = git(remote, "rev-parse", branch)
        bundle = site.keys(run).bundle("up")
        there = {"published": persons, f"{persons} elsewhere": f"remote {branch} {remote}"}
        site.a.parts.bundle_redis.hset(bundle, mapping=there)
    site.sign_rollback(run)
    site.a.parts.dispatcher.follow(site.store.rollback(run, "somebody", "a test"))
    until(lambda: site.redis.hget(site.keys(run).state, "T1") == "dispatched")

    site.a.parts.deliveries.handle(run, "T1", attempt_of(site.store, run, "T1"), "up")

    assert bool(git(remote, "branch", "--list", branch)) == gone_on
    assert bool(site.reported(run, "T1")) == gone_on


class Liar(StepHandlers):
    """A keeper that changes what restricted workers say and are told."""

    tip = ""

    def settle(self, repos: frozenset[str], grant: Grant, result: Result) -> Reply:
        if self.tip:
            result = replace(result, tip=self.tip, output='{"by": "the keeper"}')
        return super().settle(repos, grant, result)

    further_back: Mapping[str, tuple[str, ...]] = {}

    def brief(self, repos: frozenset[str], run_id: str) -> RunBrief:
        brief = super().brief(repos, run_id)
        return brief.model_copy(update={"predecessors": {**brief.predecessors, **self.further_back}})


@contextmanager
def lied_to(site: Site) -> Iterator[tuple[Liar, RestrictedContainer]]:
    """The liar, and a restricted worker of `up` that asks it."""
    parts = site.b.parts
    liar = Liar(site.store, parts.dispatcher, site.world.settings, parts.worker.version)
    serving = StepServer(parts.redis, parts.pubsub_redis, parts.keys, liar)
    serving.start()
    until(lambda: site.redis.pubsub_numpat() == 1)
    restricted = RestrictedContainer(site.a.parts.config)
    try:
        yield liar, restricted
    finally:
        serving.stop()
        restricted.close()


def test_a_lying_keeper_cannot_alter_what_a_restricted_worker_says(site: Site):
    with lied_to(site) as (liar, restricted):
        run = site.run()
        liar.tip = site.foreign()
        assert restricted.deliveries.handle(run, "T1", 1, "up").kind is TaskResultKind.DONE
        told = restricted.deliveries.handle(run, "T2", 1, "up")
        assert told.kind is TaskResultKind.FAILED
        assert "is at" in site.reported(run, "T2")[-1]
        site.refused(site.b, run, "R", "down", "the tip of T1")


def test_still_possible_a_keeper_calls_a_todo_a_predecessor_further_back(site: Site):
    seen = site.world.folder / "seen"
    look = {"action": f'cp "$COORD_CONTEXT" {seen}'}
    run = site.world.run({"X": "up", "T1": "up", "T2": ("up", ["T1"])}, X=WORK, T1=WORK, T2=look)
    for todo in ("T1", "X"):
        site.a.do(run, todo, "up")
    with lied_to(site) as (liar, restricted):
        liar.further_back = {"T1": ("X",)}
        assert restricted.deliveries.handle(run, "T2", 1, "up").kind is TaskResultKind.DONE
    told = json.loads(seen.read_text())["predecessors"]
    assert {one["todo"]: one["output"] for one in told} == {name: {"by": name} for name in ("X", "T1")}


def test_still_possible_work_of_todos_that_are_no_predecessors_can_be_left_out(site: Site):
    run = site.world.run({"T1": "up", "T2": "up", "T3": ("up", ["T1"])}, T1=WORK, T2=WORK, T3=CHECK)
    for todo in ("T1", "T2"):
        site.a.do(run, todo, "up")
    older_tip(site, run)
    site.a.do(run, "T3", "up")
    assert git(site.up, "show", f"coord/{run}:work") == "T1"


def test_still_possible_a_checkpoint_can_be_changed(site: Site):
    run = site.run(T1={"action": 'cp "$COORD_CHECKPOINT" "$COORD_OUTPUT"'})
    site.redis.hset(site.keys(run).checkpoint, "T1", '"changed"')
    site.a.do(run, "T1", "up")
    assert site.redis.hget(site.keys(run).output, "T1") == '"changed"'


def test_still_possible_a_result_of_an_attempt_that_did_not_count_can_be_used(site: Site):
    """A worker signed it, lost its lease, and was refused; the adversary read it on the way."""
    run = site.run()
    keys, grant = site.keys(run), site.claimed(run, "T1")
    result = Result(outcome=TodoState.SUCCEEDED, output='{"by": "an attempt"}')
    signed = site.a.parts.execution.signed_results.seal(grant, result)
    site.redis.hset(keys.results, "T1", signed)
    site.redis.hset(keys.output, "T1", result.output)
    site.redis.hset(keys.facts, "T1 settled_by", grant.fence)
    site.redis.hset(keys.state, mapping={"T1": "succeeded", "R": "dispatched"})
    site.b.do(run, "R", "down")
    assert site.b.told(run, "R")["T1"]["output"] == {"by": "an attempt"}


@pytest.mark.parametrize(("repos", "accepted"), [(["up"], True), (["down"], False)])
def test_still_possible_a_trusted_worker_can_state_anything_of_its_repositories(
    site: Site, repos: list[str], accepted: bool
):
    run = site.done("T1", "T2")
    record = open_result(
        site.redis.hget(site.keys(run).results, "T2"), read_trust(site.file), datetime.now(UTC)
    )
    commit = site.foreign(tip(site.up, run))
    forged = seal_result(record.model_copy(update={"tip": commit}), site.b.parts.worker_key.load())
    site.trust(a={"a": None, "b": repos})
    site.redis.hset(site.keys(run).tips, "up", commit)
    site.redis.hset(site.keys(run).results, mapping={"T2": forged, tip_field("up"): forged})
    site.redis.hset(site.keys(run).facts, "T2 commit", commit)
    told = site.a.parts.deliveries.handle(run, "T3", 1, "up")
    assert (told.kind is TaskResultKind.DONE, site.ran.exists()) == (accepted, accepted)


def test_a_keeper_cannot_hide_a_direct_predecessor_from_a_restricted_worker(site: Site):
    """Its todo's signed spec names them."""
    run = site.done("T1")
    grant, nothing = site.claimed(run, "T2"), TodoInputs(todos=[], context={}, omitted=0)
    brief = site.store.brief(run).model_copy(update={"predecessors": {}})
    with pytest.raises(NotTrusted, match="has no result of T1"):
        site.a.parts.execution.signed_results.check_inputs(grant, brief, nothing, {})


def test_the_key_of_a_worker_is_its_own_and_closed(site: Site):
    for host in (site.a, site.b):
        key = host.state / "keys" / "worker"
        assert (key.stat().st_mode & 0o777, key.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    assert site.a.parts.worker_key.load().public_key != site.b.parts.worker_key.load().public_key


def test_a_worker_that_requires_signatures_keeps_its_key_out_of_repositories(site: Site):
    config = replace(site.a.parts.config, state=site.up / ".coord")
    with closing(Container(config)) as parts, pytest.raises(Unsafe, match="in the repository up"):
        parts.sign_on()
    assert not config.state.exists()
