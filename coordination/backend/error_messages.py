"""What an error of redis-py means to a person: one sentence with the address, and what to do.

Unreachable may pass by itself. Unusable does not: somebody has to correct the address or the server.
"""

from __future__ import annotations

import re
import ssl

import redis

from coordination.backend.address import Address, hide_password, parse
from coordination.errors import CoordinationError, Unreachable, Unreadable, Unusable

NO_ROOM = "make room where it keeps its data; the embedded server keeps it in .coord beside the file"
FOREIGN = (
    "somebody else writes in this namespace, or Redis lost data: coord doctor sets such keys apart, and names them"
)
REFUSALS = ("MISCONF", "OOM ", "READONLY ", "NOREPLICAS ", "BUSY Redis")
REFUSED = (redis.OutOfMemoryError, redis.ReadOnlyError, redis.exceptions.MasterDownError)
"""Of some answers redis-py makes a class, and takes away their first word."""
FORBIDDEN = ("NOPERM", "ACL failure", "can't access this command", "user executing the script can't")
ANOTHER = "start it, or name another with --redis or COORD_REDIS_URL; without any, coord uses its embedded server"
HUNG_UP = ("Connection closed by server", "Connection reset", "Broken pipe", "EOF occurred")
OURS = "&ssl_certfile=FILE&ssl_keyfile=FILE"
NO_TLS = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG")
NO_KEY = ("KEY_VALUES_MISMATCH", "PEM", "NO_START_LINE")
UNKNOWN = re.compile(r"unknown (?:redis )?command(?: [`'\"]?(\w+)[`'\"]?,|\b)", re.IGNORECASE)
RESTORE = "take `rename-command` for it out of the server's configuration, or name another server"
EXPIRED, NOT_YET_VALID, OTHER_NAME, OTHER_ADDRESS = 10, 9, 62, 64
"""OpenSSL's numbers of what is wrong with a certificate."""


def explain(error: redis.RedisError, url: str) -> Unreachable | None:
    """The error in our words; None where it is a fault of ours, which nobody else can mend."""
    at, where = parse(url), f"Redis at {hide_password(url)}"
    return _login(error, at, where) or _tls(error, at, where) or _answer(error, at, where) or _silence(error, at, where)


def misses(command: str) -> str:
    """Of a server that has it under another name, or not at all."""
    return f"does not know {command.upper()}: it is renamed or disabled there"


def damaged(error: redis.RedisError, url: str) -> CoordinationError | None:
    """The error in our words where a step came upon what is no record of coord's."""
    if isinstance(error, redis.ResponseError) and ("WRONGTYPE" in str(error) or "user_function" in str(error)):
        return Unreadable(f"Redis at {hide_password(url)} holds what is no record of coord: {error}", FOREIGN)
    return None


def cannot_write(error: redis.RedisError) -> bool:
    """Redis answers, but takes nothing in: its disk or its memory is full, or it is a replica now. That may pass."""
    named = isinstance(error, redis.ResponseError) and any(word in str(error) for word in REFUSALS)
    return named or isinstance(error, REFUSED)


def _login(error: redis.RedisError, at: Address, where: str) -> Unreachable | None:
    user = at.username or "default"
    if isinstance(error, redis.exceptions.NoPermissionError) or any(word in str(error) for word in FORBIDDEN):
        older = "; ACL lines of coord before Redis Functions do not allow FCALL" if "fcall" in str(error) else ""
        return Unusable(
            f"{where} does not allow user {user} to do that: {error}{older}",
            "write the user's line of the ACL file anew: coord acl --role ROLE",
        )
    if not isinstance(error, redis.AuthenticationError):
        return None
    if not at.password:
        return Unusable(
            f"{where} asks for a password, and the address has none",
            f"write it into COORD_REDIS_URL: {at.scheme}://USER:PASSWORD@…, without USER for the default one",
        )
    return Unusable(
        f"{where} refuses the login of user {user}: {error}",
        "check user and password in the address; special characters are written as %XX ('/' is %2F, '@' %40, '%' %25)",
    )


