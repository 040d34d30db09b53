"""The trust file: its place, its content, and the rights that it gives."""

from __future__ import annotations

import os
import socket
from contextlib import closing
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest

from coordination.api.access import EcosystemAccess
from coordination.errors import MissingRight, NotTrusted, TrustCause, Unsafe, UsageError
from coordination.models import Signatures
from coordination.runs.signed.orders import signatures_in_force
from coordination.settings import Settings
from coordination.trust.break_glass import PAYLOAD_TYPE, declare_emergency, open_emergency
from coordination.trust.envelope import seal
from coordination.trust.keys import new_key
from coordination.trust.rights import LADDER, RIGHTS, Right, Role, right_of
from coordination.trust.trust_file import (
    Grant,
    Kind,
    Principal,
    TrustedKey,
    TrustFile,
    read_trust,
    trust_path,
)

NOBODY = 65534


@pytest.fixture
def line(tmp_path: Path) -> str:
    return new_key(tmp_path / "key", "anna").public_key


@pytest.fixture
def file(tmp_path: Path, line: str) -> Path:
    path = tmp_path / "trust.yaml"
    path.write_text(
        f"principals:\n- name: anna\n  keys:\n"
        f"  - {{key: {line}, from: 2026-01-01, until: 2027-01-01T09:00:00}}\n"
        "  grants:\n  - {role: Approver, repos: [api]}\n  - role: viewer\n"
    )
    path.chmod(0o600)
    return path


def test_it_is_read_with_its_times_in_utc(file: Path, line: str):
    (anna,) = read_trust(file).principals

    assert (anna.kind, anna.grants[0]) == (Kind.PERSON, Grant(role=Role.APPROVER, repos=("api",)))
    assert anna.keys[0].key == line
    assert f"{anna.keys[0].valid_from} {anna.keys[0].valid_until}".count("+00:00") == 2


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to another user")
def test_what_belongs_to_another_user_is_refused(file: Path, tmp_path: Path):
    for path in (file, tmp_path):
        os.chown(path, NOBODY, NOBODY)
        with pytest.raises(Unsafe, match="another user"):
            read_trust(file)
        os.chown(path, 0, 0)
    with closing(socket.socket(socket.AF_UNIX)) as server:
        server.bind(str(tmp_path / "redis.sock"))
        url = f"unix://{tmp_path}/redis.sock"
        assert signatures_in_force(Settings(), url) is Signatures.OFF
        os.chown(tmp_path / "redis.sock", NOBODY, NOBODY)
        assert signatures_in_force(Settings(), url) is Signatures.WARN


def test_what_others_could_change_is_refused(file: Path, tmp_path: Path):
    for path, mode in ((file, 0o620), (file, 0o602), (tmp_path, 0o770), (tmp_path, 0o707)):
        before = path.stat().st_mode
        path.chmod(mode)
        with pytest.raises(Unsafe):
            read_trust(file)
        path.chmod(before)
    link = tmp_path / "link.yaml"
    link.symlink_to(file)
    with pytest.raises(Unsafe, match="symbolic link"):
        read_trust(link)
    with pytest.raises(Unsafe, match="todos can change"):
        read_trust(file, [tmp_path / "elsewhere", tmp_path.parent])
    (tmp_path / "way").symlink_to(tmp_path)
    with pytest.raises(Unsafe, match="todos can change"):
        read_trust(tmp_path / "way" / "trust.yaml", [tmp_path])
    with pytest.raises(Unsafe, match="regular"):
        read_trust(tmp_path)
    assert read_trust(file, [tmp_path / "elsewhere"]).named("anna")


@pytest.mark.parametrize(
    "content",
    [
        "principals: [",
        "- a",
        "principals:\n- name: anna\n- name: anna\n",
        "principals:\n- {name: anna, keys: [{key: KEY}]}\n- {name: eve, keys: [{key: KEY}]}\n",
        "principals:\n- {name: anna, keys: [{key: KEY}, {key: KEY, revoked: 2026-01-01}]}\n",
        "principals:\n- {name: anna, keys: [{key: ssh-ed25519 AAAA}]}\n",
        "principals:\n- {name: anna, keys: [{key: KEY, until: soon}]}\n",
        "principals:\n- {name: anna, keys: [{key: KEY, revoke: 2026-01-01}]}\n",
        "principals:\n- {name: anna, kind: alien}\n",
        "principals:\n- {name: anna, grants: [{role: root}]}\n",
        "principals:\n- {name: bot, kind: agent, grants: [{role: break-glass}]}\n",
        'principals:\n- {name: "an\\e[31mna"}\n',
        "[" * 5000,
    ],
)
def test_a_broken_file_is_refused_as_a_whole(file: Path, line: str, content: str):
    file.write_text(content.replace("KEY", line))

    with pytest.raises(UsageError, match="is broken"):
        read_trust(file)


