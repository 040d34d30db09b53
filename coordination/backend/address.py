"""Parses and checks a Redis address, and writes it for redis-py and for Celery.

Each library reads the query in its own way. kombu reads `ssl_check_hostname=0` as true, fails on `db`, and
accepts any certificate for a plain `rediss://`. Celery's backend decodes paths twice. redis-py reads a
database that is not a number as 0. Therefore coord parses the address itself, refuses ambiguous ones, and
writes every value explicitly for Celery.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlencode, urlsplit

from coordination.errors import UsageError

SCHEMES = ("redis", "rediss", "unix")
FILES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
LOGIN = ("username", "password")
TLS = ("ssl_cert_reqs", "ssl_check_hostname", *FILES)
WORDS = {"ssl_cert_reqs": ("required", "optional", "none"), "ssl_check_hostname": ("true", "false")}
PORT = 6379
PORT_HINT = f"write a port from 1 to 65535, or none for {PORT}"
SPECIAL_HINT = "write special characters of a user or password as %XX ('/' is %2F, '@' %40, '#' %23, '%' %25)"
_PORT_NUMBER = re.compile(r":\d+(/|\?|$)")
_PASSWORDS = ((r"^([^:]*://[^:@/?]*:).*@", r"\1***@"), (r"([?&]password=)[^&]*", r"\1***"))


@dataclass(frozen=True, kw_only=True)
class Address:
    scheme: str
    host: str
    port: int
    path: str
    """Path of the socket, for unix://."""
    db: int
    username: str
    password: str
    tls: Mapping[str, str]
    """TLS options of `rediss://`, with defaults filled in, files only if named; empty for other schemes."""


def is_open_to_readers(url: str) -> bool:
    """Return whether the traffic to this Redis crosses a network in plain text."""
    address = parse(url)
    host = address.host.strip("[]")
    return address.scheme == "redis" and host not in ("localhost", "::1") and not host.startswith("127.")


def is_own_socket(url: str) -> bool:
    """Return whether only this user's processes reach this Redis: by a unix socket that belongs to them."""
    address = parse(url)
    if address.scheme != "unix":
        return False
    try:
        return Path(address.path).stat().st_uid == os.geteuid()
    except OSError:  # it is not there yet, as at the start of the embedded server
        return True


def parse(url: str) -> Address:
    """Return the parsed address. Raises UsageError for one that a library would misread."""
    parts, query = _split(url)
    unix = parts.scheme == "unix"
    if unix and (parts.hostname or not parts.path):
        raise _invalid(url, "write a socket with three slashes and its absolute path: unix:///run/redis.sock")
    allowed = ("db", *LOGIN, *(TLS if parts.scheme == "rediss" else ()))
    for name in query:
        if name not in allowed:
            raise _unknown_parameter(url, name, allowed)
    return Address(
        scheme=parts.scheme,
        host=parts.hostname or "localhost",
        port=parts.port or PORT,
        path=unquote(parts.path) if unix else "",
        db=_db(url, query.get("db") or ("" if unix else unquote(parts.path).strip("/"))),
        username=unquote(parts.username or "") or query.get("username", ""),
        password=unquote(parts.password or "") or query.get("password", ""),
        tls=_tls(url, query) if parts.scheme == "rediss" else {},
    )


def client_url(url: str) -> str:
    """Return the address for redis-py."""
    at = parse(url)
    where = quote(at.path) if at.scheme == "unix" else f"{_host(at)}:{at.port}"
    query = urlencode({"db": at.db, **at.tls})
    return f"{at.scheme}://{_login(at)}{where}?{query}"


def celery_url(url: str) -> str:
    """Return the address for Celery, its result backend, and Flower."""
    at = parse(url)
    if at.scheme == "unix":
        return f"redis+socket://{_login(at)}{quote(at.path)}?virtual_host={at.db}"
    query = f"?{urlencode(at.tls)}" if at.tls else ""
    return f"{at.scheme}://{_login(at)}{_host(at)}:{at.port}/{at.db}{query}"


def hide_password(url: str) -> str:
    """Return the address with its password replaced by `***`, even if the address is invalid."""
    for pattern, shown in _PASSWORDS:
        url = re.sub(pattern, shown, url)
    return url


def _split(url: str) -> tuple[SplitResult, dict[str, str]]:
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as error:
        raise _invalid(url, PORT_HINT if _PORT_NUMBER.search(url) else SPECIAL_HINT) from error
    if parts.port == 0:
        raise _invalid(url, PORT_HINT)
    if parts.scheme not in SCHEMES:
        raise _invalid(url, "use redis://, rediss:// or unix://")
    if parts.fragment:
        raise _invalid(url, "write '#' in a password as %23")
    return parts, dict(parse_qsl(parts.query, keep_blank_values=True))


def _invalid(url: str, hint: str) -> UsageError:
    return UsageError(f"{hide_password(url)} is no Redis address", hint)


def _unknown_parameter(url: str, name: str, allowed: tuple[str, ...]) -> UsageError:
    hint = (
        f"{name} requires TLS: write rediss:// (two s)"
        if name in TLS
        else f"allowed here: {', '.join(allowed)}"
    )
    return UsageError(f"{hide_password(url)}: unknown parameter {name!r} of a Redis address", hint)


def _db(url: str, text: str) -> int:
    if text and not re.fullmatch(r"\d{1,9}", text):
        raise UsageError(f"{hide_password(url)}: {text!r} is no database", "write a number: 0, 1, …")
    return int(text or 0)


def _tls(url: str, query: Mapping[str, str]) -> dict[str, str]:
    wanted = {name: query.get(name, words[0]).lower() for name, words in WORDS.items()}
    for name, words in WORDS.items():
        if wanted[name] not in words:
            raise UsageError(
                f"{hide_password(url)}: {name} is {query[name]!r}",
                f"write one of: {', '.join(words)} (default: {words[0]})",
            )
    return wanted | {name: _file(url, name, query[name]) for name in FILES if name in query}


def _file(url: str, name: str, path: str) -> str:
    if "%" in path:
        raise UsageError(
            f"{hide_password(url)}: {name}: the path contains '%', which Celery misreads",
            "move or rename the file",
        )
    if not Path(path).is_file() or not os.access(path, os.R_OK):
        raise UsageError(
            f"{hide_password(url)}: {name}: there is no readable file {path}", "name a file in PEM format"
        )
    return str(Path(path).absolute())


def _login(at: Address) -> str:
    password = f":{quote(at.password, safe='')}" if at.password else ""
    return f"{quote(at.username, safe='')}{password}@" if at.username or password else ""


def _host(at: Address) -> str:
    return f"[{at.host}]" if ":" in at.host else at.host
