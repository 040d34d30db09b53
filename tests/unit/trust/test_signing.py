"""Keys, signatures and envelopes, compared with OpenSSH itself."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import resource
import shutil
import signal
import struct
import subprocess
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from coordination.errors import CoordinationError, NotTrusted, TrustCause, UsageError
from coordination.trust.envelope import check_times, open_envelope, seal
from coordination.trust.keys import KeySigner, Signer, SshSigner, load_signer, new_key
from coordination.trust.public_keys import parse_public_key, signed_bytes, ssh_string, verify
from coordination.trust.trust_file import Principal, TrustedKey, TrustFile

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
TYPE = "application/vnd.coord.test+json"


def ssh_key(file: Path, *options: str, passphrase: str = "") -> Path:
    subprocess.run(["ssh-keygen", "-q", "-f", str(file), "-N", passphrase, *options], check=True)
    return file


@pytest.fixture
def agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    socket = tmp_path / "agent"
    started = subprocess.run(
        ["ssh-agent", "-s", "-a", str(socket)], check=True, capture_output=True, text=True
    ).stdout
    monkeypatch.setenv("SSH_AUTH_SOCK", str(socket))
    yield
    os.kill(int(started.split("SSH_AGENT_PID=")[1].split(";")[0]), signal.SIGTERM)


@pytest.fixture(autouse=True)
def _no_agent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)


def trusting(*keys: Signer | TrustedKey) -> TrustFile:
    trusted = [TrustedKey(key=key.public_key) if isinstance(key, Signer) else key for key in keys]
    return TrustFile(principals=(Principal(name="anna", keys=tuple(trusted)),))


def cause_of(raw: bytes, trust: TrustFile, kind: str = TYPE) -> TrustCause:
    with pytest.raises(NotTrusted) as refused:
        open_envelope(raw, kind, trust, now=NOW)
    assert refused.value.exit_code == 4
    return refused.value.cause


def test_ssh_keygen_verifies_our_signatures_and_we_verify_its(tmp_path: Path):
    signer = new_key(tmp_path / "own" / "identity", "anna")
    (tmp_path / "signature").write_text(
        "-----BEGIN SSH SIGNATURE-----\n"
        + base64.encodebytes(signer.sign(b"data")).decode()
        + "-----END SSH SIGNATURE-----\n"
    )
    (tmp_path / "allowed").write_text(f"anna {signer.public_key}\n")
    named = ["-f", str(tmp_path / "allowed"), "-I", "anna", "-n", "coord", "-s", str(tmp_path / "signature")]
    subprocess.run(["ssh-keygen", "-Y", "verify", *named], input=b"data", check=True)
    theirs = SshSigner(signer.key, tmp_path / "own" / "identity")

    assert verify(b"data", theirs.sign(b"data")).fingerprint == signer.fingerprint
    listed = subprocess.run(["ssh-keygen", "-l", "-f", tmp_path / "own" / "identity"], capture_output=True)
    assert signer.fingerprint in listed.stdout.decode()


@pytest.mark.parametrize("options", [("-t", "rsa", "-b", "2048"), ("-t", "ecdsa"), ("-t", "ed25519")])
def test_keys_of_ssh_seal_envelopes(tmp_path: Path, options: tuple[str, ...]):
    signer = load_signer(ssh_key(tmp_path / "key", *options))
    raw = seal(TYPE, b'{"a": 1}', signer)

    opened = open_envelope(raw, TYPE, trusting(signer), now=NOW)

    assert (opened.payload, opened.principal.name) == (b'{"a": 1}', "anna")
    assert opened.fingerprint == signer.fingerprint
    assert isinstance(signer, KeySigner) == ("ed25519" in options)
    found = json.loads(raw)
    changed = {**found, "payload": base64.b64encode(b'{"a": 2}').decode()}
    assert cause_of(json.dumps(changed).encode(), trusting(signer)) is TrustCause.BROKEN


def hardware_key(comment: str = "anna") -> tuple[str, Callable[[bytes, int], bytes]]:
    """The line of an sk-ssh-ed25519 key, and a function that signs as its hardware does: data, and flags of
    which 1 says that somebody touched it.
    """
    kind, application = b"sk-ssh-ed25519@openssh.com", b"ssh:"
    private = Ed25519PrivateKey.generate()
    blob = b"".join(map(ssh_string, (kind, private.public_key().public_bytes_raw(), application)))

    def sign(data: bytes, flags: int) -> bytes:
        state = struct.pack(">BI", flags, 7)
        hashed = hashlib.sha256(signed_bytes(data, "sha512")).digest()
        value = private.sign(hashlib.sha256(application).digest() + state + hashed)
        inner = ssh_string(kind) + ssh_string(value) + state
        parts = b"".join(map(ssh_string, (blob, b"coord", b"", b"sha512", inner)))
        return b"SSHSIG" + struct.pack(">I", 1) + parts

    return f"{kind.decode()} {base64.b64encode(blob).decode()} {comment}", sign


def test_signatures_of_a_hardware_key_are_verified(tmp_path: Path):
    line, sign = hardware_key()
    key = TrustedKey(key=line)

    assert verify(b"data", sign(b"data", 1)).fingerprint == key.public.fingerprint
    for data, signature in ((b"other", sign(b"data", 1)), (b"data", sign(b"data", 1)[:-1] + b"\x08")):
        with pytest.raises(NotTrusted) as refused:
            verify(data, signature)
        assert refused.value.cause is TrustCause.BROKEN
    (tmp_path / "key.pub").write_text(line)
    (tmp_path / "key").write_text("no key at all")
    (tmp_path / "key").chmod(0o600)
    with pytest.raises(CoordinationError):  # without the hardware nobody signs
        load_signer(tmp_path / "key").sign(b"data")


def test_a_new_key_is_private_and_never_replaced(tmp_path: Path):
    file = tmp_path / "coord" / "identity"
    signer = new_key(file, "anna@laptop")

    assert file.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o777 == 0o700
    assert load_signer(file).public_key == signer.public_key
    with pytest.raises(UsageError):
        new_key(file)
    file.chmod(0o640)
    with pytest.raises(UsageError, match="chmod 600"):
        load_signer(file)


def test_a_full_disk_leaves_no_half_key(tmp_path: Path):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    try:
        with pytest.raises(CoordinationError, match="cannot be written"):
            new_key(tmp_path / "identity", "anna")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    (tmp_path / "other.pub").mkdir()
    with pytest.raises(CoordinationError, match="cannot be written"):
        new_key(tmp_path / "other", "anna")

    assert [path.name for path in tmp_path.iterdir()] == ["other.pub"]
    assert new_key(tmp_path / "identity").fingerprint == load_signer(tmp_path / "identity").fingerprint


def test_a_key_with_passphrase_signs_by_the_agent_only_and_never_asks(tmp_path: Path, agent: None):
    file = ssh_key(tmp_path / "key", "-t", "ed25519", passphrase="correct horse")
    with pytest.raises(CoordinationError, match="passphrase"):
        load_signer(file)
    with pytest.raises(CoordinationError, match="ssh-keygen did not sign"):
        SshSigner(parse_public_key(file.with_suffix(".pub").read_text()), file).sign(b"data")
    with pytest.raises(CoordinationError, match="no key"):
        load_signer("agent")

    plain = shutil.copy(file, tmp_path / "plain")
    subprocess.run(["ssh-keygen", "-q", "-p", "-P", "correct horse", "-N", "", "-f", plain], check=True)
    subprocess.run(["ssh-add", "-q", plain], check=True)

    for source in (file, tmp_path / "key.pub", "agent", f"agent:{load_signer(file).fingerprint}"):
        raw = seal(TYPE, b"x", load_signer(source))
        assert open_envelope(raw, TYPE, trusting(load_signer(file)), now=NOW).payload == b"x"
    with pytest.raises(UsageError, match="does not hold"):
        load_signer("agent:SHA256:other")


def test_each_defect_of_an_envelope_has_its_cause(tmp_path: Path):
    signer, other = new_key(tmp_path / "anna"), new_key(tmp_path / "eve")
    line, raw = signer.public_key, seal(TYPE, b"x", signer)
    found = json.loads(raw)
    by_other = {**found, "signatures": json.loads(seal(TYPE, b"y", signer))["signatures"]}

    assert cause_of(b"", trusting(signer)) is TrustCause.UNSIGNED
    assert cause_of(json.dumps({**found, "signatures": []}).encode(), trusting(signer)) is TrustCause.UNSIGNED
    assert cause_of(raw, trusting(other)) is TrustCause.UNKNOWN_KEY
    assert cause_of(raw, trusting(TrustedKey(key=line, revoked=NOW))) is TrustCause.REVOKED
    assert cause_of(raw, trusting(TrustedKey(key=line, valid_until=NOW))) is TrustCause.EXPIRED_KEY
    assert cause_of(raw, trusting(TrustedKey(key=line, valid_from=NOW + timedelta(1)))) is TrustCause.CLOCK
    assert cause_of(raw, trusting(signer), "application/other") is TrustCause.WRONG_TYPE
    relabelled = raw.replace(TYPE.encode(), b"application/other")
    assert cause_of(relabelled, trusting(signer), "application/other") is TrustCause.BROKEN
    for broken in (
        raw[:-3],
        b"[" * 100_000,
        b'{"a": ' + b"9" * 5000 + b"}",
        json.dumps({**found, "more": 1}).encode(),
        json.dumps({**found, "payload": 3}).encode(),
        json.dumps({**found, "payload": "%%%"}).encode(),
        json.dumps({**found, "signatures": found["signatures"] * 2}).encode(),
        json.dumps({**found, "signatures": [{"sig": "AAAA"}]}).encode(),
        json.dumps(by_other).encode(),
        b" " * (4 * 1024 * 1024) + raw,
    ):
        assert cause_of(broken, trusting(signer)) is TrustCause.BROKEN


def test_a_signature_for_another_program_is_refused(tmp_path: Path):
    file = ssh_key(tmp_path / "key", "-t", "ed25519")
    made = subprocess.run(
        ["ssh-keygen", "-Y", "sign", "-q", "-f", file, "-n", "git"], input=b"data", capture_output=True
    )
    blob = base64.b64decode(b"".join(made.stdout.strip().splitlines()[1:-1]))

    with pytest.raises(NotTrusted, match="git"):
        verify(b"data", blob)


@pytest.mark.parametrize(
    "line",
    [
        "",
        "ssh-ed25519",
        "ssh-dss AAAA anna",
        "ssh-ed25519 AAAA anna",
        "ssh-ed25519 %%% anna",
        "ssh-ed25519 \x1b[31m anna",
        "ssh-ed25519 " + "A" * 10_000,
        "ssh-rsa " + base64.b64encode(b"\0\0\0\7ssh-rsa\0\0\0\1\3\0\0\0\4\x7f\x7f\x7f\x7f").decode(),
    ],
)
def test_a_line_that_is_no_key_is_refused(line: str):
    with pytest.raises(UsageError):
        parse_public_key(line)


def test_a_wrong_clock_is_named_with_its_size():
    hour = timedelta(hours=1)
    check_times("the order", NOW + timedelta(seconds=59), NOW + hour, NOW)
    with pytest.raises(NotTrusted, match="1:00:00 in the future") as ahead:
        check_times("the order", NOW + hour, NOW + 2 * hour, NOW)
    with pytest.raises(NotTrusted, match="1:00:00 ago") as late:
        check_times("the order", NOW - 2 * hour, NOW - hour, NOW)

    assert (ahead.value.cause, late.value.cause) == (TrustCause.CLOCK, TrustCause.EXPIRED)
