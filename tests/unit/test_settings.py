"""Errors of invalid settings."""

from __future__ import annotations

import argparse
import subprocess
from datetime import timedelta
from pathlib import Path

import pytest
from pydantic import ValidationError

from coordination.errors import UsageError
from coordination.settings import Settings, read_settings, usable_cpus
from workers.config import read_config

DURATION = "needs a duration like 90s, 10m, 1.5h or a number of seconds"


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("lease_ttl", "15 parsecs", f"COORD_LEASE_TTL {DURATION}, got '15 parsecs'"),
        ("lease_ttl", "-3", f"COORD_LEASE_TTL {DURATION}, got '-3'"),
        ("lease_ttl", "0", "COORD_LEASE_TTL must be more than 0"),
        ("lease_ttl", "9e99", "COORD_LEASE_TTL needs a duration"),
        ("retry_attempts", "many", "COORD_RETRY_ATTEMPTS needs a whole number, got 'many'"),
        ("retry_attempts", "0", "COORD_RETRY_ATTEMPTS must be at least 1, got '0'"),
        ("retry_factor", "fast", "COORD_RETRY_FACTOR needs a number, got 'fast'"),
        ("server_port", "99999", "COORD_SERVER_PORT must be at most 65535"),
        ("reaper", "perhaps", "COORD_REAPER needs true or false, got 'perhaps'"),
        ("appendfsync", "no", "COORD_APPENDFSYNC must be one of everysec, always, got 'no'"),
        ("jobs", "0", "COORD_JOBS must be at least 1"),
        (
            "gateway_proxies",
            "10.0.0.1, proxy",
            "COORD_GATEWAY_PROXIES needs addresses or networks like 10.0.0.7",
        ),
        ("namespace", "a b", "COORD_NAMESPACE may hold letters, digits, '_' and '-' only, got 'a b'"),
    ],
)
def test_a_wrong_value_in_the_environment_is_said_in_a_sentence(name: str, value: str, words: str):
    with pytest.raises(UsageError) as caught:
        read_settings(environ={f"COORD_{name.upper()}": value})

    assert words in caught.value.message
    assert caught.value.hint.startswith("correct it, or leave it ")


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("flower_auth", "s3cret", "COORD_FLOWER_AUTH must be written like user:password"),
        ("mcp_token", "s3cret", "COORD_MCP_TOKEN must have 16 characters or more"),
    ],
)
def test_a_wrong_secret_is_not_shown_and_may_be_left_out(name: str, value: str, words: str):
    with pytest.raises(UsageError, match=words) as caught:
        read_settings(environ={f"COORD_{name.upper()}": value})

    assert value not in str(caught.value)
    assert caught.value.hint == "correct it, or leave it out"


def test_a_variable_that_is_set_to_nothing_counts_as_not_set():
    settings = read_settings({"lease_ttl": "30s"}, environ={"COORD_LEASE_TTL": "", "COORD_REDIS_URL": ""})

    assert settings.lease_ttl == timedelta(seconds=30)
    assert settings.redis_url is None


def test_a_setting_that_there_is_not_is_refused():
    with pytest.raises(UsageError, match="setting lease: there is no such setting"):
        read_settings({"lease": 3}, environ={})


@pytest.mark.parametrize(
    ("written", "size"), [("512MiB", 512 * 1024**2), ("1.5GiB", 1536 * 1024**2), (7, 7), ("0", 0)]
)
def test_a_size_is_written_with_its_unit_or_in_bytes(written: object, size: int):
    assert read_settings({"disk_min": written}, environ={}).disk_min == size


@pytest.mark.parametrize("written", ["1GB", "-1", "much", "1e9GiB", "9" * 400])
def test_what_is_no_size_is_refused(written: str):
    with pytest.raises(UsageError, match="disk_min"):
        read_settings({"disk_min": written}, environ={})


def test_a_relative_folder_is_relative_to_the_folder_of_the_file(tmp_path: Path):
    settings = read_settings(
        {"cache_folder": "kept", "export_runs": "/srv/runs"}, environ={}, folder=tmp_path
    )

    assert (settings.cache_folder, settings.export_runs) == (str(tmp_path / "kept"), "/srv/runs")
    assert read_settings(environ={"COORD_CACHE_FOLDER": "a"}, folder=tmp_path).cache_folder == str(
        tmp_path / "a"
    )


def test_a_worker_takes_as_many_todos_at_once_as_jobs_says_else_as_it_may_use_processors(tmp_path: Path):
    path = tmp_path / "ecosystem.yaml"
    path.write_text(
        "repos: [{name: a, path: a, slots: 64}]\nsettings: {jobs: 5, redis_url: redis://localhost}\n"
    )
    words = argparse.Namespace(
        ecosystem=str(path), redis=None, repo=[], all=True, keeper=False, jobs=None, state=None
    )

    assert read_config(words).jobs == 5
    path.write_text("repos: [{name: a, path: a, slots: 64}]\nsettings: {redis_url: redis://localhost}\n")
    assert read_config(words).jobs == min(64, usable_cpus())
    words.jobs = 7
    assert read_config(words).jobs == 7


def test_a_forecast_counts_with_the_slots_of_the_only_worker():
    assert Settings(jobs=3).slots_beside(None) == 3
    assert Settings(jobs=3).slots_beside(2) == 2
    assert Settings(jobs=3, redis_url="redis://elsewhere").slots_beside(None) is None


@pytest.mark.parametrize(
    "prefix",
    ["coord/", "bots/coord/", "Ünï/", "a.b/", "x-/",
     "", "/", "coord", "a b/", "a//", "a..b/", ".a/", "a/.b/", "-a/", "a.lock/", "a./", "a~/", "a^/", "a:/",
     "a?/", "a*/", "a[/", "a\\/", "@{/", "a\x7f/", "a\n/", "/a/"],
)  # fmt: skip
def test_a_branch_prefix_is_what_git_takes(prefix: str):
    """`git check-ref-format` is asked; a dash, refs/ and a missing slash are refused besides."""
    words = ["git", "check-ref-format", f"refs/heads/{prefix}P"]
    taken = subprocess.run(words, check=False).returncode == 0
    try:
        Settings(branch_prefix=prefix)
        accepted = True
    except ValidationError:
        accepted = False
    assert accepted is (taken and prefix.endswith("/") and not prefix.startswith("-"))


@pytest.mark.parametrize("prefix", ["refs/heads/", "HEAD/", "a" * 200 + "/"])
def test_a_branch_prefix_that_misleads_is_refused(prefix: str):
    with pytest.raises(ValidationError):
        Settings(branch_prefix=prefix)
