"""Converts errors of redis-py to errors of coord: one sentence with the address, and a hint.

Unreachable may pass by itself. Unusable does not: a person has to correct the address or the server.
"""

from __future__ import annotations

import re
import ssl

import redis

from coordination.backend.address import Address, hide_password, parse
from coordination.errors import CoordinationError, Unreachable, Unreadable, Unusable

NO_ROOM = "make room on the disk of its data; the embedded server keeps its data in .coord beside the file"
FOREIGN = (
    "another program writes in this namespace, or Redis lost data: "
    "coord doctor lists such keys and sets them aside"
)
REFUSALS = ("MISCONF", "OOM ", "READONLY ", "NOREPLICAS ", "BUSY Redis")
REFUSED = (redis.OutOfMemoryError, redis.ReadOnlyError, redis.exceptions.MasterDownError)
"""Refusals that redis-py raises as classes of their own, without the first word of the reply."""
FORBIDDEN = ("NOPERM", "ACL failure", "can't access this command", "user executing the script can't")
ANOTHER = (
    "start it, or name another with --redis or COORD_REDIS_URL; with neither, coord uses its embedded server"
)
HUNG_UP = ("Connection closed by server", "Connection reset", "Broken pipe", "EOF occurred")
OURS = "&ssl_certfile=FILE&ssl_keyfile=FILE"
WITHOUT_TLS = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG")
NO_KEY = ("KEY_VALUES_MISMATCH", "PEM", "NO_START_LINE")
UNKNOWN = re.compile(r"unknown (?:redis )?command(?: [`'\"]?(\w+)[`'\"]?,|\b)", re.IGNORECASE)
RESTORE = "remove its `rename-command` from the server's configuration, or name another server"
EXPIRED, NOT_YET_VALID, OTHER_NAME, OTHER_ADDRESS = 10, 9, 62, 64
"""OpenSSL's codes for problems of a certificate."""


def explain(error: redis.RedisError, url: str) -> Unreachable | None:
    """Return the error as one of coord; None if only a fault of coord can cause it."""
    at, where = parse(url), f"Redis at {hide_password(url)}"
    for explain_one in (_login, _tls, _error_reply, _no_reply):
        if found := explain_one(error, at, where):
            return found
    return None


def misses(command: str) -> str:
    """Return the clause about a server on which a command is renamed or disabled."""
    return f"does not know {command.upper()}: the command is renamed or disabled there"


def damaged(error: redis.RedisError, url: str) -> CoordinationError | None:
    """Return the error as Unreadable if a step found data that coord did not write; else None."""
    if isinstance(error, redis.ResponseError) and (
        "WRONGTYPE" in str(error) or "user_function" in str(error)
    ):
        return Unreadable(
            f"Redis at {hide_password(url)} holds data that coord did not write: {error}", FOREIGN
        )
    return None


def cannot_write(error: redis.RedisError) -> bool:
    """Return whether Redis refuses writes: full disk or memory, or now a replica. That may pass."""
    refusal = isinstance(error, redis.ResponseError) and any(word in str(error) for word in REFUSALS)
    return refusal or isinstance(error, REFUSED)


def _login(error: redis.RedisError, at: Address, where: str) -> Unreachable | None:
    user = at.username or "default"
    if isinstance(error, redis.exceptions.NoPermissionError) or any(word in str(error) for word in FORBIDDEN):
        older = (
            "; ACL lines of coord before Redis Functions do not allow FCALL" if "fcall" in str(error) else ""
        )
        return Unusable(
            f"{where} does not allow user {user} to do this: {error}{older}",
            "replace the user's line in the ACL file by the output of: coord acl --role ROLE",
        )
    if not isinstance(error, redis.AuthenticationError):
        return None
    if not at.password:
        return Unusable(
            f"{where} requires a password, and the address has none",
            f"write it into COORD_REDIS_URL: {at.scheme}://USER:PASSWORD@… (the default user needs no USER)",
        )
    return Unusable(
        f"{where} refuses the login of user {user}: {error}",
        "check user and password in the address; special characters are written as %XX ('/' is %2F, "
        "'@' %40, '%' %25)",
    )


