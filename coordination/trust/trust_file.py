"""The trust file: principals with their keys and grants, on the disk of each machine that verifies.

The environment names it, else it is in its default place; ecosystem.yaml cannot name it. A file that other
users may change, or that lies in a repository that coord changes, is refused.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, date, datetime
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn, Self

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from coordination.environment import ENV_PREFIX, config_folder_from_environment
from coordination.errors import MissingRight, NotTrusted, TrustCause, Unsafe, UsageError
from coordination.files import expanded, real_path
from coordination.models.values import Record, RepoName, Word
from coordination.text import listed, wrong_value
from coordination.trust.public_keys import PublicKey, parse_public_key
from coordination.trust.rights import EMERGENCY, RIGHTS, Right, Role, weakest_role

FILE_NAME = "trust.yaml"
MAX_BYTES = 1024 * 1024
OTHERS_WRITE = 0o022


def _moment(value: object) -> object:
    """Read `2026-01-31` as its midnight and a time without zone as UTC."""
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError as error:
            raise ValueError("is written like 2026-01-31 or 2026-01-31T09:00:00Z") from error
    if isinstance(value, date) and not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day)
    if isinstance(value, datetime):
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    raise ValueError("is written like 2026-01-31 or 2026-01-31T09:00:00Z")


def _line(value: str) -> str:
    try:
        return parse_public_key(value).line
    except UsageError as error:
        raise ValueError(error.message) from error


def _printable(value: str) -> str:
    if not value.isprintable() or value != value.strip():
        raise ValueError("may have no control characters, and no spaces around it")
    return value


Moment = Annotated[datetime, BeforeValidator(_moment)]
Name = Annotated[str, Field(min_length=1, max_length=100), AfterValidator(_printable)]


class Kind(Word):
    """Kind of a principal."""

    PERSON = "person"
    AGENT = "agent"
    WORKER = "worker"
    SERVICE = "service"


class TrustedKey(Record):
    model_config = ConfigDict(populate_by_name=True)

    key: Annotated[str, AfterValidator(_line)]
    """Line of the public key."""
    valid_from: Annotated[Moment | None, Field(alias="from")] = None
    valid_until: Annotated[Moment | None, Field(alias="until")] = None
    revoked: Moment | None = None
    """Time of the revocation; all signatures of the key are refused, because a thief could date them back."""

    @cached_property
    def public(self) -> PublicKey:
        return parse_public_key(self.key)

    def check(self, owner: str, now: datetime) -> None:
        """Raise NotTrusted if the key is not valid now."""
        whose = f"the key {self.public.fingerprint} of {owner}"
        if self.revoked is not None:
            raise NotTrusted(
                TrustCause.REVOKED,
                f"{whose} was revoked at {_shown(self.revoked)}",
                "sign with another key: coord identity show",
            )
        if self.valid_from is not None and now < self.valid_from:
            raise NotTrusted(
                TrustCause.CLOCK,
                f"{whose} is valid from {_shown(self.valid_from)}, which is {self.valid_from - now} ahead of "
                "the clock of this machine",
                "compare: date -u; or correct `from` in the trust file",
            )
        if self.valid_until is not None and now >= self.valid_until:
            raise NotTrusted(
                TrustCause.EXPIRED_KEY,
                f"{whose} expired at {_shown(self.valid_until)}",
                "an administrator of this machine renews it: coord trust add LINE --until DATE",
            )


def _shown(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"


class Grant(Record):
    role: Role
    repos: tuple[RepoName, ...] | None = None
    """Repositories for which the role holds; None: all of them."""
    sandbox: Literal["bubblewrap"] | None = None
    """`bubblewrap`: todos that are ordered by this role run in a sandbox, whatever they say themselves."""

    def rights(self, *, emergency: bool = False) -> frozenset[Right]:
        """Return the rights of the role; `emergency`: its holder has declared an emergency."""
        return EMERGENCY if emergency and self.role is Role.BREAK_GLASS else RIGHTS[self.role]

    def gives(self, right: Right, repo: str | None, *, emergency: bool = False) -> bool:
        """Return whether the grant gives a right for a repository, or for the ecosystem as a whole (None).

        Reading is not limited by repository, because the file and the records of a run contain all of them.
        """
        everywhere = self.repos is None or right is Right.READ
        return right in self.rights(emergency=emergency) and (everywhere or repo in (self.repos or ()))


class Principal(Record):
    name: Name
    kind: Kind = Kind.PERSON
    keys: tuple[TrustedKey, ...] = ()
    grants: tuple[Grant, ...] = ()

    def missing(
        self, right: Right, repos: Collection[str] | None, *, emergency: bool = False
    ) -> list[str | None]:
        """Return the repositories for which the principal lacks a right; [None]: for all of them.

        `repos` are those that the operation touches; None: it touches the ecosystem as a whole.
        """
        subjects: Iterable[str | None] = sorted(repos) if repos else (None,)
        return [
            repo
            for repo in subjects
            if not any(grant.gives(right, repo, emergency=emergency) for grant in self.grants)
        ]

    def confined(self, right: Right, repo: str) -> bool:
        """Return whether all grants that give a right for a repository demand a sandbox."""
        giving = [grant for grant in self.grants if grant.gives(right, repo)]
        return bool(giving) and all(grant.sandbox is not None for grant in giving)

    @model_validator(mode="after")
    def _check_break_glass(self) -> Self:
        if self.kind is not Kind.PERSON and any(grant.role is Role.BREAK_GLASS for grant in self.grants):
            raise ValueError(f"{self.name!r} is no person: the role {Role.BREAK_GLASS} is for people")
        return self


class TrustFile(Record):
    principals: tuple[Principal, ...] = ()

    @model_validator(mode="after")
    def _check_names_and_keys(self) -> Self:
        owners: dict[str, str] = {}
        names: set[str] = set()
        for principal in self.principals:
            if principal.name in names:
                raise ValueError(f"{principal.name!r} is declared twice; a principal may have several keys")
            names.add(principal.name)
            for key in principal.keys:
                if (other := owners.get(key.public.fingerprint)) is not None:
                    raise ValueError(
                        f"the key {key.public.fingerprint} is listed for {other!r} and {principal.name!r}"
                    )
                owners[key.public.fingerprint] = principal.name
        return self

    @cached_property
    def _by_fingerprint(self) -> Mapping[str, tuple[Principal, TrustedKey]]:
        return {key.public.fingerprint: (who, key) for who in self.principals for key in who.keys}

    def named(self, name: str) -> Principal | None:
        return next((principal for principal in self.principals if principal.name == name), None)

    def holder(self, fingerprint: str) -> Principal | None:
        """Return the principal that has a key, even an invalid one; for messages, not for decisions."""
        found = self._by_fingerprint.get(fingerprint)
        return found[0] if found else None

    def principal_of(self, key: PublicKey, now: datetime) -> Principal:
        """Return the principal to whom a valid key belongs. Raises NotTrusted."""
        found = self._by_fingerprint.get(key.fingerprint)
        if found is None:
            raise NotTrusted(
                TrustCause.UNKNOWN_KEY,
                f"the key {key.fingerprint} is not in the trust file of this machine",
                "its owner prints it: coord identity show; an administrator adds it: coord trust add LINE",
            )
        principal, trusted = found
        trusted.check(principal.name, now)
        return principal

    def check(
        self,
        principal: Principal,
        right: Right,
        repos: Collection[str] | None,
        *,
        emergency: bool = False,
    ) -> None:
        """Raise MissingRight if the principal may not do this in all of these repositories.

        `repos` None: the operation touches the ecosystem as a whole, which needs a grant for all of them.
        `emergency`: the caller has verified the principal's emergency access.
        """
        missing = principal.missing(right, repos, emergency=emergency)
        if not missing:
            return
        named = [repo for repo in missing if repo is not None]
        where = f" for {listed(named)}" if named else ""
        options = "".join(f" --repo {repo}" for repo in named)
        raise MissingRight(
            f"{principal.name} ({principal.kind}) lacks the right {right}{where}",
            f"an administrator grants it: coord trust grant {principal.name} {weakest_role(right)}{options}",
        )


def trust_path(environ: Mapping[str, str] | None = None) -> Path:
    """Return the path of the trust file: COORD_TRUST_FILE, else trust.yaml in the user's folder of coord.

    Raises UsageError if the environment names no home.
    """
    environ = os.environ if environ is None else environ
    if named := environ.get(ENV_PREFIX + "TRUST_FILE"):
        return expanded(named).absolute()
    if (folder := config_folder_from_environment(environ)) is None:
        raise UsageError("there is no place for the trust file: HOME is not set", "set COORD_TRUST_FILE")
    return folder / FILE_NAME


def read_trust(path: Path, repos: Collection[Path] = ()) -> TrustFile:
    """Read the trust file. `repos` are folders that coord changes, such as the checkouts of the ecosystem.

    Raises Unsafe if the file cannot be trusted itself, UsageError if it is missing or broken.
    """
    return parse_trust(read_bytes(path, repos), path)


def read_bytes(path: Path, repos: Collection[Path] = ()) -> bytes:
    """Return the content of the trust file after the checks of its place and mode. Raises as `read_trust`."""
    check_place(path, repos)
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise UsageError(
            f"there is no trust file {path}",
            'make it: coord trust add "$(coord identity show)" --role admin',
        ) from error
    except OSError as error:
        if path.is_symlink():
            _refuse(path, "it is a symbolic link", "name the file itself in COORD_TRUST_FILE")
        _refuse(path, f"it cannot be read: {error.strerror}", "check its owner and mode")
    try:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            _refuse(path, "it is not a regular file", "name a file in COORD_TRUST_FILE")
        _check_owner(path, status, path)
        with os.fdopen(handle, "rb", closefd=False) as file:
            content = file.read(MAX_BYTES + 1)
    finally:
        os.close(handle)
    if len(content) > MAX_BYTES:
        _refuse(path, f"it has more than {MAX_BYTES} bytes", "remove principals that are gone")
    return content


def check_place(path: Path, repos: Collection[Path] = ()) -> None:
    """Check that no other user can replace the file, and that it is in no folder that coord changes. Raises
    Unsafe.
    """
    folder = path.parent.resolve()
    for repo in repos:
        if folder.is_relative_to(real_path(repo)):
            _refuse(
                path,
                f"it lies in {repo}, which todos can change",
                "keep it outside of every repository: COORD_TRUST_FILE",
            )
    for above in (folder, *folder.parents):
        try:
            status = above.stat()
        except FileNotFoundError:
            continue
        except OSError as error:
            _refuse(path, f"{above} cannot be read: {error.strerror}", "check its owner and mode")
        _check_owner(path, status, above)


def _check_owner(path: Path, status: os.stat_result, of: Path) -> None:
    if status.st_uid not in (0, os.geteuid()):
        _refuse(path, f"{of} belongs to another user (uid {status.st_uid})", f"chown it to {os.geteuid()}")
    sticky = stat.S_ISDIR(status.st_mode) and status.st_mode & stat.S_ISVTX
    if status.st_mode & OTHERS_WRITE and not sticky:
        mode = stat.S_IMODE(status.st_mode)
        _refuse(path, f"other users may write to {of} (mode {mode:04o})", f"chmod go-w {of}")


def _refuse(path: Path, why: str, hint: str) -> NoReturn:
    raise Unsafe(f"the trust file {path} is refused: {why}", hint)


def parse_trust(content: bytes, path: Path) -> TrustFile:
    """Parse the content of a trust file. Raises UsageError, which names the field with the problem."""
    import yaml

    loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        found = yaml.load(content, loader)  # noqa: S506 (it is a safe loader)
        return TrustFile.model_validate({} if found is None else found)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        why = _problem(error) if isinstance(error, ValidationError) else str(error).replace("\n", " ")
        raise UsageError(
            f"the trust file {path} is broken: {why[:400]}", "correct it; then: coord trust verify"
        ) from error


def _problem(error: ValidationError) -> str:
    details = error.errors(include_url=False)
    first = details[0]
    place = ".".join(map(str, first["loc"]))
    words = wrong_value([detail for detail in details if detail["loc"] == first["loc"]])
    return f"{place} {words}" if place else str(first["msg"]).removeprefix("Value error, ")
