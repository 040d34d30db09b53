"""Public keys of OpenSSH, and verification of SSHSIG signatures with the namespace `coord`.

Ed25519 signatures are verified in this process in 120 µs; `cryptography` takes 25 ms to import and is
imported where it is used. Other keys (hardware, RSA, ECDSA) are verified by `ssh-keygen`, which takes 7 ms.

A signature is the binary SSHSIG blob (openssh/PROTOCOL.sshsig), which contains the public key.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import struct
import subprocess
import tempfile
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from coordination.environment import without_ours
from coordination.errors import CoordinationError, NotTrusted, TrustCause, UsageError

NAMESPACE = b"coord"
ED25519 = "ssh-ed25519"
KEY_TYPES = (
    ED25519,
    "sk-ssh-ed25519@openssh.com",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "sk-ecdsa-sha2-nistp256@openssh.com",
    "ssh-rsa",
)
"""Types of keys that may sign; DSA is broken, and certificates would need an authority."""
RSA_MIN_BITS = 2048
MAGIC = b"SSHSIG"
HASHES = ("sha256", "sha512")
MAX_LINE = 8192
"""Limit for the line of a public key, in characters; RSA with 16384 bits has 2,800."""
MAX_SIGNATURE = 16 * 1024
SSH_KEYGEN_S = 10.0


@dataclass(frozen=True, kw_only=True)
class PublicKey:
    type: str
    blob: bytes
    """The key as SSH encodes it; the fingerprint is its digest."""
    comment: str = ""

    @property
    def line(self) -> str:
        """The key as OpenSSH writes it: type, base64 and comment."""
        return f"{self.type} {base64.b64encode(self.blob).decode()} {self.comment}".rstrip()

    @cached_property
    def fingerprint(self) -> str:
        """`SHA256:…`, as `ssh-keygen -l` prints it."""
        return f"SHA256:{base64.b64encode(hashlib.sha256(self.blob).digest()).decode().rstrip('=')}"


def parse_public_key(line: str) -> PublicKey:
    """Parse `ssh-ed25519 AAAA… comment`. Raises UsageError."""
    line = line.strip() if len(line) <= MAX_LINE else ""
    words = line.split(None, 2)
    if len(words) < 2 or not line.isprintable():
        raise UsageError(
            "this is not the line of a public key: ssh-ed25519 AAAA… NAME",
            "paste the whole line that `coord identity show` prints, in quotes",
        )
    kind, encoded = words[:2]
    if kind not in KEY_TYPES:
        raise UsageError(f"keys of the type {kind} cannot sign here", f"use one of: {', '.join(KEY_TYPES)}")
    try:
        blob = base64.b64decode(encoded, validate=True)
        _check_blob(kind, blob)
    except (binascii.Error, ValueError) as error:
        raise UsageError(f"the public key is damaged: {error}", "copy the whole line again") from error
    return PublicKey(type=kind, blob=blob, comment=words[2] if len(words) == 3 else "")


def _check_blob(kind: str, blob: bytes) -> None:
    """Check the encoding of a key. Raises ValueError."""
    name, rest = read_string(blob)
    if name != kind.encode():
        raise ValueError(f"it says {kind} and contains another type")
    fields = []
    while rest:
        field, rest = read_string(rest)
        fields.append(field)
    if kind == ED25519 and [len(field) for field in fields] != [32]:
        raise ValueError("an Ed25519 key has 32 bytes")
    if kind == "ssh-rsa":
        bits = int.from_bytes(fields[1]).bit_length() if len(fields) == 2 else 0
        if bits < RSA_MIN_BITS:
            raise ValueError(f"an RSA key needs {RSA_MIN_BITS} bits at least")
    if not fields:
        raise ValueError("it ends early")


def read_string(data: bytes) -> tuple[bytes, bytes]:
    """Split SSH's `string` (length and bytes) from the rest. Raises ValueError."""
    if len(data) < 4:
        raise ValueError("it ends early")
    (size,) = struct.unpack(">I", data[:4])
    if size > len(data) - 4:
        raise ValueError("it ends early")
    return data[4 : 4 + size], data[4 + size :]


