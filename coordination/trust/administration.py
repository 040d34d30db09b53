"""Edit and review the trust file of this machine: `coord trust` and doctor.

Edits are made one at a time, are atomic, and keep comments. An edit that would make the file invalid is
refused, and the file stays as it is.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from coordination.durations import EXPIRY_WARNING
from coordination.errors import Conflict, CoordinationError, NotFound, UsageError
from coordination.files import lock, make_private, open_lock, replace_file, sync_folder
from coordination.text import did_you_mean
from coordination.trust.identity import find_identity
from coordination.trust.public_keys import parse_public_key
from coordination.trust.rights import Role
from coordination.trust.trust_file import (
    Kind,
    Principal,
    TrustedKey,
    TrustFile,
    check_place,
    parse_trust,
    read_bytes,
    read_trust,
)

LOCK_S = 10.0
HEAD = b"# Whom this machine trusts; see: coord trust list\nprincipals: []\n"
TIME = "%Y-%m-%dT%H:%M:%SZ"


class TrustEditor:
    """Edits one trust file. `repos` are folders that coord changes; the file must not lie in one of them."""

    def __init__(self, path: Path, repos: Collection[Path] = ()) -> None:
        self.path, self._repos = path, repos

    def add(
        self,
        line: str,
        name: str = "",
        *,
        kind: Kind | None = None,
        roles: Sequence[Role] = (),
        repos: Sequence[str] = (),
        valid_from: datetime | None = None,
        valid_until: datetime | None = None,
        another_key: bool = False,
    ) -> Principal:
        """Add a key, and its principal if that is new. For a known key, set the validity and add the roles.

        Raises UsageError; Conflict if the key belongs to another principal or was revoked, or if the
        principal has other keys and `another_key` is false.
        """
        key = parse_public_key(line)
        name = name or key.comment
        if not name:
            raise UsageError("the key has no name", "name its owner: coord trust add LINE --as NAME")

        def change(trust: TrustFile, principals: Any) -> str:
            holder = trust.holder(key.fingerprint)
            if holder is not None and name not in (holder.name, key.comment):
                raise Conflict(f"the key {key.fingerprint} belongs to {holder.name}", "coord trust list")
            owner = holder.name if holder else name
            entry = _entry(principals, owner)
            if entry is None:
                entry = {"name": _quoted(owner), "kind": str(kind or Kind.PERSON), "keys": []}
                principals.append(entry)
                entry = principals[-1]
            elif kind is not None and Kind(entry.get("kind", Kind.PERSON)) is not kind:
                raise Conflict(
                    f"{owner} is a {entry.get('kind', Kind.PERSON)}, not a {kind}", "coord trust list"
                )
            if holder is None:
                if entry.get("keys") and not another_key:
                    raise Conflict(
                        f"{owner} has another key already; check that this one is really theirs",
                        f"add it: coord trust add LINE --as {owner} --another-key",
                    )
                entry.setdefault("keys", []).append({"key": key.line})
            _set_validity(_key_entry(entry, key.fingerprint), valid_from, valid_until)
            for role in roles:
                _grant(entry, role, repos)
            return owner

        return self._edit(change)

    def grant(
        self, name: str, role: Role, repos: Sequence[str] = (), *, sandbox: bool | None = None
    ) -> Principal:
        """Give a role, for these repositories or for all. `sandbox`: whether todos that are ordered by this
        role must run in a sandbox; None: as before. Raises NotFound; Conflict if a role for all repositories
        would have to change for some of them.
        """

        def change(trust: TrustFile, principals: Any) -> str:
            entry = _known(trust, principals, name)
            if sandbox is None:
                _grant(entry, role, repos)
            else:
                _confine(entry, name, role, repos, sandbox=sandbox)
            return name

        return self._edit(change)

    def ungrant(self, name: str, role: Role, repos: Sequence[str] = ()) -> Principal:
        """Take a role away, for these repositories or for all. Raises NotFound; Conflict if a role for all
        repositories would have to be taken away for some of them.
        """

        def change(trust: TrustFile, principals: Any) -> str:
            _ungrant(_known(trust, principals, name), name, role, repos)
            return name

        return self._edit(change)

    def revoke(self, name: str, now: datetime) -> Principal:
        """Revoke a key by its fingerprint, or all keys of a principal by its name. Raises NotFound; Conflict
        if there is no key to revoke.
        """

        def change(trust: TrustFile, principals: Any) -> str:
            holder = trust.holder(name)
            owner = holder.name if holder else name
            entry = _known(trust, principals, owner)
            keys = [
                key
                for key in entry.get("keys", ())
                if "revoked" not in key and (holder is None or _fingerprint(key) == name)
            ]
            if not keys:
                raise Conflict(f"{name} has no key that is not revoked", "coord trust list")
            for key in keys:
                key["revoked"] = now.strftime(TIME)
            return owner

        return self._edit(change)

    def _edit(self, change: Callable[[TrustFile, Any], str]) -> Principal:
        """Apply `change` under the lock of the file; return the principal whose name it returns."""
        check_place(self.path, self._repos)
        try:
            make_private(self.path.parent)
            handle = open_lock(self.path.with_name(f".{self.path.name}.lock"))
        except OSError as error:
            raise self._unwritable(error) from error
        try:
            if not lock(handle, LOCK_S):
                raise Conflict(f"another process edits {self.path}", "try again when it has finished")
            return self._edit_locked(change)
        finally:
            os.close(handle)

    def _edit_locked(self, change: Callable[[TrustFile, Any], str]) -> Principal:
        from ruamel.yaml import YAML

        exists = self.path.exists() or self.path.is_symlink()
        before = read_bytes(self.path, self._repos) if exists else HEAD
        trust = parse_trust(before, self.path)
        editor = YAML()
        editor.preserve_quotes = True
        editor.width = 10_000
        editor.indent(mapping=2, sequence=4, offset=2)
        document = editor.load(before)
        if document is None:
            document = editor.load(HEAD)
        if document.get("principals") is None:
            document["principals"] = []
        principals = document["principals"]
        with suppress(AttributeError):  # `[]` of an empty file would be continued in one line
            principals.fa.set_block_style()
        name = change(trust, principals)
        written = io.BytesIO()
        editor.dump(document, written)
        after = parse_trust(written.getvalue(), self.path)
        try:
            replace_file(self.path, written.getvalue(), durable=True)
            with suppress(OSError):  # not every file system supports this
                sync_folder(self.path.parent)
        except OSError as error:
            raise self._unwritable(error) from error
        found = after.named(name)
        assert found is not None
        return found

    def _unwritable(self, error: OSError) -> CoordinationError:
        return CoordinationError(
            f"the trust file {self.path} was not changed: {error.strerror}",
            "make its folder writable for you",
        )


def _quoted(text: str) -> Any:
    """Return text that is written in quotes: without them, YAML reads `yes` or `1` as something else."""
    from ruamel.yaml.scalarstring import DoubleQuotedScalarString

    return DoubleQuotedScalarString(text)


def _entry(principals: Any, name: str) -> Any:
    return next((entry for entry in principals if entry["name"] == name), None)


def _known(trust: TrustFile, principals: Any, name: str) -> Any:
    if (entry := _entry(principals, name)) is not None:
        return entry
    known = [principal.name for principal in trust.principals]
    raise NotFound(
        f"the trust file has no principal {name!r}{did_you_mean(name, known)}", "list them: coord trust list"
    )


def _fingerprint(key: Any) -> str:
    return parse_public_key(str(key["key"])).fingerprint


def _key_entry(entry: Any, fingerprint: str) -> Any:
    return next(key for key in entry["keys"] if _fingerprint(key) == fingerprint)


def _set_validity(key: Any, valid_from: datetime | None, valid_until: datetime | None) -> None:
    if "revoked" in key:
        raise Conflict(
            f"the key {_fingerprint(key)} was revoked at {key['revoked']}", "its owner needs a new key"
        )
    for field, moment in (("from", valid_from), ("until", valid_until)):
        if moment is not None:
            key[field] = moment.strftime(TIME)


def _grant(entry: Any, role: Role, repos: Sequence[str]) -> None:
    grants = entry.setdefault("grants", [])
    same = next((grant for grant in grants if Role(grant["role"]) is role), None)
    if same is None:
        grants.append({"role": str(role), "repos": list(repos)} if repos else {"role": str(role)})
    else:
        _widen(same, repos)


def _widen(grant: Any, repos: Sequence[str]) -> None:
    if not repos:
        grant.pop("repos", None)
    elif grant.get("repos") is not None:
        grant["repos"].extend(repo for repo in repos if repo not in grant["repos"])


def _confine(entry: Any, name: str, role: Role, repos: Sequence[str], *, sandbox: bool) -> None:
    """Give the role for these repositories, or for all, by a grant with or without a required sandbox."""
    grants = entry.setdefault("grants", [])
    for other in [grant for grant in grants if Role(grant["role"]) is role]:
        if bool(other.get("sandbox")) != sandbox:
            _take(grants, other, name, role, repos)
    held = [grant for grant in grants if Role(grant["role"]) is role]
    same = next((grant for grant in held if bool(grant.get("sandbox")) == sandbox), None)
    if same is None:
        same = {"role": str(role), **({"sandbox": "bubblewrap"} if sandbox else {})}
        grants.append({**same, "repos": list(repos)} if repos else same)
    else:
        _widen(same, repos)


def _ungrant(entry: Any, name: str, role: Role, repos: Sequence[str]) -> None:
    grants = entry.get("grants", [])
    same = [grant for grant in grants if Role(grant["role"]) is role]
    if not same:
        raise NotFound(f"{name} has no role {role}", "list them: coord trust list")
    for grant in same:
        _take(grants, grant, name, role, repos)


def _take(grants: Any, grant: Any, name: str, role: Role, repos: Sequence[str]) -> None:
    """Remove these repositories, or all, from a grant of the role."""
    if repos and grant.get("repos") is None:
        raise Conflict(
            f"{name} has the role {role} for all repositories",
            f"take it away: coord trust ungrant {name} {role}; then grant it for the others, with --repo",
        )
    remaining = [repo for repo in grant.get("repos") or () if repo not in repos] if repos else []
    if remaining:
        grant["repos"] = remaining
    else:
        grants.remove(grant)


Advice = tuple[str, str]
"""A fact, and the next command."""


@dataclass(frozen=True, kw_only=True)
class Review:
    """The identity and the trust file of one machine and user."""

    identity: str = ""
    """Fingerprint of this user's key; empty if the user has no usable identity."""
    source: str = ""
    """Location of the key: a path, or the agent."""
    name: str = ""
    """Name of this user in the trust file."""
    trust_file: str = ""
    """Path of the trust file; empty if there is none."""
    principals: int = 0
    errors: tuple[Advice, ...] = ()
    """Causes for which the trust file or the identity cannot be used."""
    warnings: tuple[Advice, ...] = ()