def test_a_missing_file_and_its_place(tmp_path: Path):
    with pytest.raises(UsageError, match="coord trust add"):
        read_trust(tmp_path / "trust.yaml")

    assert trust_path({"COORD_TRUST_FILE": "/etc/coord/t.yaml", "HOME": "/h"}) == Path("/etc/coord/t.yaml")
    assert trust_path({"HOME": "/h"}) == Path("/h/.config/coord/trust.yaml")
    assert trust_path({"HOME": "/h", "XDG_CONFIG_HOME": "/x"}) == Path("/x/coord/trust.yaml")


def test_a_reader_of_signatures_refuses_a_trust_file_that_todos_can_change(
    tmp_path: Path, file: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "ecosystem.yaml").write_text("repos: [{name: api, path: api}]\n")
    (tmp_path / "api").mkdir()
    inside = file.rename(tmp_path / "api" / "trust.yaml")
    monkeypatch.setenv("COORD_TRUST_FILE", str(inside))
    access = EcosystemAccess(tmp_path / "ecosystem.yaml", "redis://127.0.0.1:1")

    with pytest.raises(Unsafe, match="todos can change"):
        _ = access.connection.trust


def test_roles_grow_and_only_admin_has_all_rights():
    assert all(RIGHTS[lower] < RIGHTS[higher] for lower, higher in pairwise(LADDER))
    assert RIGHTS[Role.ADMIN] == set(Right)
    assert RIGHTS[Role.BREAK_GLASS] == set()
    assert set(Role) == {*LADDER, Role.BREAK_GLASS}
    assert right_of("an operation of tomorrow") is Right.ADMINISTER


def test_an_emergency_lasts_an_hour_and_gives_no_verdicts(tmp_path: Path):
    signer, other = new_key(tmp_path / "anna"), new_key(tmp_path / "bert")
    of_anna, of_bert = (TrustedKey(key=one.public_key) for one in (signer, other))
    anna = Principal(name="anna", keys=(of_anna,), grants=(Grant(role=Role.BREAK_GLASS, repos=("api",)),))
    bert = Principal(name="bert", keys=(of_bert,), grants=(Grant(role=Role.ADMIN),))
    trust = TrustFile(principals=(anna, bert))
    now = datetime(2026, 5, 1, tzinfo=UTC)
    emergency, raw = declare_emergency("api\n is down", signer, trust, now)

    assert open_emergency(raw, trust, anna, now + timedelta(minutes=59)) == emergency
    assert emergency.reason == "api is down"
    trust.check(anna, Right.LAND, ["api"], emergency=True)
    for right, repos in ((Right.APPROVE, ["api"]), (Right.OVERRIDE, ["api"]), (Right.LAND, ["web"])):
        with pytest.raises(MissingRight):
            trust.check(anna, right, repos, emergency=True)
    with pytest.raises(MissingRight):
        trust.check(anna, Right.LAND, ["api"])
    with pytest.raises(MissingRight):
        declare_emergency("why not", other, trust, now)
    with pytest.raises(UsageError):
        declare_emergency(" ", signer, trust, now)

    longer = emergency.model_copy(update={"expires_at": now + timedelta(days=1)})
    for forged, holder, at, cause in (
        (raw, anna, now + timedelta(hours=2), TrustCause.EXPIRED),
        (raw, anna, now - timedelta(hours=2), TrustCause.CLOCK),
        (raw, bert, now, TrustCause.FOREIGN),
        (seal(PAYLOAD_TYPE, longer.model_dump_json().encode(), signer), anna, now, TrustCause.BROKEN),
        (seal(PAYLOAD_TYPE, b"{}", signer), anna, now, TrustCause.BROKEN),
        (raw.replace(b"sig", b"gis"), anna, now, TrustCause.BROKEN),
    ):
        with pytest.raises(NotTrusted) as refused:
            open_emergency(forged, trust, holder, at)
        assert refused.value.cause is cause


def test_rights_hold_for_the_granted_repositories_only():
    anna = Principal(
        name="anna", grants=(Grant(role=Role.OPERATOR, repos=("api",)), Grant(role=Role.APPROVER))
    )
    trust = TrustFile(principals=(anna,))
    trust.check(anna, Right.LAND, ["api"])
    trust.check(anna, Right.APPROVE, ["api", "web"])
    trust.check(anna, Right.READ, None)
    for repos in (["api", "web"], ["web"], None, []):
        with pytest.raises(MissingRight, match="land") as refused:
            trust.check(anna, Right.LAND, repos)
        assert "coord trust grant anna operator" in refused.value.hint
        assert refused.value.exit_code == 4
