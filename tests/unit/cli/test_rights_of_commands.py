"""With a trust file, a command does what the roles of its user allow, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from coordination.trust.administration import TrustEditor
from coordination.trust.keys import new_key
from coordination.trust.rights import Role
from coordination.trust.trust_file import Kind
from tests.unit.cli.conftest import Typed


@pytest.fixture
def editor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TrustEditor:
    """A trust file with the agent `bot`, whose key this process has; it has no role yet."""
    folder = tmp_path / "config" / "coord"
    signer = new_key(folder / "bot", "bot")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("COORD_IDENTITY", str(folder / "bot"))
    editor = TrustEditor(folder / "trust.yaml")
    editor.add(signer.public_key, kind=Kind.AGENT)
    return editor


def test_edits_need_the_right_for_each_repository_before_and_after(
    typed: Typed, editor: TrustEditor, file: Path
):
    before = file.read_text()
    refused = typed("todo", "update", "TODO-001", "--priority", "high")
    assert (refused.code, file.read_text()) == (4, before)
    assert "coord trust grant bot submitter" in refused.err
    editor.grant("bot", Role.SUBMITTER, ["api"])

    assert typed("todo", "update", "TODO-001", "--priority", "high").code == 0
    assert typed("create-todo", "--task", "More", "--repo", "api").code == 0
    edited = file.read_text()
    for command in (
        ("todo", "update", "TODO-002", "--priority", "high"),
        ("todo", "update", "TODO-001", "--repo", "web"),
        ("todo", "update", "TODO-002", "--repo", "api"),
        ("create-issue", "--title", "Everywhere"),
        ("dep", "delete", "DEP-001", "--yes"),
        ("campaign", "Everywhere", "--run", "true", "--all"),
    ):
        assert typed(*command).code == 4, command
    assert file.read_text() == edited
    editor.grant("bot", Role.ADMIN)
    assert typed("create-issue", "--title", "Everywhere").code == 0


def test_a_machine_that_requires_signatures_refuses_without_a_trust_file(
    typed: Typed, editor: TrustEditor, file: Path, monkeypatch: pytest.MonkeyPatch
):
    editor.path.unlink()
    monkeypatch.setenv("COORD_SIGNATURES", "require")
    before = file.read_text()

    refused = typed("todo", "update", "TODO-001", "--priority", "high")

    assert (refused.code, file.read_text()) == (4, before)
    assert "coord trust add" in refused.err
    monkeypatch.setenv("COORD_SIGNATURES", "warn")
    assert typed("todo", "update", "TODO-001", "--priority", "high").code == 0


def test_without_a_usable_identity_or_trust_file_nothing_is_changed(
    typed: Typed, editor: TrustEditor, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    editor.grant("bot", Role.ADMIN)
    change = ("todo", "update", "TODO-001", "--priority", "high")
    before = file.read_text()

    editor.path.chmod(0o666)
    assert typed(*change).code == 4
    editor.path.chmod(0o600)
    good = editor.path.read_text()
    editor.path.write_text("principals: [")
    assert typed(*change).code == 2
    editor.path.write_text(good)
    monkeypatch.setenv("COORD_IDENTITY", str(tmp_path / "missing"))
    assert typed(*change).code == 2
    monkeypatch.delenv("COORD_IDENTITY")
    assert typed(*change).code == 4
    assert typed("identity", "init").code == 0
    stranger = typed(*change)
    assert stranger.code == 4
    assert "coord trust add" in stranger.err
    assert file.read_text() == before

    editor.path.unlink()
    assert typed(*change).code == 0, "without a trust file everything is allowed"


def test_credentials_are_changed_by_administrators_of_their_repositories(
    typed: Typed, editor: TrustEditor, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("SHIP_TOKEN", "a-secret-of-ship")
    editor.grant("bot", Role.ADMIN, ["web"])
    add = ("credential", "add", "ship", "env:SHIP_TOKEN")

    assert typed(*add, "--all").code == typed(*add, "--repo", "api").code == 4
    assert typed(*add, "--repo", "web").code == 0
    editor.ungrant("bot", Role.ADMIN)
    for change in ((*add, "--repo", "web", "--replace"), ("credential", "revoke", "ship")):
        refused = typed(*change)
        assert (refused.code, "administer" in refused.err) == (4, True)
    assert typed("credential", "list", "--format", "{name} {repos}").out == "ship web\n"
