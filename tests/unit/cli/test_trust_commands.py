"""`coord identity` and `coord trust`: keys and principals, and what is refused without losing anything."""

from __future__ import annotations

import subprocess
import threading
from pathlib import Path

import pytest

from coordination.trust.administration import TrustEditor
from coordination.trust.keys import new_key
from coordination.trust.rights import Role
from coordination.trust.trust_file import read_trust
from tests.unit.cli.conftest import Typed


@pytest.fixture(autouse=True)
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    for name in ("COORD_IDENTITY", "COORD_TRUST_FILE"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "config" / "coord"


def a_line(folder: Path, name: str) -> str:
    return new_key(folder / name, name).public_key


def test_one_user_makes_an_identity_and_trusts_it(typed: Typed, config: Path):
    assert typed("identity", "show").code == 2
    line = typed("identity", "init", "--name", "anna").out.strip()
    again = typed("identity", "init", "--name", "bert")
    assert typed("trust", "add", line, "--role", "admin").code == 0

    assert again.out.strip() == line == typed("identity", "show").out.strip()
    shown = typed("identity", "show", "--json").json
    assert (shown["principal"], shown["source"]) == ("anna", str(config / "identity"))
    (row,) = typed("trust", "list", "--json").json
    assert (row["name"], row["kind"], row["state"], row["roles"]) == ("anna", "person", "valid", ["admin"])
    assert typed("trust", "verify", "--json").json["warnings"] == []
    for file in (config / "identity", config / "trust.yaml"):
        assert file.stat().st_mode & 0o777 == 0o600


def test_a_new_key_keeps_the_old_one_beside_it(typed: Typed, config: Path):
    first = typed("identity", "init").out
    second = typed("identity", "init", "--new-key").out
    third = typed("identity", "init", "--new-key").out

    assert len({first, second, third}) == 3
    assert (config / "identity.old.pub").read_text() == first
    assert (config / "identity.old2.pub").read_text() == second


def test_an_ssh_key_is_chosen_if_it_can_sign(
    typed: Typed, config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    for name, passphrase in (("plain", ""), ("locked", "correct horse")):
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-f", tmp_path / name, "-N", passphrase, "-C", "anna"],
            check=True,
        )
    own = typed("identity", "init").out
    locked = typed("identity", "init", "--ssh-key", "locked")
    assert (locked.code, typed("identity", "show").out) == (1, own)
    assert "ssh-add" in locked.err
    assert typed("identity", "init", "--ssh-key", "agent").code == 1
    assert typed("identity", "init", "--ssh-key", "missing").code == 2

    chosen = typed("identity", "init", "--ssh-key", "plain")

    assert chosen.out == (tmp_path / "plain.pub").read_text() == typed("identity", "show").out
    (config / "identity.yaml").write_text("ssh_key: [broken")
    assert typed("identity", "show").code == 2
    assert typed("identity", "init").out == own
    monkeypatch.setenv("COORD_IDENTITY", str(tmp_path / "plain"))
    assert typed("identity", "show").out == chosen.out
    assert typed("identity", "init").code == 2


def test_grants_and_revocations_keep_comments_and_strange_names(typed: Typed, config: Path, tmp_path: Path):
    typed("trust", "add", a_line(tmp_path, "anna"), "--as", "yes", "--role", "submitter")
    file = config / "trust.yaml"
    file.write_text(file.read_text().replace("kind: person", "kind: person  # of the core team"))

    typed("trust", "grant", "yes", "approver", "--repo", "api")
    typed("trust", "grant", "yes", "approver", "--repo", "web", "--repo", "api")
    typed("trust", "ungrant", "yes", "approver", "--repo", "api")
    (row,) = typed("trust", "list", "--json").json
    assert row["roles"] == ["submitter", "approver: web"]
    assert typed("trust", "ungrant", "yes", "submitter", "--repo", "api").code == 6
    assert typed("trust", "ungrant", "yes", "admin").code == 2
    assert typed("trust", "grant", "ye", "admin").code == 2
    assert typed("trust", "grant", "yes", "root").code == 2

    assert typed("trust", "revoke", "yes", "--json").json[0]["state"] == "revoked"
    assert typed("trust", "revoke", "yes").code == 6
    assert "# of the core team" in file.read_text()
    assert read_trust(file).named("yes") is not None
    assert typed("trust", "add", row["fingerprint"]).code == 2
    assert typed("trust", "add", (tmp_path / "anna.pub").read_text()).code == 6, "a revoked key stays so"


def test_a_grant_demands_a_sandbox_for_some_repositories_or_none(typed: Typed, tmp_path: Path):
    typed("trust", "add", a_line(tmp_path, "bot"), "--kind", "agent", "--role", "submitter", "--repo", "api")

    def granted(*words: str) -> list[str]:
        assert typed("trust", "grant", "bot", "submitter", *words).code == 0
        return list(typed("trust", "list", "--json").json[0]["roles"])

    assert granted("--repo", "web", "--sandbox", "bubblewrap") == [
        "submitter: api",
        "submitter: web (sandbox)",
    ]
    assert granted("--repo", "api", "--sandbox", "bubblewrap") == ["submitter: web, api (sandbox)"]
    assert granted("--repo", "api", "--sandbox", "off") == ["submitter: web (sandbox)", "submitter: api"]
    assert granted("--sandbox", "bubblewrap") == ["submitter (sandbox)"]
    assert typed("trust", "grant", "bot", "submitter", "--repo", "api", "--sandbox", "off").code == 6
    assert granted("--sandbox", "off") == ["submitter"]


def test_a_second_key_needs_a_word_because_a_comment_proves_nothing(typed: Typed, tmp_path: Path):
    (tmp_path / "eve").mkdir()
    first, second = a_line(tmp_path, "anna"), a_line(tmp_path / "eve", "anna")
    typed("trust", "add", first, "--role", "admin")

    refused = typed("trust", "add", second)
    assert refused.code == 6
    assert "--another-key" in refused.err
    assert typed("trust", "add", first, "--as", "eve").code == 6
    assert typed("trust", "add", first, "--kind", "agent").code == 6
    assert len(typed("trust", "list", "--json").json) == 1

    added = typed("trust", "add", second, "--another-key", "--until", "2d", "--json").json
    assert [row["name"] for row in added] == ["anna", "anna"]
    (warning,) = [w for w in typed("trust", "verify", "--json").json["warnings"] if "expires" in w]
    assert added[1]["fingerprint"] in warning
    assert typed("trust", "revoke", added[1]["fingerprint"], "--json").json[0]["state"] == "valid"


@pytest.mark.parametrize("command", [["list"], ["verify"], ["grant", "anna", "admin"]])
def test_a_file_that_cannot_be_trusted_is_neither_read_nor_edited(
    typed: Typed, config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: list[str]
):
    typed("trust", "add", a_line(tmp_path, "anna"))
    file = config / "trust.yaml"
    good = file.read_text()

    file.chmod(0o666)
    assert typed("trust", *command).code == 4
    file.chmod(0o600)
    file.write_text("principals: {")
    assert typed("trust", *command).code == 2
    assert file.read_text() == "principals: {"
    for inside in (tmp_path / "api" / "trust.yaml", tmp_path / ".coord" / "trust.yaml"):
        inside.parent.mkdir(exist_ok=True)
        inside.write_text(good)
        monkeypatch.setenv("COORD_TRUST_FILE", str(inside))
        assert typed("trust", *command).code == 4
        assert inside.read_text() == good


def test_edits_at_the_same_time_are_all_kept(tmp_path: Path):
    file = tmp_path / "trust" / "trust.yaml"
    lines = [a_line(tmp_path, f"p{number}") for number in range(8)]
    threads = [
        threading.Thread(target=TrustEditor(file).add, args=(line,), kwargs={"roles": [Role.VIEWER]})
        for line in lines
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert {principal.name for principal in read_trust(file).principals} == {f"p{n}" for n in range(8)}
