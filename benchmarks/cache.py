"""The context cache: `python -m benchmarks.cache [--lookups N] [--json [FILE]]`.

    python -m benchmarks.cache --short    # seconds, to see that it runs

A value of 93 bytes of JSON. In process: what was read within the last half second. Redis: every read asks it,
over a unix socket, in a context that sees three others (a todo's: its own, its run's, its plan's, the
ecosystem's). Beside them what people would use instead, in the same run: functools and cachetools, redis-py's
GET and SET, and diskcache (cachetools and diskcache are installed as extra `bench` has them).

Hit rates: keys by Zipf's law (s = 1) of 5,000, and room for a tenth of them; cachetools has room for as many
entries as coord's bytes are. The reads of Redis are compared by the ratio to redis-py's GET in the same run;
absolute times are of one machine at one hour.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
from datetime import timedelta
from itertools import accumulate
from pathlib import Path
from typing import Any

import redis

from benchmarks.of_cache.peers import VALUE, microseconds, milliseconds
from benchmarks.peers.home import ROOT, NotInstalled, interpreter
from benchmarks.report import Report, parser, report
from coordination.backend.client import Profile, connect
from coordination.backend.embedded import EmbeddedServer
from coordination.cache.contexts import Cache
from coordination.cache.local import Local
from coordination.cache.names import Eviction, Limits
from coordination.settings import Settings

KEYS, ROOM, SEED = 5000, 500, 7
OVERHEAD = 360 + 240
"""Bytes of an entry with a value of its own, as in backend/lua/cache/_cache.lua."""
LOOKUPS, SHORT = 5000, 200
IN_PROCESS_US, REDIS_MS, MISS_MS = 20.0, 1.0, 5.0
PEERS = ("cachetools", "diskcache")


def in_process(rows: Report, client: redis.Redis, lookups: int) -> None:
    cache = Cache(client, "hits", local=Local(fresh_for=timedelta(minutes=1)))
    todo = cache.at("PLAN", "RUN", "TODO")
    cache.at().set("key", VALUE)
    todo.get("key")
    took = microseconds(lambda: todo.get("key"), lookups)
    stats = cache.stats()
    rows.add(
        "in process, hit", took, "us", at_most=IN_PROCESS_US, beside="three contexts outward, decoded anew"
    )
    rows.add(
        "  hit rate of these reads", stats.hit_rate, "", beside=f"{stats.hits:,} hits, {stats.misses} misses"
    )
    cache.close()


def over_redis(rows: Report, client: redis.Redis, lookups: int) -> None:
    cache = Cache(client, "redis", local=Local(fresh_for=timedelta(seconds=-1)))
    todo = cache.at("PLAN", "RUN", "TODO")
    todo.set("key", VALUE)
    raw = json.dumps(VALUE)
    client.set("plain", raw)
    plain = milliseconds(lambda _: json.loads(client.get("plain")), lookups)
    hit = milliseconds(lambda _: todo.get("key"), lookups)
    miss = milliseconds(lambda n: todo.get(f"none{n}"), lookups)
    put = milliseconds(lambda n: todo.set(f"k{n % 500}", VALUE), lookups)
    plain_put = milliseconds(lambda n: client.set(f"k{n % 500}", raw, ex=3600), lookups)
    computed = milliseconds(lambda n: todo.get_or_compute(f"made{n}", lambda: VALUE), lookups // 5)
    rows.add("Redis, hit, p50", hit[0], "ms", at_most=REDIS_MS, beside=f"p99 {hit[1]:.3f} ms")
    rows.add(
        "  of redis-py's GET",
        hit[0] / plain[0],
        "x",
        beside=f"GET: p50 {plain[0]:.3f}, p99 {plain[1]:.3f} ms",
    )
    rows.add("Redis, miss, p99", miss[1], "ms", at_most=MISS_MS, beside=f"p50 {miss[0]:.3f} ms")
    rows.add("Redis, set, p50", put[0], "ms", beside=f"p99 {put[1]:.3f} ms")
    rows.add(
        "  of redis-py's SET EX",
        put[0] / plain_put[0],
        "x",
        beside=f"SET: p50 {plain_put[0]:.3f}, p99 {plain_put[1]:.3f} ms",
    )
    rows.add("get_or_compute, nothing there, p50", computed[0], "ms", beside="read, lock, read, set, release")
    cache.close()


def trace(lookups: int) -> list[int]:
    """Numbers of keys, as they are asked for."""
    draw = random.Random(SEED)
    weights = list(accumulate(1 / rank for rank in range(1, KEYS + 1)))
    return draw.choices(range(KEYS), cum_weights=weights, k=lookups)


def hit_rates(client: redis.Redis, asked: list[int]) -> dict[str, tuple[float, int]]:
    """Policy → hit rate and evictions, in a cache with room for ROOM entries."""
    found = {}
    for policy in (Eviction.LRU, Eviction.LFU, Eviction.TTL):
        values = {key: json.dumps({"key": f"{key:05}", **VALUE}).encode() for key in set(asked)}
        entry = len("ecosystem\nk00000") + OVERHEAD + len(next(iter(values.values())))
        cache = Cache(client, f"zipf-{policy}", Limits(max_bytes=ROOM * entry, eviction=policy))
        for key in asked:
            if cache.entries.get(f"k{key:05}", ("ecosystem",)).value is None:
                cache.entries.put("ecosystem", f"k{key:05}", values[key])
        stats = cache.stats()
        found[policy.value] = stats.hit_rate, stats.evictions
        cache.close()
    return found


def peers(lookups: int, asked: list[int]) -> dict[str, Any]:
    """Raises NotInstalled."""
    with tempfile.TemporaryDirectory(prefix="coord-bench-") as folder:
        file = Path(folder, "trace.json")
        file.write_text(json.dumps({"room": ROOM, "keys": asked}))
        words = [
            interpreter(PEERS),
            "-m",
            "benchmarks.of_cache.peers",
            f"{folder}/disk",
            str(lookups),
            str(file),
        ]
        done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise NotInstalled(f"did not finish: {(done.stderr.strip() or 'no word').splitlines()[-1]}")
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def beside(rows: Report, told: dict[str, Any]) -> None:
    for name in ("functools.lru_cache", "cachetools.TTLCache"):
        rows.add(f"  beside: {name}, hit", told[name], "us", beside="hands out the same object to all")
    for name in ("diskcache get", "diskcache set"):
        p50, p99 = told[name]
        rows.add(f"  beside: {name}, p50", p50, "ms", beside=f"p99 {p99:.3f} ms; one machine")


def main(options: argparse.Namespace) -> None:
    lookups = SHORT if options.short else options.lookups
    asked = trace(4 * lookups)
    with report("cache", options) as rows, tempfile.TemporaryDirectory(prefix="coord-bench-") as folder:
        server = EmbeddedServer(Path(folder, ".coord"), Settings())
        try:
            with connect(server.start(), Profile.COMMAND) as client:
                in_process(rows, client, lookups)
                over_redis(rows, client, lookups)
                rates = hit_rates(client, asked)
            try:
                told, why = peers(lookups, asked), ""
                beside(rows, told)
            except NotInstalled as error:
                told, why = {}, str(error)
                rows.add("  beside: cachetools, diskcache", None, beside=why)
            for policy, (rate, evictions) in rates.items():
                other = f"cachetools {told[policy]:.3f}" if policy in told else why
                rows.add(
                    f"hit rate, {policy}, room for a tenth",
                    rate,
                    "",
                    beside=f"{evictions:,} evictions; {other}",
                )
        finally:
            server.stop()


if __name__ == "__main__":
    arguments = parser(__doc__, "cache")
    arguments.add_argument("--lookups", type=int, default=LOOKUPS)
    main(arguments.parse_args())
    sys.exit(0)