def review(path: Path, changed_folders: list[Path], now: datetime) -> Review:
    """Review the trust file at this path, if there is one, and the identity of this user."""
    errors: list[Advice] = []
    fingerprint, source = "", ""
    try:
        if (found := find_identity()) is not None:
            source = found.source
            fingerprint = found.signer().fingerprint
    except CoordinationError as error:
        errors.append((error.message, error.hint))
    if not (path.exists() or path.is_symlink()):
        return Review(identity=fingerprint, source=source, errors=tuple(errors))
    try:
        trust = read_trust(path, changed_folders)
    except CoordinationError as error:
        errors.append((error.message, error.hint))
        return Review(identity=fingerprint, source=source, trust_file=str(path), errors=tuple(errors))
    holder = trust.holder(fingerprint)
    return Review(
        identity=fingerprint,
        source=source,
        name=holder.name if holder else "",
        trust_file=str(path),
        principals=len(trust.principals),
        errors=tuple(errors),
        warnings=(*warnings_of(trust, now), *own_warnings(fingerprint, trust)),
    )


def key_state(key: TrustedKey, now: datetime) -> str:
    """Return valid, revoked, expired, or not yet valid."""
    if key.revoked is not None:
        return "revoked"
    if key.valid_until is not None and key.valid_until <= now:
        return "expired"
    return "not yet valid" if key.valid_from is not None and key.valid_from > now else "valid"


