"""Private keys that sign for this process: SSH keys of a person, or Ed25519 keys that coord makes.

An unencrypted Ed25519 key file signs in this process in 50 µs. Other keys (agent, hardware, RSA, ECDSA,
passphrase) use `ssh-keygen -Y sign`, which takes 6 ms and gets no terminal, so that it never asks for a
passphrase.
"""

from __future__ import annotations

import base64
import os
import stat
import struct
import tempfile
from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING

from coordination.errors import CoordinationError, UsageError
from coordination.files import UNFINISHED, expanded, make_private, open_own, replace_file
from coordination.text import quoted
from coordination.trust.public_keys import (
    ED25519,
    KEY_TYPES,
    MAGIC,
    NAMESPACE,
    PublicKey,
    parse_public_key,
    run_ssh,
    signed_bytes,
    ssh_string,
    verify,
)

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

AGENT = "agent"
MAX_KEY_FILE = 64 * 1024
TOUCH_S = 60.0
"""Seconds that a person has to touch a hardware key or to confirm a signature in the agent."""
OTHERS = 0o077


class Signer(ABC):
    """A private key that this process may use."""

    def __init__(self, key: PublicKey) -> None:
        self.key = key

    @property
    def public_key(self) -> str:
        """The line of the public key, as the trust file has it."""
        return self.key.line

    @property
    def fingerprint(self) -> str:
        return self.key.fingerprint

    @abstractmethod
    def sign(self, data: bytes) -> bytes:
        """Return the SSHSIG blob over these bytes. Raises CoordinationError."""


class KeySigner(Signer):
    """Signs with an Ed25519 key in this process."""

    def __init__(self, private: Ed25519PrivateKey, comment: str = "") -> None:
        raw = private.public_key().public_bytes_raw()
        blob = ssh_string(ED25519.encode()) + ssh_string(raw)
        super().__init__(PublicKey(type=ED25519, blob=blob, comment=comment))
        self._private = private

    def sign(self, data: bytes) -> bytes:
        inner = ssh_string(ED25519.encode()) + ssh_string(self._private.sign(signed_bytes(data, "sha512")))
        return (
            MAGIC
            + struct.pack(">I", 1)
            + b"".join(map(ssh_string, (self.key.blob, NAMESPACE, b"", b"sha512", inner)))
        )


class SshSigner(Signer):
    """Signs with `ssh-keygen -Y sign`: by the agent if it holds the key, else with the key file."""

    def __init__(self, key: PublicKey, file: Path | None = None) -> None:
        super().__init__(key)
        self._file = file

    def sign(self, data: bytes) -> bytes:
        with tempfile.TemporaryDirectory(prefix="coord-sign-") as folder:
            public = Path(folder, "key.pub")
            public.write_text(self.key.line + "\n")
            source = self._file or public
            options = ("-Y", "sign", "-q", "-f", str(source), "-n", NAMESPACE.decode())
            answer = run_ssh("ssh-keygen", *options, given=data, timeout_s=TOUCH_S)
        lines = answer.stdout.strip().splitlines()
        if answer.returncode != 0 or len(lines) < 3:
            raise CoordinationError(
                f"ssh-keygen did not sign with {self.fingerprint}: {_last_line(answer.stderr)}",
                "give the key to the agent: ssh-add FILE; or use a key of coord's own: coord identity init",
            )
        blob = base64.b64decode(b"".join(lines[1:-1]))
        if verify(data, blob).blob != self.key.blob:
            raise CoordinationError(f"ssh-keygen signed with another key than {self.fingerprint}")
        return blob


def _last_line(output: bytes) -> str:
    lines = [line for line in output.decode("utf-8", "replace").splitlines() if line.strip()]
    return lines[-1].strip() if lines else "it printed nothing"


def load_signer(source: str | Path) -> Signer:
    """Load a signer: the path of a private key, `agent` (its only key) or `agent:SHA256:…`.

    Raises UsageError if the source is no usable key, CoordinationError if the key cannot be used now.
    """
    text = str(source)
    if text == AGENT or text.startswith(f"{AGENT}:"):
        return SshSigner(_key_of_agent(text.partition(":")[2]))
    return _from_file(expanded(text))


def agent_keys() -> list[PublicKey]:
    """Return the keys that the agent holds and that can sign here; empty without an agent."""
    answer = run_ssh("ssh-add", "-L")
    found = []
    for line in answer.stdout.decode("utf-8", "replace").splitlines() if answer.returncode == 0 else ():
        if line.split(None, 1)[:1] and line.split(None, 1)[0] in KEY_TYPES:
            found.append(parse_public_key(line))
    return found


