"""The identity of this process: the private key with which it signs.

COORD_IDENTITY names it for agents, services and tests: a key file, `agent`, or `agent:SHA256:…`. Without it,
the identity is the SSH key that the person chose (`identity.yaml`), else the key that coord made
(`identity`), both in the user's configuration folder of coord.

Workers sign results with a key of their own, in their state folder; that key gives no right to order
anything.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from coordination.environment import ENV_PREFIX, actor, config_folder_from_environment
from coordination.errors import CoordinationError, UsageError
from coordination.files import expanded, locked, make_private, replace_file
from coordination.trust.keys import AGENT, Signer, load_signer, new_key, public_half

if TYPE_CHECKING:
    from coordination.trust.trust_file import TrustFile

OWN_KEY = "identity"
WORKER_KEY = Path("keys", "worker")
"""The key of a worker, in its state folder."""
CHOICE = "identity.yaml"
MAX_CHOICE = 4096


@dataclass(frozen=True, kw_only=True)
class Identity:
    """The place of the private key of this process."""

    source: str
    """Path of a key file, `agent`, or `agent:SHA256:…`."""
    named_by: str
    """The variable or file that names the key; the key file itself for a key that coord made."""

    def signer(self) -> Signer:
        """Load the key. Raises UsageError and CoordinationError, as `load_signer` does."""
        return load_signer(self.source)


def find_identity(environ: Mapping[str, str] | None = None) -> Identity | None:
    """Return the identity of this process; None if it has none. Raises UsageError for a broken choice."""
    environ = os.environ if environ is None else environ
    if named := environ.get(ENV_PREFIX + "IDENTITY"):
        return Identity(source=named, named_by=f"{ENV_PREFIX}IDENTITY")
    if (folder := config_folder_from_environment(environ)) is None:
        return None
    if chosen := _choice(folder / CHOICE):
        return Identity(source=chosen, named_by=str(folder / CHOICE))
    own = folder / OWN_KEY
    return Identity(source=str(own), named_by=str(own)) if own.exists() else None


def load_identity(environ: Mapping[str, str] | None = None) -> Signer | None:
    """Return the signer of this process; None if it has no identity. Raises as `Identity.signer` does."""
    found = find_identity(environ)
    return found.signer() if found else None


def require_identity(environ: Mapping[str, str] | None = None) -> Identity:
    """Return the identity of this process. Raises UsageError if it has none."""
    found = find_identity(environ)
    if found is None:
        raise UsageError("this user has no identity that signs", "make one: coord identity init")
    return found


def known_keys(signer: Signer | None, changed_folders: Collection[Path]) -> TrustFile:
    """Return the trust file of this machine with the key of this process added, because a person trusts their
    own signatures. `changed_folders`: the folders that todos change, which may not hold the trust file.

    Raises Unsafe or UsageError for a trust file that cannot be used.
    """
    from coordination.trust.trust_file import Principal, TrustedKey, TrustFile, read_trust, trust_path

    path = trust_path()
    found = path.exists() or path.is_symlink()
    trust = read_trust(path, changed_folders) if found else TrustFile()
    if signer is None or trust.holder(signer.fingerprint):
        return trust
    own = Principal(name=actor(), keys=(TrustedKey(key=signer.public_key),))
    others = tuple(one for one in trust.principals if one.name != own.name)
    return TrustFile(principals=(*others, own))


def create_identity(name: str, environ: Mapping[str, str] | None = None, *, replace: bool = False) -> bool:
    """Make a key for this user unless coord has made one before; return whether it is new.

    With `replace`, an existing key is renamed and a new one made. An SSH key that the user chose before is
    not used any more. Raises UsageError, CoordinationError.
    """
    folder = _folder(environ)
    own = folder / OWN_KEY
    if replace and own.exists():
        _put_aside(own)
    new = not own.exists()
    if new:
        new_key(own, name)
    else:
        load_signer(own)  # report a damaged key now, and not at the first order
    (folder / CHOICE).unlink(missing_ok=True)
    return new


def worker_identity(state: Path, name: str) -> Signer:
    """Return the key with which the workers of a state folder sign results; make it if there is none.

    Raises CoordinationError.
    """
    file = state / WORKER_KEY
    try:
        make_private(file.parent)
        with locked(file.with_name("lock")):  # several workers may start at the same time
            return load_signer(file) if file.exists() else new_key(file, name)
    except OSError as error:
        raise CoordinationError(
            f"the key of the worker, {file}, cannot be made: {error.strerror}", f"check the folder {state}"
        ) from error


def known_fingerprint(state: Path) -> str:
    """Return the fingerprint of the key of a state folder's workers, read from its public half alone; empty
    if there is no key, or no public half.
    """
    file = state / WORKER_KEY
    public = public_half(file) if file.exists() else None
    return public.fingerprint if public else ""


def existing_worker(state: Path) -> Signer | None:
    """Return the key of the workers of a state folder; None if they have none yet. Raises UsageError."""
    file = state / WORKER_KEY
    return load_signer(file) if file.exists() else None


def _put_aside(own: Path) -> None:
    """Rename a key to the first free name of `identity.old`, `identity.old2` and so on."""
    numbers = (f"{own.name}.old{number if number > 1 else ''}" for number in count(1))
    free = next(name for name in numbers if not own.with_name(name).exists())
    try:
        own.rename(own.with_name(free))
        own.with_name(f"{own.name}.pub").replace(own.with_name(f"{free}.pub"))
    except FileNotFoundError:  # a key without its public half
        pass
    except OSError as error:
        raise CoordinationError(f"{own} cannot be renamed: {error.strerror}") from error


def choose_ssh_key(source: str, environ: Mapping[str, str] | None = None) -> Identity:
    """Use an SSH key of the person: a path, `agent`, or `agent:SHA256:…`.

    The key of an agent is stored by its fingerprint, so that a key that is added later changes nothing.
    Raises UsageError and CoordinationError if it cannot sign now.
    """
    if not (source == AGENT or source.startswith(f"{AGENT}:")):
        source = str(expanded(source).absolute())
    signer = load_signer(source)
    signer.sign(b"coord")
    if source == AGENT:
        source = f"{AGENT}:{signer.fingerprint}"
    file = _folder(environ) / CHOICE
    import json

    try:
        make_private(file.parent)
        replace_file(file, f"ssh_key: {json.dumps(source)}\n".encode(), durable=True)
    except OSError as error:
        raise CoordinationError(f"{file} cannot be written: {error.strerror}") from error
    return Identity(source=source, named_by=str(file))


def _folder(environ: Mapping[str, str] | None) -> Path:
    environ = os.environ if environ is None else environ
    if named := environ.get(ENV_PREFIX + "IDENTITY"):
        raise UsageError(
            f"{ENV_PREFIX}IDENTITY names the identity already: {named}", "unset it, then try again"
        )
    if (folder := config_folder_from_environment(environ)) is None:
        raise UsageError("there is no place for an identity: HOME is not set", "set HOME or COORD_IDENTITY")
    return folder


def _choice(file: Path) -> str:
    """Return the chosen SSH key; empty if none was chosen. Raises UsageError."""
    try:
        with file.open("rb") as opened:
            content = opened.read(MAX_CHOICE)
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror}", "make it readable for you") from error
    import yaml

    try:
        found = yaml.safe_load(content)
    except yaml.YAMLError:
        found = None
    if not isinstance(found, dict) or set(found) != {"ssh_key"} or not isinstance(found["ssh_key"], str):
        raise UsageError(
            f"{file} is broken: it needs the line ssh_key: PATH",
            "choose again: coord identity init --ssh-key PATH",
        )
    return found["ssh_key"]
