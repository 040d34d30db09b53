"""Whether a Redis server keeps what it is given, judged from its INFO: locks have a lifetime there, records of runs have none."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import redis

from coordination.backend.address import hide_password
from coordination.backend.error_messages import RESTORE, misses
from coordination.errors import Unusable

OLDEST = (7, 0)
NEARLY_FULL = 0.9
LOST = {
    "allkeys": "locks, records of runs and queues",
    "volatile": "locks, whose holders then both believe to have them",
}
"""What an eviction policy takes, by its first word."""

NEEDED = ("FCALL", "FUNCTION", "EVALSHA", "MULTI", "XADD", "XREAD", "PUBLISH", "SUBSCRIBE", "BRPOP")
"""Commands without which nothing goes, of those that an administrator may have renamed."""

Info = Mapping[str, Any]
"""What redis-py makes of INFO."""


class Severity(StrEnum):
    WRONG = "wrong"
    """It must be mended."""
    WARNING = "warning"
    """It works; somebody should know."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    severity: Severity
    what: str
    hint: str

    @classmethod
    def wrong(cls, what: str, hint: str) -> Finding:
        return cls(severity=Severity.WRONG, what=what, hint=hint)

    @classmethod
    def warning(cls, what: str, hint: str) -> Finding:
        return cls(severity=Severity.WARNING, what=what, hint=hint)


def judge(info: Info) -> tuple[Finding, ...]:
    """Everything about the server that is not as it should be. What INFO leaves out, as some services do, is not held against it."""
    return (*_kind(info), *_eviction(info), *_room(info), *_persistence(info))


def refuse_unfit(client: redis.Redis, url: str) -> tuple[Finding, ...]:
    """Raises Unusable for a server that would lose what runs need; returns what is only worth a warning. One round trip."""
    with client.pipeline(transaction=False) as pipeline:
        pipeline.info()
        ask_for_commands(pipeline)
        info, known = pipeline.execute(raise_on_error=False)
    if isinstance(info, redis.RedisError):
        raise info
    findings = (*judge(info), *missing(known))
    wrong = [finding for finding in findings if finding.severity is Severity.WRONG]
    if wrong:
        raise Unusable(
            f"Redis at {hide_password(url)} cannot be used: {'; '.join(f.what for f in wrong)}",
            "; ".join(dict.fromkeys(f.hint for f in wrong)),
        )
    return findings


def ask_for_commands(client: redis.Redis) -> Any:
    """Which there are of those that an administrator may have renamed. The answer is for `missing`."""
    return client.execute_command("COMMAND INFO", *NEEDED)  # as one word: redis-py cannot read of one that is unknown


def missing(known: Any) -> tuple[Finding, ...]:
    """`known`: what `ask_for_commands` was answered; who may not ask, or whose COMMAND is renamed, is not told."""
    answers = known if isinstance(known, list) and len(known) == len(NEEDED) else NEEDED
    gone = [command for command, answer in zip(NEEDED, answers, strict=True) if answer is None]
    return tuple(Finding.wrong(f"it {misses(command)}", RESTORE) for command in gone)


def version_of(info: Info) -> str:
    """Valkey says in `redis_version` which Redis it is compatible with; its own version is for people."""
    own = info.get("valkey_version")
    return f"Valkey {own}" if own else f"Redis {info.get('redis_version', '?')}"


def _kind(info: Info) -> Iterator[Finding]:
    found = re.match(r"(\d+)\.(\d+)", str(info.get("redis_version", "")))
    if found and tuple(map(int, found.groups())) < OLDEST:
        yield Finding.wrong(f"it is {version_of(info)}, older than 7.0", "install Redis 7.0 or later, or Valkey")
    if info.get("redis_mode") == "sentinel":
        yield Finding.wrong("it is a sentinel, and keeps no data", "name the server that it watches")
    elif info.get("cluster_enabled") or info.get("redis_mode") == "cluster":
        yield Finding.wrong(
            "it is a cluster, whose steps cannot touch keys of several nodes", "use a single server: cluster-enabled no"
        )
    if info.get("role") in ("slave", "replica"):
        primary = f"{info.get('master_host')}:{info.get('master_port')}"
        yield Finding.wrong(
            "it is a replica, which takes nothing in", f"name its primary, {primary}; or: REPLICAOF NO ONE"
        )


def _eviction(info: Info) -> Iterator[Finding]:
    policy = str(info.get("maxmemory_policy", "noeviction"))
    lost = LOST.get(policy.partition("-")[0])
    if lost is None:
        return
    hint = "CONFIG SET maxmemory-policy noeviction, and the same in its configuration file"
    if info.get("maxmemory"):
        yield Finding.wrong(f"when its memory is full, policy {policy} throws away {lost}", hint)
    else:
        yield Finding.warning(f"its policy {policy} would throw away {lost}, were maxmemory set", hint)


def _room(info: Info) -> Iterator[Finding]:
    used, limit = int(info.get("used_memory", 0)), int(info.get("maxmemory", 0))
    of = "maxmemory" if limit else "the machine's memory"
    limit = limit or int(info.get("total_system_memory", 0))
    if limit and used >= NEARLY_FULL * limit:
        yield Finding.warning(
            f"it uses {used / limit:.0%} of {of}; when that is full, runs stand still",
            "give it more memory, or remove what is old: coord clean",
        )
    if info.get("aof_last_write_status", "ok") != "ok":
        yield Finding.warning("it cannot write to its disk, so nothing moves", "make room where it keeps its data")


def _persistence(info: Info) -> Iterator[Finding]:
    if info.get("aof_enabled") == 0:
        yield Finding.warning(
            "it keeps no append-only file: a restart loses what happened since its last snapshot, if it takes any",
            "CONFIG SET appendonly yes, and the same in its configuration file",
        )