def _key_of_agent(fingerprint: str) -> PublicKey:
    keys = agent_keys()
    if not keys:
        raise CoordinationError("no agent is running, or it holds no key", "ssh-add -l; then: ssh-add FILE")
    wanted = [key for key in keys if fingerprint in ("", key.fingerprint)]
    if len(wanted) == 1:
        return wanted[0]
    known = ", ".join(f"{key.fingerprint} ({key.comment})" for key in keys)
    if wanted:
        raise UsageError(f"the agent holds {len(keys)} keys: {known}", "name one: agent:SHA256:…")
    raise UsageError(f"the agent does not hold {fingerprint}; it holds {known}", "ssh-add FILE")


def _from_file(file: Path) -> Signer:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_ssh_private_key

    if file.suffix == ".pub":
        return SshSigner(_held(parse_public_key(_text(file, private=False)), file))
    text = _text(file, private=True)
    if "PRIVATE KEY-----" not in text:
        raise UsageError(f"{file} is not a private key of OpenSSH", "make one: coord identity init")
    public = public_half(file)
    try:
        private = load_ssh_private_key(text.encode(), password=None)
    except (TypeError, ValueError, UnsupportedAlgorithm):  # a passphrase, another format, a hardware key
        if public is None:
            raise UsageError(
                f"{file} cannot be read without a passphrase, and {file}.pub is missing",
                f"ssh-keygen -y -f {file} >{file}.pub; then: ssh-add {file}",
            ) from None
        return SshSigner(public if public.type.startswith("sk-") else _held(public, file), file)
    if isinstance(private, Ed25519PrivateKey):
        return KeySigner(private, comment=public.comment if public else "")
    if public is None:
        raise UsageError(f"{file}.pub is missing", f"ssh-keygen -y -f {file} >{file}.pub")
    return SshSigner(public, file)


def _held(public: PublicKey, file: Path) -> PublicKey:
    """Return a key that only the agent can use. Raises CoordinationError if the agent does not hold it."""
    if public.blob not in [key.blob for key in agent_keys()]:
        private = file.with_suffix("") if file.suffix == ".pub" else file
        raise CoordinationError(
            f"the key {private} has a passphrase, and no agent holds it",
            f"ssh-add {private}; or make a key of coord's own: coord identity init",
        )
    return public


def public_half(file: Path) -> PublicKey | None:
    """Return the public key beside a private one; None if it is missing or cannot be read."""
    try:
        return parse_public_key(_text(file.with_name(f"{file.name}.pub"), private=False))
    except UsageError:
        return None


def _text(file: Path, *, private: bool) -> str:
    """Read a key file of this user; other users must not be able to read a private key. Raises UsageError."""
    try:
        handle = open_own(file.resolve(), os.O_RDONLY)  # ~/.ssh and its keys may be links
        with os.fdopen(handle, "rb") as opened:
            mode = stat.S_IMODE(os.fstat(handle).st_mode)
            content = opened.read(MAX_KEY_FILE + 1)
    except OSError as error:
        raise UsageError(
            f"the key {file} cannot be read: {error.strerror}", "make one: coord identity init"
        ) from error
    if private and mode & OTHERS:
        raise UsageError(
            f"the key {file} can be read by other users (mode {mode:04o})", f"chmod 600 {quoted(file)}"
        )
    if len(content) > MAX_KEY_FILE:
        raise UsageError(f"{file} has more than {MAX_KEY_FILE} bytes and is no key")
    return content.decode("utf-8", "replace")


def new_key(file: Path, comment: str = "") -> KeySigner:
    """Make an Ed25519 key without passphrase: FILE (0600) and FILE.pub, in a private folder.

    Raises UsageError if the file exists, CoordinationError if it cannot be written.
    """
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    private = Ed25519PrivateKey.generate()
    signer = KeySigner(private, comment)
    text = private.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
    try:
        make_private(file.parent)
        _write_pair(file, text.rstrip() + b"\n", signer.public_key.encode() + b"\n")
    except FileExistsError as error:
        raise UsageError(f"{file} exists and is kept", "show it: coord identity show") from error
    except OSError as error:
        raise CoordinationError(
            f"the key {file} cannot be written: {error.strerror}", f"check the disk: df -h {file.parent}"
        ) from error
    return signer


def _write_pair(file: Path, private: bytes, public: bytes) -> None:
    """Write both halves of a key. The private half gets its name when it is completely on the disk; it is
    removed again if the public half cannot be written. Raises OSError.
    """
    part = file.with_name(f".{file.name}.{os.urandom(4).hex()}{UNFINISHED}")
    try:
        with os.fdopen(open_own(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL), "wb") as opened:
            opened.write(private)
            opened.flush()
            os.fsync(opened.fileno())
        os.link(part, file)  # unlike a rename, it replaces no key of another process
    finally:
        part.unlink(missing_ok=True)
    try:
        replace_file(file.with_name(f"{file.name}.pub"), public, durable=True)
    except OSError:
        file.unlink()
        raise
