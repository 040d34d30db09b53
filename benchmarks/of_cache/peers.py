"""Measures alternatives to the context cache in a process that has them installed; prints JSON. `python -m
benchmarks.of_cache.peers FOLDER LOOKUPS TRACE`.

Nothing of coord is imported: it may be the Python of another environment.
"""

from __future__ import annotations

import functools
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

VALUE = {"words": "x" * 80}


def microseconds(deed: Callable[[], Any], times: int, rounds: int = 5) -> float:
    """One call, best of the rounds."""
    taken = []
    for _ in range(rounds):
        begin = time.perf_counter()
        for _ in range(times):
            deed()
        taken.append((time.perf_counter() - begin) / times)
    return 1e6 * min(taken)


def milliseconds(deed: Callable[[int], Any], times: int) -> tuple[float, float]:
    """Median and 99th percentile of single calls; each gets its number."""
    taken = []
    for number in range(times):
        begin = time.perf_counter()
        deed(number)
        taken.append(time.perf_counter() - begin)
    return 1000 * median(taken), 1000 * sorted(taken)[int(0.99 * len(taken))]


def main(folder: str, lookups: int, trace_file: str) -> dict[str, Any]:
    import cachetools
    import diskcache

    cached = functools.lru_cache(maxsize=1000)(lambda key: VALUE)
    ttl: cachetools.TTLCache[str, object] = cachetools.TTLCache(maxsize=1000, ttl=3600)
    ttl["key"] = VALUE
    disk = diskcache.Cache(folder)
    disk.set("key", json.dumps(VALUE), expire=3600)
    trace = json.loads(Path(trace_file).read_text())
    return {
        "functools.lru_cache": microseconds(lambda: cached("key"), lookups),
        "cachetools.TTLCache": microseconds(lambda: ttl["key"], lookups),
        "diskcache get": milliseconds(lambda _: json.loads(disk.get("key")), lookups),
        "diskcache set": milliseconds(
            lambda n: disk.set(f"k{n % 500}", json.dumps(VALUE), expire=3600), lookups // 5
        ),
        "lru": hit_rate(cachetools.LRUCache(trace["room"]), trace["keys"]),
        "lfu": hit_rate(cachetools.LFUCache(trace["room"]), trace["keys"]),
    }


def hit_rate(cache: Any, keys: list[int]) -> float:
    hits = 0
    for key in keys:
        if key in cache:
            hits += 1
            cache[key]
        else:
            cache[key] = VALUE
    return hits / len(keys)


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], int(sys.argv[2]), sys.argv[3])))