def warnings_of(trust: TrustFile, now: datetime) -> Iterator[Advice]:
    """Yield probable mistakes in a valid trust file."""
    yield from expiring_keys(trust, now)
    for principal in trust.principals:
        if not any(key_state(key, now) == "valid" for key in principal.keys):
            yield f"{principal.name} has no valid key", "coord trust add LINE --another-key"
        if not principal.grants and principal.kind is not Kind.WORKER:
            yield f"{principal.name} has no role", f"coord trust grant {principal.name} ROLE"


def expiring_keys(trust: TrustFile, now: datetime) -> Iterator[Advice]:
    """Yield the valid keys that expire soon."""
    for principal in trust.principals:
        for key in principal.keys:
            ends = key.valid_until
            if ends is not None and key_state(key, now) == "valid" and ends - now < EXPIRY_WARNING:
                whose = f"the key {key.public.fingerprint} of {principal.name}"
                yield f"{whose} expires at {ends:%Y-%m-%d %H:%M} UTC", "coord trust add LINE --until DATE"


def own_warnings(fingerprint: str, trust: TrustFile) -> Iterator[Advice]:
    """Yield the cause for which the trust file gives this user no rights. `fingerprint` is empty without an
    identity.
    """
    if not fingerprint:
        yield "this user has no identity, so everything is refused", "coord identity init"
    elif trust.holder(fingerprint) is None:
        yield (
            f"the key {fingerprint} of this user is not in the trust file, so everything is refused",
            'coord trust add "$(coord identity show)" --role ROLE',
        )