def ssh_string(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data


@dataclass(frozen=True, kw_only=True)
class Signature:
    """A parsed SSHSIG blob."""

    key: PublicKey
    hash: str
    type: str
    """Algorithm of the inner signature, such as ssh-ed25519 or rsa-sha2-512."""
    value: bytes


def parse_signature(blob: bytes) -> Signature:
    """Parse an SSHSIG blob of the namespace `coord`. Raises NotTrusted."""
    try:
        if len(blob) > MAX_SIGNATURE:
            raise ValueError(f"it has more than {MAX_SIGNATURE} bytes")
        if blob[:10] != MAGIC + struct.pack(">I", 1):
            raise ValueError("it is no SSH signature")
        key, rest = read_string(blob[10:])
        namespace, rest = read_string(rest)
        _, rest = read_string(rest)
        digest, rest = read_string(rest)
        inner, rest = read_string(rest)
        kind, value = read_string(inner)
        value, tail = read_string(value) if kind == ED25519.encode() else (value, b"")
        if rest or tail:
            raise ValueError("bytes follow its end")
        if namespace != NAMESPACE:
            raise ValueError(f"it was made for {namespace[:40]!r}, and not for coord")
        if digest.decode("ascii", "replace") not in HASHES:
            raise ValueError("its digest is neither sha256 nor sha512")
        name = read_string(key)[0].decode("ascii", "replace")
        if name not in KEY_TYPES:
            raise ValueError("its key has a type that cannot sign here")
        _check_blob(name, key)
    except ValueError as error:
        raise NotTrusted(TrustCause.BROKEN, f"the signature cannot be read: {error}") from error
    return Signature(
        key=PublicKey(type=name, blob=key),
        hash=digest.decode(),
        type=kind.decode("ascii", "replace"),
        value=value,
    )


def verify(data: bytes, signature: bytes) -> PublicKey:
    """Return the key that made this signature over these bytes. Raises NotTrusted.

    The caller decides whether it trusts the key.
    """
    parsed = parse_signature(signature)
    if parsed.key.type != ED25519:
        _verify_by_ssh(data, signature, parsed.key)
        return parsed.key
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    raw = read_string(read_string(parsed.key.blob)[1])[0]
    try:
        if parsed.type != ED25519:
            raise InvalidSignature
        Ed25519PublicKey.from_public_bytes(raw).verify(parsed.value, signed_bytes(data, parsed.hash))
    except (InvalidSignature, ValueError) as error:
        raise NotTrusted(
            TrustCause.BROKEN, f"the signature of {parsed.key.fingerprint} is over other bytes"
        ) from error
    return parsed.key


def signed_bytes(data: bytes, digest: str) -> bytes:
    hashed = hashlib.new(digest, data).digest()
    return MAGIC + b"".join(map(ssh_string, (NAMESPACE, b"", digest.encode(), hashed)))


def _verify_by_ssh(data: bytes, signature: bytes, key: PublicKey) -> None:
    with tempfile.TemporaryDirectory(prefix="coord-verify-") as folder:
        allowed, file = Path(folder, "allowed"), Path(folder, "signature")
        allowed.write_text(f'coord namespaces="{NAMESPACE.decode()}" {replace(key, comment="").line}\n')
        file.write_text(_armoured(signature))
        options = (
            "-Y",
            "verify",
            "-f",
            str(allowed),
            "-I",
            "coord",
            "-n",
            NAMESPACE.decode(),
            "-s",
            str(file),
        )
        answer = run_ssh("ssh-keygen", *options, given=data)
    if answer.returncode != 0:
        raise NotTrusted(TrustCause.BROKEN, f"the signature of {key.fingerprint} is over other bytes")


def _armoured(signature: bytes) -> str:
    lines = base64.encodebytes(signature).decode()
    return f"-----BEGIN SSH SIGNATURE-----\n{lines}-----END SSH SIGNATURE-----\n"


def run_ssh(
    program: str, *options: str, given: bytes = b"", timeout_s: float = SSH_KEYGEN_S
) -> subprocess.CompletedProcess[bytes]:
    """Run a program of OpenSSH without terminal and askpass, so that it cannot ask for anything.

    Raises CoordinationError if the program is missing or does not end in time.
    """
    environ = {k: v for k, v in without_ours(os.environ).items() if k not in ("SSH_ASKPASS", "DISPLAY")}
    try:
        return subprocess.run(
            [program, *options],
            input=given,
            capture_output=True,
            env={**environ, "SSH_ASKPASS_REQUIRE": "never", "LC_ALL": "C"},
            start_new_session=True,  # without it, ssh-keygen opens /dev/tty
            timeout=timeout_s,
            check=False,
        )
    except FileNotFoundError as error:
        raise CoordinationError(
            f"the command {program} was not found, and this key needs it",
            "install OpenSSH, or make a key of coord's own: coord identity init",
        ) from error
    except subprocess.TimeoutExpired as error:
        raise CoordinationError(
            f"{program} did not end within {timeout_s:g} s",
            "touch the hardware key, or confirm in the agent; then try again",
        ) from error