def _tls(error: redis.RedisError, at: Address, where: str) -> Unreachable | None:
    cause = error.__cause__ or error.__context__
    if isinstance(cause, ssl.SSLCertVerificationError):
        return _certificate(cause, at, where)
    if "CERTIFICATE_REQUIRED" in str(error) or "certificate required" in str(error):
        return Unusable(f"{where} requires a client certificate", f"add to the address: {OURS}")
    if at.tls and any(word in str(error) for word in HUNG_UP):
        # A server that requires a client certificate sends an alert and closes; either may arrive first.
        hint = (
            f"if it requires a client certificate, add {OURS}; or this port has no TLS, "
            "or the server is restarting"
        )
        error_class = Unusable if isinstance(cause, ssl.SSLError) else Unreachable
        return error_class(f"{where} closes the connection: {error}", hint)
    if not isinstance(cause, ssl.SSLError):
        return None
    if any(word in str(cause) for word in NO_KEY):
        files = ", ".join(path for name, path in at.tls.items() if path.startswith("/"))
        return Unusable(
            f"the files for {where} cannot be used: {files}: {cause.reason}",
            "name PEM files; the key must belong to the certificate",
        )
    if any(word in str(cause) for word in WITHOUT_TLS):
        return Unusable(
            f"{where} does not use TLS on this port",
            "name its TLS port; or, in a network that you trust, use redis://",
        )
    return Unusable(
        f"TLS with {where} fails: {cause.reason or cause}",
        "compare the server's tls-* settings with the address",
    )


def _certificate(cause: ssl.SSLCertVerificationError, at: Address, where: str) -> Unreachable:
    if cause.verify_code == EXPIRED:
        return Unusable(
            f"the certificate of {where} has expired",
            "renew it on the server, and check this machine's clock",
        )
    if cause.verify_code == NOT_YET_VALID:
        return Unusable(f"the certificate of {where} is not valid yet", "check this machine's clock")
    if cause.verify_code in (OTHER_NAME, OTHER_ADDRESS):
        return Unusable(
            f"the certificate of {where} is for another name than {at.host}",
            "write the host name of the certificate, or install a certificate for this host on the server",
        )
    given = at.tls.get("ssl_ca_certs")
    hint = (
        f"check that {given} is the CA that signed it"
        if given
        else "name its CA in the address: ?ssl_ca_certs=/path/to/ca.pem"
    )
    return Unusable(f"the certificate of {where} is not trusted: {cause.verify_message}", hint)


def _error_reply(error: redis.RedisError, at: Address, where: str) -> Unreachable | None:
    """Explain an error reply of the server."""
    if not isinstance(error, redis.ResponseError):
        return None
    if cannot_write(error):
        return Unreachable(f"{where} cannot write: {error}", NO_ROOM)
    if "DB index is out of range" in str(error):
        return Unusable(
            f"{where} has no database {at.db}", "name one below its setting `databases` (default: 16)"
        )
    if "unknown command" in str(error) and "HELLO" in str(error).upper():
        return Unusable(f"{where} is older than 7.0", "coord needs Redis 7.0 or later, or Valkey")
    if found := UNKNOWN.search(str(error)):
        return Unusable(f"{where} {misses(found[1] or 'a command that coord needs')}", RESTORE)
    return None


def _no_reply(error: redis.RedisError, at: Address, where: str) -> Unreachable | None:
    if isinstance(error, redis.BusyLoadingError):
        return Unreachable(f"{where} is still loading its data", "try again in a moment")
    if isinstance(error, redis.InvalidResponse):
        return Unusable(
            f"the server at {where.removeprefix('Redis at ')} is no Redis: {error}",
            "check host and port; if the port uses TLS, write rediss:// (two s)",
        )
    if at.scheme == "redis" and any(word in str(error) for word in HUNG_UP):
        return Unreachable(
            f"{where} closes the connection: {error}",
            "try again if it is restarting; if the port uses TLS, write rediss:// (two s)",
        )
    if isinstance(error, redis.TimeoutError) and at.scheme == "rediss":
        return Unreachable(
            f"{where} does not answer: {error}",
            f"if the port has no TLS, write redis:// (one s); else {ANOTHER}",
        )
    if isinstance(error, redis.ConnectionError | redis.TimeoutError):
        return Unreachable(f"{where} does not answer: {error}", ANOTHER)
    return None
