"""Listening sockets of coord's servers (gateway, dashboard, MCP over HTTP, metrics) and their TLS.

A certificate that was renewed on disk is used from the next connection on: each handshake compares the files'
stamps. A renewal that cannot be used (half written, a key that does not fit) is logged, and the former
certificate stays in use.
"""

from __future__ import annotations

import ipaddress
import logging
import socket
import ssl
import stat
import threading
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

from coordination.durations import EXPIRY_WARNING
from coordination.environment import inherited_socket
from coordination.errors import CoordinationError, NotAllowed, UsageError
from coordination.settings import Settings
from coordination.text import quoted

logger = logging.getLogger(__name__)

VANISHED_S = 60
"""Time without acknowledgement after which a peer counts as gone: switched off, or behind a firewall that
dropped the connection.
"""


@dataclass(frozen=True, kw_only=True)
class Address:
    host: str
    port: int

    def __str__(self) -> str:
        """Return the address as in a URL."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def open_to_others(self) -> bool:
        """Return whether other machines can connect; traffic to them is not encrypted."""
        try:
            return not ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host != "localhost"


def is_name_of_loopback(header: str) -> bool:
    """Return whether a `Host` header names this machine's loopback address."""
    try:
        host = urlsplit(f"//{header}").hostname or ""
    except ValueError:
        return False
    return not Address(host=host, port=0).open_to_others


def listen(at: Address) -> socket.socket:
    """Return a listening socket: the inherited one, or a new one. Raises CoordinationError."""
    if (inherited := inherited_socket()) is not None:
        return inherited
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(at.host, at.port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, kind, protocol)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        _set_keepalive(listening)
        listening.bind(address)
        listening.listen()  # clients that connect before the server is up wait
    except OSError as error:
        raise CoordinationError(
            f"cannot listen at {at.host}:{at.port}: {error.strerror or error}",
            "name another address or port",
        ) from error
    return listening


