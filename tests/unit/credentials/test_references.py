"""A reference gives one usable secret or an error that names cause and remedy, and never the secret."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from coordination.credentials import references, store
from coordination.credentials.records import Purpose, refusal_for_todo
from coordination.credentials.references import SecretUnreadable, parse, read
from coordination.credentials.store import CredentialStore
from coordination.errors import Conflict, CoordinationError, NotAllowed, NotFound, UsageError

TOKEN = "ghp_16C7e42F292c6912E7710c838347Ae178B4a"
NOW = datetime(2027, 1, 10, 12, tzinfo=UTC)


def script(folder: Path, body: str) -> str:
    path = folder / "print-it"
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o700)
    return f"command:{path}"


@pytest.mark.parametrize("body", ["exec sleep 600", "trap '' TERM; sleep 600 & wait; sleep 600"])
def test_a_command_that_does_not_end_in_time_is_refused_and_killed(tmp_path: Path, body: str):
    began = time.monotonic()

    with pytest.raises(SecretUnreadable, match="had not ended after"):
        read(parse(script(tmp_path, body)), os.environ, timeout_s=0.5)

    assert time.monotonic() - began < 60


@pytest.mark.parametrize(
    ("body", "cause"),
    [
        ("echo one-line; echo another", "more than one line"),
        ("true", "printed nothing"),
        ("head -c 10000000 /dev/zero | tr '\\0' x", "wrote more than"),
        (f"echo not logged in {TOKEN} >&2; exit 4", "exit code 4: not logged in"),
        ("printf 'a\\000bcdefg'", "control characters"),
        ("printf '\\377\\376abcdef'", "UTF-8"),
        ("echo 12345", "less than 6"),
    ],
)
def test_a_command_that_prints_no_single_line_is_refused(tmp_path: Path, body: str, cause: str):
    with pytest.raises(SecretUnreadable, match=cause) as refused:
        read(parse(script(tmp_path, body)), os.environ, timeout_s=60)

    assert TOKEN not in str(refused.value)


def test_a_command_gets_no_variable_of_coord_and_no_shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COORD_REDIS_URL", "redis://:password@host")

    assert read(parse(script(tmp_path, 'echo "secret${COORD_REDIS_URL}"')), {}) == "secret"
    assert read(parse("command:echo 'a b;c $HOME'"), {}) == "a b;c $HOME"
    assert read(parse(script(tmp_path, "sleep 30 & echo secret")), {}) == "secret"
    with pytest.raises(SecretUnreadable, match="cannot be run"):
        read(parse("command:/nowhere/at-all"), {})


def test_a_file_is_read_only_while_nobody_else_may_read_it(tmp_path: Path):
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n")
    file.chmod(0o600)
    reference = parse("file:token", tmp_path)

    assert read(reference, {}) == TOKEN
    file.chmod(0o640)
    with pytest.raises(SecretUnreadable) as refused:
        read(reference, {})
    assert refused.value.hint == f"chmod 600 {file}"
    file.chmod(0o600)
    file.write_text("x" * 20_000)
    with pytest.raises(SecretUnreadable, match="16,384 bytes"):
        read(reference, {})
    file.unlink()
    os.mkfifo(file, 0o600)
    with pytest.raises(SecretUnreadable, match="not a regular file"):
        read(reference, {})
    file.unlink()
    with pytest.raises(SecretUnreadable, match="No such file"):
        read(reference, {})


def test_a_variable_and_the_keyring_say_what_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    assert read(parse("env:NPM_TOKEN"), {"NPM_TOKEN": TOKEN}) == TOKEN
    with pytest.raises(SecretUnreadable, match="NPM_TOKEN is not set"):
        read(parse("env:NPM_TOKEN"), {})
    if references.find_spec("keyring") is None:
        with pytest.raises(SecretUnreadable, match="not installed") as refused:
            read(parse("keyring:coord/npm"), os.environ)
        assert "[keyring]" in refused.value.hint
    monkeypatch.setattr(references, "find_spec", lambda name: name)
    (tmp_path / "keyring.py").write_text("import sys; print('-'.join(sys.argv[1:]))")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert read(parse("keyring:coord/npm/x"), {}) == "get-coord-npm/x"


@pytest.mark.parametrize(
    "text", [TOKEN, f"env:{TOKEN}", "hunter22", "env:a-b", "file:", "command:'x", "keyring:a"]
)
def test_what_is_no_reference_is_refused_without_being_shown(text: str):
    with pytest.raises(UsageError) as refused:
        parse(text)

    assert TOKEN not in str(refused.value)
    assert "hunter22" not in str(refused.value)


@pytest.fixture
def kept(tmp_path: Path) -> CredentialStore:
    return CredentialStore(
        tmp_path / "config" / "credentials.json", {"NEW": "new-secret", "OLD": "old-secret"}
    )


def test_a_rotation_keeps_the_old_reference_until_the_new_one_was_read(kept: CredentialStore):
    kept.add("npm", parse("env:OLD"))
    kept.rotate("npm", parse("env:MISSING"))
    kept.rotate("npm", parse("env:STILL_MISSING"))

    used = kept.read("npm", NOW)
    assert (used.value, bool(used.warning)) == ("old-secret", True)
    assert "old-secret" not in repr(used)
    kept.rotate("npm", parse("env:NEW"))
    assert kept.get("npm").replaced == "env:OLD"
    assert kept.read("npm", NOW).value == "new-secret"
    assert (kept.get("npm").replaced, kept.get("npm").last_used) == ("", NOW)
    kept.rotate("npm", parse("env:MISSING"))
    kept._environ = {}
    with pytest.raises(SecretUnreadable, match=r"MISSING is not set.*; and the one before"):
        kept.read("npm", NOW)


def test_the_file_is_private_and_refused_when_others_can_change_it(kept: CredentialStore):
    kept.add("npm", parse("env:NEW"), repos=["web"], purposes=[Purpose.WRITE])

    assert kept.path.stat().st_mode & 0o777 == 0o600
    assert kept.path.parent.stat().st_mode & 0o777 == 0o700
    assert "new-secret" not in kept.path.read_text()
    with pytest.raises(Conflict):
        kept.add("npm", parse("env:OLD"))
    with pytest.raises(NotFound, match="did you mean 'npm'"):
        kept.revoke("npn")
    kept.path.chmod(0o660)
    for act in (kept.all, lambda: kept.add("b", parse("env:OLD")), lambda: kept.revoke("npm")):
        with pytest.raises(NotAllowed):
            act()
    kept.path.chmod(0o600)
    for broken in ("{", "[{}]", '[{"name": "../x", "reference": "env:A"}]', "[" * 100_000, "x" * 2_000_000):
        kept.path.write_text(broken)
        with pytest.raises(CoordinationError, match="not a list of credentials"):
            kept.all()
        assert kept.path.read_text() == broken
    kept.path.unlink()
    for name in ("../x", "a b", "", "x" * 65):
        with pytest.raises(UsageError):
            kept.add(name, parse("env:NEW"))


def test_a_secret_is_given_to_todos_of_its_repositories_until_its_last_day(kept: CredentialStore):
    kept.add("npm", parse("env:NEW"), repos=["web"], expires=NOW.date() + timedelta(days=7))
    kept.add("merge", parse("env:NEW"), purposes=[Purpose.MERGE, Purpose.PR])
    known = {one.name: one for one in kept.all()}

    def refused(name: str, repo: str, days: int = 0) -> str:
        found = refusal_for_todo(known, name, repo, NOW + timedelta(days=days))
        return found[0] if found else ""

    assert refused("npm", "web") == refused("npm", "web", 7) == ""
    assert "expired" in refused("npm", "web", 8)
    assert "not for api" in refused("npm", "api")
    assert "pr, merge only" in refused("merge", "web")
    assert "no credential" in refused("nope", "web")
    assert not known["npm"].expiry_words(NOW - timedelta(days=8))
    assert "expires soon" in known["npm"].expiry_words(NOW)


def test_a_use_is_noted_without_failing_the_read(kept: CredentialStore, monkeypatch: pytest.MonkeyPatch):
    kept.add("npm", parse("env:NEW"))

    def no_room(*_: object, **__: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(store, "replace_file", no_room)
    assert kept.read("npm", NOW).value == "new-secret"
    assert kept.get("npm").last_used is None
