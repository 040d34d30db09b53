"""TLS of the metrics' server, the gateway and MCP over HTTP, with a certificate authority of our own."""

from __future__ import annotations

import json
import os
import signal
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from http.client import HTTPSConnection
from pathlib import Path

import httpx2
import pytest

from coordination.client import Client
from coordination.errors import CoordinationError, NotAllowed, Unusable, UsageError
from coordination.operations.listening import Address, CertificateUnusable, context_for
from coordination.operations.metrics import serve
from coordination.settings import Settings
from tests.endpoints import Certificates
from tests.gateways import Gateway
from tests.ports import free_port
from tests.testbed import Testbed

HERE = Address(host="127.0.0.1", port=1)


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    return Certificates(tmp_path)


def settings_of(certificate: Path, **more: object) -> Settings:
    certificate.chmod(0o600)
    return Settings(tls_certificate=str(certificate), **more)  # type: ignore[arg-type]


@contextmanager
def metrics(settings: Settings, redis_url: str) -> Iterator[int]:
    port = free_port()
    server = serve(redis_url, settings, "127.0.0.1", port)
    try:
        yield port
    finally:
        server.shutdown()
        server.server_close()


def serial_of(port: int, ca: Path, **how: object) -> str:
    """The serial number of the certificate that a scrape meets."""
    context = ssl.create_default_context(cafile=str(ca))
    for name, value in how.items():
        setattr(context, name, value)
    connection = HTTPSConnection("127.0.0.1", port, timeout=60, context=context)
    connection.connect()
    serial = connection.sock.getpeercert()["serialNumber"]
    connection.request("GET", "/metrics")
    assert b"coord_up" in connection.getresponse().read()
    connection.close()
    return str(serial)


def test_metrics_are_encrypted_and_a_renewed_certificate_is_used_without_a_restart(
    certificates: Certificates, tmp_path: Path, redis_url: str
):
    file = certificates.issue("127.0.0.1")
    with metrics(settings_of(file), redis_url) as port:
        first = serial_of(port, certificates.ca)

        file.write_text("half of a certificate")
        assert serial_of(port, certificates.ca) == first
        certificates.issue("127.0.0.1").chmod(0o600)
        renewed = serial_of(port, certificates.ca)

        assert renewed != first
        with pytest.raises(ssl.SSLError):
            serial_of(port, certificates.ca, maximum_version=ssl.TLSVersion.TLSv1_1)
        (tmp_path / "other").mkdir()
        with pytest.raises(ssl.SSLCertVerificationError):
            serial_of(port, Certificates(tmp_path / "other").ca)


def test_a_certificate_that_cannot_be_used_is_refused_with_the_reason(
    certificates: Certificates, tmp_path: Path
):
    good, expired = certificates.issue("127.0.0.1"), certificates.issue("127.0.0.1", expired=True)
    other = certificates.issue("localhost")
    good.chmod(0o600)
    loose = tmp_path / "loose.pem"
    loose.write_bytes(good.read_bytes())
    loose.chmod(0o640)
    encrypted = tmp_path / "encrypted.pem"
    command = ["openssl", "pkey", "-in", str(good), "-aes256", "-passout", "pass:x", "-out", str(encrypted)]
    subprocess.run(command, check=True, capture_output=True)
    other.chmod(0o600)

    wrong = {
        "expired": settings_of(expired),
        "does not belong": Settings(tls_certificate=str(good), tls_key=str(other)),
        "other users": Settings(tls_certificate=str(good), tls_key=str(loose)),
        "encrypted": Settings(tls_certificate=str(good), tls_key=str(encrypted)),
        "cannot be read": Settings(tls_certificate=str(tmp_path / "none.pem")),
        "hold no certificate": settings_of(tmp_path / "ca.pem"),
    }

    for words, settings in wrong.items():
        with pytest.raises(CertificateUnusable, match=words) as refused:
            context_for(HERE, settings)
        assert refused.value.hint
    with pytest.raises(UsageError):
        context_for(HERE, Settings(tls_key=str(good)))


def test_plain_http_beyond_this_machine_needs_a_stated_proxy():
    outside = Address(host="0.0.0.0", port=1)

    with pytest.raises(NotAllowed):
        context_for(outside, Settings())
    assert context_for(outside, Settings(tls_proxy=True)) is None
    assert context_for(HERE, Settings()) is None


def test_the_client_of_the_gateway_verifies_its_certificate(testbed: Testbed, certificates: Certificates):
    testbed.write([])
    file = certificates.issue("localhost")
    file.chmod(0o600)
    gateway = Gateway(testbed, COORD_TLS_CERTIFICATE=str(file))
    token = gateway.token("agent:ann")
    url = f"wss://localhost:{gateway.port}/"
    gateway.bus().send("agent:ann", "hello", {"n": 1})

    with Client(url, token, ca=certificates.ca, patience=timedelta(seconds=20)) as client:
        message = next(client.listen(wait_s=20))
    with Client(url, token) as unknown, pytest.raises(Unusable):
        next(unknown.listen(wait_s=20))
    misnamed = Client(url.replace("localhost", "127.0.0.1"), token, ca=certificates.ca)
    with misnamed, pytest.raises(Unusable):
        next(misnamed.listen(wait_s=20))
    with pytest.raises(UsageError):
        Client(url, token, ca=__file__)

    assert message.payload == {"n": 1}  # type: ignore[union-attr]


def test_mcp_over_http_is_encrypted(testbed: Testbed, certificates: Certificates):
    testbed.write([{"id": "A", "repo": "api"}])
    file, port = certificates.issue("localhost"), free_port()
    file.chmod(0o600)
    env = {"COORD_TLS_CERTIFICATE": str(file), "COORD_MCP_TOKEN": "a-token-that-we-chose"}
    refused = testbed.coord("mcp", "--http", f"0.0.0.0:{port}")
    process = testbed.begin("mcp", "--http", f"localhost:{port}", **env)
    url = f"https://localhost:{port}/mcp"
    assert process.says("MCP") == f"MCP  {url}  token as in mcp_token\n"

    trusting = ssl.create_default_context(cafile=str(certificates.ca))
    answer = httpx2.post(url, json={}, verify=trusting, timeout=60)  # the server is starting still
    config = testbed.ok("mcp", "--http", f"localhost:{port}", "--config", **env).json

    assert refused.code == 4
    assert answer.status_code == 401
    assert config["mcpServers"]["coord"]["url"] == url
    os.kill(process.pid, signal.SIGTERM)
    assert process.wait(60) == 0


def test_doctor_tells_an_expired_certificate(testbed: Testbed, certificates: Certificates):
    testbed.write([])
    file = certificates.issue("localhost", expired=True)
    file.chmod(0o600)

    found = json.loads(testbed.coord("doctor", "--json", COORD_TLS_CERTIFICATE=str(file)).out)

    assert any("expired" in finding["what"] for finding in found["findings"]), found["findings"]
    assert issubclass(CertificateUnusable, CoordinationError)
