"""Checks that a Redis server is fit for coord: version, mode, eviction, memory, persistence, commands.

Eviction matters because locks have a TTL and records of runs have none: `volatile-*` policies delete locks,
`allkeys-*` policies delete both.
"""

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
    "volatile": "locks, so that two holders both believe that they hold one",
}
"""Records that an eviction policy deletes, by the first word of its name."""

NEEDED = ("FCALL", "FUNCTION", "EVALSHA", "MULTI", "XADD", "XREAD", "PUBLISH", "SUBSCRIBE", "BRPOP")
"""Commands that coord cannot do without, among those that administrators tend to rename."""

Info = Mapping[str, Any]
"""The reply of INFO, as redis-py parses it."""


class Severity(StrEnum):
    WRONG = "wrong"
    """The server cannot be used until this is corrected."""
    WARNING = "warning"
    """The server can be used."""


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
    """Return all problems of the server. A field that INFO omits, as some services do, is no problem."""
    return (*_kind(info), *_eviction(info), *_room(info), *_persistence(info))


def refuse_unfit(client: redis.Redis, url: str) -> tuple[Finding, ...]:
    """Raise Unusable for a server that coord cannot use; return the warnings. Takes one round trip."""
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
    """Send COMMAND INFO for the needed commands; return its reply, for `missing`."""
    # As one word: redis-py would parse the reply, and fails on an unknown command.
    return client.execute_command("COMMAND INFO", *NEEDED)


def missing(known: Any) -> tuple[Finding, ...]:
    """Return a problem for each needed command that the server lacks.

    `known`: the reply to `ask_for_commands`. If it is an error (no permission, or COMMAND itself is renamed),
    there are no problems.
    """
    replies = known if isinstance(known, list) and len(known) == len(NEEDED) else NEEDED
    absent = [command for command, reply in zip(NEEDED, replies, strict=True) if reply is None]
    return tuple(Finding.wrong(f"it {misses(command)}", RESTORE) for command in absent)


def version_of(info: Info) -> str:
    """Return name and version of the server, for messages.

    Valkey's `redis_version` is the version of Redis that it is compatible with; `valkey_version` is its own.
    """
    own = info.get("valkey_version")
    return f"Valkey {own}" if own else f"Redis {info.get('redis_version', '?')}"


def _kind(info: Info) -> Iterator[Finding]:
    found = re.match(r"(\d+)\.(\d+)", str(info.get("redis_version", "")))
    if found and tuple(map(int, found.groups())) < OLDEST:
        yield Finding.wrong(
            f"it is {version_of(info)}, older than 7.0", "install Redis 7.0 or later, or Valkey"
        )
    if info.get("redis_mode") == "sentinel":
        yield Finding.wrong("it is a sentinel, which stores no data", "name the server that it monitors")
    elif info.get("cluster_enabled") or info.get("redis_mode") == "cluster":
        yield Finding.wrong(
            "it is a cluster, where a step cannot use keys of several nodes",
            "use a single server: cluster-enabled no",
        )
    if info.get("role") in ("slave", "replica"):
        primary = f"{info.get('master_host')}:{info.get('master_port')}"
        yield Finding.wrong(
            "it is a replica, which accepts no writes", f"name its primary, {primary}; or: REPLICAOF NO ONE"
        )


def _eviction(info: Info) -> Iterator[Finding]:
    policy = str(info.get("maxmemory_policy", "noeviction"))
    lost = LOST.get(policy.partition("-")[0])
    if lost is None:
        return
    hint = "CONFIG SET maxmemory-policy noeviction, and the same in its configuration file"
    if info.get("maxmemory"):
        yield Finding.wrong(f"when its memory is full, policy {policy} deletes {lost}", hint)
    else:
        yield Finding.warning(f"its policy {policy} would delete {lost} if maxmemory were set", hint)


def _room(info: Info) -> Iterator[Finding]:
    used, limit = int(info.get("used_memory", 0)), int(info.get("maxmemory", 0))
    of = "maxmemory" if limit else "the machine's memory"
    limit = limit or int(info.get("total_system_memory", 0))
    if limit and used >= NEARLY_FULL * limit:
        yield Finding.warning(
            f"it uses {used / limit:.0%} of {of}; when that is full, runs stop",
            "give it more memory, or delete old runs: coord run clean",
        )
    if info.get("aof_last_write_status", "ok") != "ok":
        yield Finding.warning(
            "it cannot write to its disk, so runs stop", "make room on the disk of its data"
        )


def _persistence(info: Info) -> Iterator[Finding]:
    if info.get("aof_enabled") == 0:
        yield Finding.warning(
            "Redis keeps no append-only file: a restart loses everything since its last snapshot, if it "
            "takes snapshots",
            "CONFIG SET appendonly yes, and the same in its configuration file",
        )
