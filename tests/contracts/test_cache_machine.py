"""The cache in any order of events, held against a model (tests/cache_model.py). Clocks also go back."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from functools import partial
from hashlib import sha256

import pytest
import redis
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from coordination.backend.client import Profile, connect
from coordination.backend.keys import Keys
from coordination.cache.entries import Entries, NoRoom
from coordination.cache.names import Eviction, Limits, chain_of
from tests.cache_model import CacheModel
from tests.examples import examples

KEYS = Keys("test").cache
CHAIN = chain_of("P", ["R"], "T")
MS = timedelta(milliseconds=1)
TTLS_MS = (105_000, 355_000)
STEPS_MS = (40_000, 130_000, 300_000, -20_000, -220_000)
"""Each sum of these is 5 s away from those above: the moments that pass in a test change nothing."""
WHERE = st.integers(0, len(CHAIN) - 1)
KEY = st.sampled_from(["a", "b", "c"])
VALUE = st.sampled_from([b"", b"1", b"x" * 100, b"y" * 400])
SETTINGS = settings(max_examples=examples(60), stateful_step_count=40, phases=[Phase.reuse, Phase.generate])


class AnyHistory(RuleBasedStateMachine):
    def __init__(self, client: redis.Redis) -> None:
        super().__init__()
        self.redis = client
        self.now = self.puts = 0

    @initialize(policy=st.sampled_from(list(Eviction)), max_bytes=st.sampled_from([2000, 4000, 1_000_000]))
    def begin(self, policy: Eviction, max_bytes: int) -> None:
        self.redis.flushall()
        self.model = CacheModel(policy, max_bytes)
        self.entries = Entries(self.redis, "test", Limits(max_bytes=max_bytes, eviction=policy))

    @rule(where=WHERE, key=KEY, value=VALUE, ttl=st.sampled_from(TTLS_MS), only_new=st.booleans())
    def put(self, where: int, key: str, value: bytes, ttl: int, only_new: bool) -> None:
        self.puts += 1
        ttl += self.puts  # what is put later expires later, as it does: no two are alike
        expected = self.model.put(CHAIN[where], key, value, ttl, self.now, only_new=only_new)
        try:
            generation = self.entries.put(CHAIN[where], key, value, ttl * MS, only_new=only_new)
            assert expected == ("there" if generation is None else "kept")
        except NoRoom:
            assert expected == "none"

    @rule(where=WHERE, key=KEY)
    def get(self, where: int, key: str) -> None:
        answer = self.entries.get(key, CHAIN[where:])
        assert (answer.value, answer.place) == self.model.get(CHAIN[where:], key, self.now)

    @rule(where=WHERE, keys=st.lists(KEY, min_size=1, max_size=2, unique=True), ttl=st.sampled_from(TTLS_MS))
    def delete(self, where: int, keys: list[str], ttl: int) -> None:
        expected = self.model.delete(CHAIN[where:], keys, ttl, self.now)
        assert self.entries.delete(CHAIN[where:], keys, ttl * MS)[0] == expected

    @rule(where=WHERE)
    def drop(self, where: int) -> None:
        self.model.drop(CHAIN[where])
        self.entries.drop([CHAIN[where]])

    @rule(ms=st.sampled_from(STEPS_MS))
    def pass_time(self, ms: int) -> None:
        """Less than nothing: the server's clock is set back."""
        self.now += ms
        for context in CHAIN:
            for key, record in self.redis.hgetall(KEYS.entries(context)).items():
                digest, size, expires, ttl = record.split()
                self.redis.hset(KEYS.entries(context), key, f"{digest} {size} {int(expires) - ms} {ttl}")
        for member in self.redis.zrange(KEYS.expiry, 0, -1):
            self.redis.zincrby(KEYS.expiry, -ms, member)
            if self.model.policy == "ttl" and self.redis.zscore(KEYS.order, member) is not None:
                self.redis.zincrby(KEYS.order, -ms, member)

    @invariant()
    def counts_are_exact_and_nothing_is_kept_of_what_went(self) -> None:
        model, figures = self.model, ("bytes", "hits", "misses", "evictions")
        with self.redis.pipeline(transaction=False) as pipe:
            pipe.hgetall(KEYS.refs).hkeys(KEYS.values).hmget(KEYS.facts, figures)
            pipe.zrange(KEYS.expiry, 0, -1).zrange(KEYS.order, 0, -1).hgetall(KEYS.uses)
            pipe.zrange(KEYS.contexts, 0, -1).hkeys(KEYS.generations)
            refs, values, facts, expiry, order, uses, contexts, generations = pipe.execute()
        digests = {sha256(value).hexdigest(): n for value, n in model.refs.items()}
        assert {name: int(n) for name, n in refs.items()} == digests
        assert set(values) == set(digests)
        assert [int(n or 0) for n in facts] == [getattr(model, name) for name in figures]
        assert set(expiry) == {"\n".join(member) for member in model.entries}
        assert set(order) == {"\n".join(member) for member in model.rank}
        assert uses == {"\n".join(member): str(n) for member, n in model.uses.items()}
        assert set(contexts) == set(generations) == {context for context, _ in model.entries}

    @invariant()
    def it_is_never_larger_than_it_may_be(self) -> None:
        assert self.model.bytes <= self.model.max_bytes

    def teardown(self) -> None:
        if hasattr(self, "entries"):
            self.entries.close()


@pytest.fixture
def server(redis_url: str) -> Iterator[redis.Redis]:
    with connect(redis_url, Profile.COMMAND) as client:
        yield client


def test_the_cache_does_what_the_model_says_in_any_history(server: redis.Redis) -> None:
    run_state_machine_as_test(partial(AnyHistory, server), settings=SETTINGS)