def _tls(error: redis.RedisError, at: Address, where: str) -> Unreachable | None:
    cause = error.__cause__ or error.__context__
    if isinstance(cause, ssl.SSLCertVerificationError):
        return _certificate(cause, at, where)
    if "CERTIFICATE_REQUIRED" in str(error) or "certificate required" in str(error):
        return Unusable(f"{where} wants a certificate of ours", f"add to the address: {OURS}")
    if at.tls and any(word in str(error) for word in HUNG_UP):
        # A server that misses our certificate says so, and hangs up; which of the two arrives is chance.
        hint = f"if it wants a certificate of ours, add {OURS}; or does it not speak TLS there, or just restart?"
        return (Unusable if isinstance(cause, ssl.SSLError) else Unreachable)(f"{where} hangs up: {error}", hint)
    if not isinstance(cause, ssl.SSLError):
        return None
    if any(word in str(cause) for word in NO_KEY):
        files = ", ".join(path for name, path in at.tls.items() if path.startswith("/"))
        return Unusable(
            f"the files for {where} cannot be used: {files}: {cause.reason}",
            "name PEM files; key and certificate go together",
        )
    if any(word in str(cause) for word in NO_TLS):
        return Unusable(
            f"{where} does not speak TLS there", "name its TLS port; or, in a network that you trust, use redis://"
        )
    return Unusable(
        f"TLS with {where} fails: {cause.reason or cause}", "compare the server's tls-* settings with the address"
    )


def _certificate(cause: ssl.SSLCertVerificationError, at: Address, where: str) -> Unreachable:
    if cause.verify_code == EXPIRED:
        return Unusable(
            f"the certificate of {where} has expired", "renew it on the server, and look at this machine's clock"
        )
    if cause.verify_code == NOT_YET_VALID:
        return Unusable(f"the certificate of {where} is not valid yet", "look at this machine's clock")
    if cause.verify_code in (OTHER_NAME, OTHER_ADDRESS):
        return Unusable(
            f"the certificate of {where} is for another name than {at.host}",
            "write the host as the certificate has it, or give the server one for this name",
        )
    given = at.tls.get("ssl_ca_certs")
    hint = (
        f"is {given} the CA that signed it?" if given else "name its CA in the address: ?ssl_ca_certs=/path/to/ca.pem"
    )
    return Unusable(f"the certificate of {where} is not trusted: {cause.verify_message}", hint)


def _answer(error: redis.RedisError, at: Address, where: str) -> Unreachable | None:
    """It answered, and said no."""
    if not isinstance(error, redis.ResponseError):
        return None
    if cannot_write(error):
        return Unreachable(f"{where} cannot write: {error}", NO_ROOM)
    if "DB index is out of range" in str(error):
        return Unusable(
            f"{where} has no database {at.db}", "name one below its setting `databases` (16 if it says nothing else)"
        )
    if "unknown command" in str(error) and "HELLO" in str(error).upper():
        return Unusable(f"{where} is older than 7.0", "coord needs Redis 7.0 or later, or Valkey")
    if found := UNKNOWN.search(str(error)):
        return Unusable(f"{where} {misses(found[1] or 'a command that coord needs')}", RESTORE)
    return None


def _silence(error: redis.RedisError, at: Address, where: str) -> Unreachable | None:
    if isinstance(error, redis.BusyLoadingError):
        return Unreachable(f"{where} is still loading its data", "wait until it has, then try again")
    if isinstance(error, redis.InvalidResponse):
        return Unusable(
            f"what answers at {where.removeprefix('Redis at ')} is no Redis: {error}",
            "check host and port; if it speaks TLS there, write rediss:// (two s)",
        )
    if at.scheme == "redis" and any(word in str(error) for word in HUNG_UP):
        return Unreachable(
            f"{where} hangs up: {error}", "is it being restarted? If it speaks TLS there, write rediss:// (two s)"
        )
    if isinstance(error, redis.TimeoutError) and at.scheme == "rediss":
        return Unreachable(
            f"{where} does not answer: {error}", f"does it speak TLS there? If not: redis:// (one s); else {ANOTHER}"
        )
    if isinstance(error, redis.ConnectionError | redis.TimeoutError):
        return Unreachable(f"{where} does not answer: {error}", ANOTHER)
    return None
