"""`coord credential` keeps references, says what is wrong, and shows no secret."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.unit.cli.conftest import Typed

TOKEN = "ghp_16C7e42F292c6912E7710c838347Ae178B4a"


@pytest.fixture(autouse=True)
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("SHIP_TOKEN", TOKEN)
    return tmp_path / "config" / "coord" / "credentials.json"


def test_a_credential_is_added_listed_rotated_and_revoked(typed: Typed, config: Path):
    added = typed(
        "credential",
        "add",
        "ship",
        "env:SHIP_TOKEN",
        "--repo",
        "web",
        "--purpose",
        "write",
        "--expires",
        "3d",
    )
    assert (added.code, added.err) == (0, "")
    assert typed("credential", "add", "ship", "env:SHIP_TOKEN", "--all").code == 6
    (shown,) = json.loads(typed("credential", "list", "--json").out)
    assert (shown["reference"], shown["repos"], shown["purposes"]) == ("env:SHIP_TOKEN", ["web"], ["write"])
    assert "expires soon" in typed("credential", "list").out
    assert "rotate ship" in typed("doctor", "--json").out
    assert typed("credential", "rotate", "ship", "file:missing").err.count("cannot be read") == 2
    assert json.loads(config.read_text())[0]["replaced"] == "env:SHIP_TOKEN"
    assert typed("credential", "revoke", "ship").code == 0
    assert json.loads(typed("credential", "list", "--json").out) == []


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("add", "ship", TOKEN, "--all"), 2, "reference"),
        (("add", "ship", "env:SHIP_TOKEN"), 2, "--repo NAME"),
        (("add", "ship", "env:SHIP_TOKEN", "--repo", "wbe"), 2, "did you mean 'web'"),
        (("add", "../ship", "env:SHIP_TOKEN", "--all"), 2, "letters"),
        (("add", "ship", "env:SHIP_TOKEN", "--all", "--expires", "soon"), 2, "2027-01-31"),
        (("add", "ship", "env:SHIP_TOKEN", "--all", "--expires", "2020-01-01"), 2, "in the past"),
        (("add", "ship", "env:SHIP_TOKEN", "--all", "--purpose", "all"), 2, "merge"),
        (("rotate", "ship", "env:SHIP_TOKEN"), 2, "no credential 'ship'"),
        (("revoke", "ship"), 2, "credential list"),
    ],
)
def test_a_wrong_call_changes_nothing(
    typed: Typed, config: Path, words: tuple[str, ...], code: int, says: str
):
    done = typed("credential", *words)

    assert (done.code, says in done.err) == (code, True), done.err
    assert TOKEN not in done.out + done.err
    assert not config.exists()


def test_validate_warns_of_a_secret_in_env_and_refuses_it_when_strict(typed: Typed, file: Path):
    env = f"env: {{SHIP_TOKEN: {TOKEN}, NPM_TOKEN: $NPM_TOKEN, REGION: eu}}"
    file.write_text(file.read_text().replace('action: "true"', f'action: "true"\n      {env}'))
    line = next(number for number, text in enumerate(file.read_text().splitlines(), 1) if TOKEN in text)

    loose, strict = typed("validate"), typed("validate", "--strict")

    assert (loose.code, strict.code) == (0, 2)
    assert "then: coord validate --strict" in strict.err
    assert f"{file.name}:{line}: " in loose.err
    assert "secrets: [ship-token]" in loose.err
    assert loose.err.count("looks like") == 1
    assert TOKEN not in loose.err + loose.out + strict.err + strict.out + typed("validate", "--json").out


def test_the_file_may_not_lie_in_a_repository(
    typed: Typed, file: Path, monkeypatch: pytest.MonkeyPatch, config: Path
):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(file.parent / "api"))

    assert typed("credential", "add", "ship", "env:SHIP_TOKEN", "--all").code == 4
    assert not config.exists()
