"""Servers as INFO describes them, the errors of servers of several versions, and the text for each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import redis

from coordination.backend.embedded import server_binary
from coordination.backend.error_messages import explain
from coordination.backend.server_check import Severity, judge
from coordination.errors import Unreachable, Unusable

GOOD = {
    "redis_version": "7.2.4",
    "redis_mode": "standalone",
    "role": "master",
    "cluster_enabled": 0,
    "maxmemory": 0,
    "maxmemory_policy": "noeviction",
    "used_memory": 10,
    "total_system_memory": 1000,
    "aof_enabled": 1,
    "aof_last_write_status": "ok",
}
WRONG, WARNING = Severity.WRONG, Severity.WARNING


@pytest.mark.parametrize(
    ("differs", "severity", "words"),
    [
        ({"redis_version": "6.0.16"}, WRONG, "it is Redis 6.0.16, older than 7.0"),
        ({"redis_version": "5.0"}, WRONG, "older than 7.0"),
        ({"redis_mode": "sentinel"}, WRONG, "it is a sentinel"),
        ({"redis_mode": "cluster", "cluster_enabled": 1}, WRONG, "it is a cluster"),
        ({"role": "slave", "master_host": "a", "master_port": 1}, WRONG, "it is a replica"),
        ({"maxmemory_policy": "allkeys-lru", "maxmemory": 1000}, WRONG, "deletes locks, records of runs"),
        ({"maxmemory_policy": "volatile-ttl", "maxmemory": 1000}, WRONG, "locks, so that two holders"),
        ({"maxmemory_policy": "allkeys-lru"}, WARNING, "allkeys-lru would delete"),
        ({"maxmemory_policy": "volatile-lru"}, WARNING, "volatile-lru would delete"),
        ({"aof_enabled": 0}, WARNING, "Redis keeps no append-only file"),
        ({"used_memory": 95, "maxmemory": 100}, WARNING, "it uses 95% of maxmemory"),
        ({"used_memory": 950}, WARNING, "it uses 95% of the machine's memory"),
        ({"aof_last_write_status": "err"}, WARNING, "cannot write to its disk"),
    ],
)
def test_what_is_said_of_a_server(differs: dict[str, Any], severity: Severity, words: str):
    (finding,) = judge(GOOD | differs)

    assert finding.severity is severity
    assert words in finding.what
    assert finding.hint


@pytest.mark.parametrize(
    "info",
    [
        GOOD,
        GOOD | {"redis_version": "7.0.0"},
        GOOD | {"redis_version": "10.0.1"},
        GOOD | {"redis_version": "7.2.4", "valkey_version": "9.1.0", "server_name": "valkey"},
        GOOD | {"maxmemory": 1000},
        {},
    ],
)
def test_nothing_is_said_of_a_server_that_keeps_what_it_is_given(info: dict[str, Any]):
    assert judge(info) == ()


def test_everything_that_is_wrong_is_said_at_once():
    memory = {"maxmemory_policy": "allkeys-lru", "maxmemory": 5000}

    assert len(judge(GOOD | memory | {"redis_version": "6.0.1", "role": "slave"})) == 3


DENIED = {
    "Valkey 9, in a step": (
        "ACL failure in script: User bob has no permissions to run the 'set' command script: "
        "on @user_script:26."
    ),
    "Redis 7.0, in a step": (
        "The user executing the script can't run this command or subcommand script: "
        "468ab5505867b5a630fd9307685791dae16b3efa, on @user_script:245."
    ),
    "Redis 7.0, a key in a step": (
        "The user executing the script can't access at least one of the keys mentioned in the command "
        "arguments script: 468ab5505867b5a630fd9307685791dae16b3efa, on @user_script:17."
    ),
    "any, outside of steps": "NOPERM User bob has no permissions to run the 'blpop' command",
}


@pytest.mark.parametrize("words", DENIED.values(), ids=DENIED)
def test_what_a_user_may_not_do_is_said_with_whom_it_concerns(words: str):
    told = explain(redis.ResponseError(words), "redis://bob:secret@anvil:6379/0")

    assert isinstance(told, Unusable)
    assert "does not allow user bob" in told.message
    assert "coord acl --role" in told.hint
    assert "secret" not in str(told)


def test_a_server_on_the_path_that_is_too_old_is_not_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    program = tmp_path / "redis-server"
    program.write_text("#!/bin/sh\necho 'Redis server v=6.2.14 sha=00000000:0'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/nowhere")
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)  # no bundled server

    with pytest.raises(Unreachable):
        server_binary()