def _set_keepalive(listening: socket.socket) -> None:
    """Set keep-alive options, which accepted connections inherit."""
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    seconds = {"TCP_KEEPIDLE": VANISHED_S, "TCP_KEEPINTVL": VANISHED_S // 4}
    for name, value in {**seconds, "TCP_USER_TIMEOUT": 2 * VANISHED_S * 1000}.items():
        if hasattr(socket, name):  # not every system has all of them
            listening.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


class CertificateUnusable(CoordinationError):
    """The certificate or the key of this server cannot be used."""


@dataclass(frozen=True, kw_only=True)
class CertificateFiles:
    certificate: Path
    """File with the certificate, then those of the authorities between it and the root."""
    key: Path

    @classmethod
    def of(cls, settings: Settings) -> CertificateFiles | None:
        """Return the files that the settings name; None if they name none. Raises UsageError."""
        if settings.tls_certificate is None:
            if settings.tls_key is not None:
                raise UsageError(
                    "tls_key is set, and tls_certificate is not",
                    "name the certificate too, or remove tls_key",
                )
            return None
        certificate = Path(settings.tls_certificate)
        return cls(certificate=certificate, key=Path(settings.tls_key or certificate))

    def load(self, now: datetime) -> ssl.SSLContext:
        """Return a context with this certificate. Raises CertificateUnusable."""
        self._check_files()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            context.load_cert_chain(self.certificate, self.key, password=_no_password)
        except (ssl.SSLError, ValueError) as error:
            raise CertificateUnusable(*self._refusal(error)) from error
        begins, ends = self.validity()
        if now >= ends:
            raise CertificateUnusable(
                f"the certificate {self.certificate} expired at {_day(ends)}", "renew it, then start again"
            )
        if now < begins:
            raise CertificateUnusable(
                f"the certificate {self.certificate} begins at {_day(begins)}; here it is {_day(now)}",
                "set the clock of this machine by NTP, or use another certificate",
            )
        return context

    def validity(self) -> tuple[datetime, datetime]:
        """Return when the certificate begins and ends. Raises CertificateUnusable."""
        from cryptography.x509 import load_pem_x509_certificate  # 20 ms, which only servers pay

        try:
            certificate = load_pem_x509_certificate(self.certificate.read_bytes())
        except (OSError, ValueError) as error:
            raise CertificateUnusable(
                f"{self.certificate} holds no certificate: {error}", "name a PEM file as tls_certificate"
            ) from error
        return certificate.not_valid_before_utc, certificate.not_valid_after_utc

    @property
    def stamps(self) -> tuple[tuple[int, int, int], ...]:
        """Return a value that changes when a file is replaced or changed. Raises OSError."""
        files = (path.stat() for path in (self.certificate, self.key))
        return tuple((file.st_ino, file.st_mtime_ns, file.st_size) for file in files)

    def _check_files(self) -> None:
        for path, name in ((self.certificate, "tls_certificate"), (self.key, "tls_key")):
            try:
                with path.open("rb"):
                    mode = path.stat().st_mode
            except OSError as error:
                raise CertificateUnusable(
                    f"{path} cannot be read: {error.strerror}",
                    f"correct the setting {name}, or the file's mode",
                ) from error
            if path == self.key and mode & (stat.S_IRWXG | stat.S_IRWXO):
                raise CertificateUnusable(
                    f"other users of this machine may use the key {path}", f"chmod 600 {quoted(path)}"
                )

    def _refusal(self, error: Exception) -> tuple[str, str]:
        reason = getattr(error, "reason", "") or ""
        if reason == "KEY_VALUES_MISMATCH":
            fact = f"the key {self.key} does not belong to the certificate {self.certificate}"
            return fact, "name the key that the certificate was requested with as tls_key"
        if isinstance(error, ValueError):
            return f"the key {self.key} is encrypted", f"decrypt it: openssl pkey -in {self.key} -out KEY"
        fact = f"{self.certificate} and {self.key} hold no certificate with its key: {reason or error}"
        return fact, "name PEM files as tls_certificate and tls_key"


def _no_password() -> bytes:
    """Refuse an encrypted key; without this function OpenSSL asks for its password at the terminal."""
    raise ValueError("the key is encrypted")


def _day(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"


class RenewedContext:
    """The context of a server, with the certificate that is on the disk now."""

    def __init__(self, files: CertificateFiles) -> None:
        """Load the files. Raises CertificateUnusable."""
        self._files = files
        self._guard = threading.Lock()
        self._stamps = files.stamps if files.certificate.exists() and files.key.exists() else ()
        self._current = files.load(datetime.now(UTC))
        self.context = files.load(datetime.now(UTC))
        self.context.sni_callback = self._use_current

    def _use_current(
        self, connection: ssl.SSLObject | ssl.SSLSocket, _name: str | None, _context: ssl.SSLContext
    ) -> None:
        with self._guard:
            self._renew()
            connection.context = self._current

    def _renew(self) -> None:
        try:
            stamps = self._files.stamps
            if stamps == self._stamps:
                return
            self._stamps = stamps
            self._current = self._files.load(datetime.now(UTC))
        except (OSError, CoordinationError) as error:
            logger.warning("the renewed certificate is not used, the former one is: %s", error)
        else:
            logger.info("the certificate %s was renewed", self._files.certificate)


def context_for(at: Address, settings: Settings) -> ssl.SSLContext | None:
    """Return the context of a server at this address; None if it speaks plain HTTP.

    Raises NotAllowed for plain HTTP that leaves the machine, unless the settings say that a proxy encrypts
    it; UsageError, CertificateUnusable.
    """
    files = CertificateFiles.of(settings)
    if files is not None:
        return RenewedContext(files).context
    if at.open_to_others and not settings.tls_proxy:
        raise NotAllowed(
            f"{at} is open to other machines, and without TLS everybody on the way reads tokens and data",
            "name a certificate (COORD_TLS_CERTIFICATE, COORD_TLS_KEY); listen at 127.0.0.1; or say that a "
            "proxy in front of it encrypts: COORD_TLS_PROXY=true",
        )
    return None


@dataclass(frozen=True, kw_only=True)
class CertificateState:
    """The state of the configured certificate, for doctor."""

    path: str
    expires: str = ""
    """UTC, ISO 8601."""
    soon: bool = False
    problem: str = ""
    hint: str = ""


def look_at_certificate(settings: Settings, now: datetime) -> CertificateState | None:
    """Return the state of the certificate; None if none is configured."""
    path = settings.tls_certificate or ""
    try:
        files = CertificateFiles.of(settings)
        if files is None:
            return None
        files.load(now)
        _, ends = files.validity()
    except CoordinationError as error:
        return CertificateState(path=path, problem=error.message, hint=error.hint)
    return CertificateState(path=path, expires=ends.isoformat(), soon=ends - now < EXPIRY_WARNING)
