"""One address, as redis-py, kombu and Celery's result backend take it."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import kombu.utils.functional
import pytest
import redis
from kombu.exceptions import OperationalError

from coordination.backend.address import hide_password
from coordination.backend.client import Profile, connect
from coordination.backend.keys import Keys
from coordination.broker.celery_app import make_app
from coordination.broker.transport import TolerantTransport
from coordination.errors import UsageError
from coordination.settings import Settings

SAME = ("host", "port", "path", "db", "username", "password")
TLS = ("ssl_cert_reqs", "ssl_check_hostname", "ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
REQUIREMENTS = {"required": ssl.CERT_REQUIRED, "optional": ssl.CERT_OPTIONAL, "none": ssl.CERT_NONE}


def as_each_takes_it(url: str, monkeypatch: pytest.MonkeyPatch) -> tuple[dict[str, Any], ...]:
    """The addresses to which coord's own client, the broker's and the result backend's connect."""
    app = make_app(url, Keys("coord"), Settings())
    # A channel asks at once whether somebody is there.
    monkeypatch.setattr(redis.Redis, "ping", lambda _client: True)
    with app.connection_for_write() as connection:
        broker = connection.channel()._connparams()
    own = connect(url, Profile.COMMAND).connection_pool
    own_kwargs = {**own.connection_kwargs, "connection_class": own.connection_class}
    return own_kwargs, broker, app.backend.connparams


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://", {"host": "localhost", "port": 6379, "db": 0}),
        ("redis://example.org:7000/3", {"host": "example.org", "port": 7000, "db": 3}),
        ("redis://example.org/?db=4", {"db": 4}),
        ("redis://[::1]:7000", {"host": "::1", "port": 7000}),
        ("redis://:p%40%2Fs%25%3B%2B%23s@example.org", {"username": None, "password": "p@/s%;+#s"}),
        ("redis://:plain;semicolon+@example.org", {"password": "plain;semicolon+"}),
        ("redis://ann:secret@example.org", {"username": "ann", "password": "secret"}),
        ("redis://example.org?username=ann&password=a%26b", {"username": "ann", "password": "a&b"}),
        ("unix:///run/redis.sock", {"path": "/run/redis.sock", "db": 0}),
        ("unix://ann:s%40s@/run/a%20b/r.sock?db=2", {"path": "/run/a b/r.sock", "db": 2, "password": "s@s"}),
    ],
)
def test_an_address_means_the_same_to_each_client(
    url: str, expected: dict[str, Any], monkeypatch: pytest.MonkeyPatch
):
    for taken in as_each_takes_it(url, monkeypatch):
        assert {name: taken.get(name) for name in expected} == expected
        assert not issubclass(taken.get("connection_class", redis.Connection), redis.SSLConnection)


@pytest.mark.parametrize(
    "url",
    ["redis://ops:hunter2@localhost/0", "rediss://:hunter2@localhost", "unix://ops:hunter2@/run/r.sock?db=3"],
)
def test_each_connection_survives_queue_entries_that_are_no_messages_and_tells_no_password(url: str):
    app = make_app(url, Keys("coord"), Settings())

    for connection in (app.connection_for_read(), app.connection_for_write()):
        assert connection.get_transport_cls() is TolerantTransport
        told = connection.info()
        told.pop("password")  # as Celery does before it tells
        assert "hunter2" not in str(told)


def test_a_redis_that_is_away_is_tried_every_few_seconds(free_port: int, monkeypatch: pytest.MonkeyPatch):
    waited: list[float] = []
    monkeypatch.setattr(kombu.utils.functional, "sleep", waited.append)
    connection = make_app(f"redis://localhost:{free_port}", Keys("coord"), Settings()).connection_for_read()
    pauses: list[float] = []

    with pytest.raises(OperationalError):
        connection.ensure_connection(lambda _, pause: pauses.append(pause), max_retries=20)

    assert waited
    assert max(pauses) == 3


def test_a_channel_that_is_closed_while_a_message_is_sent_is_a_lost_connection():
    with make_app("redis://127.0.0.1:1/0", Keys("test"), Settings()).connection() as connection:
        channel = connection.transport.Channel.__new__(connection.transport.Channel)
        channel.connection = None  # as kombu leaves it when it closes one

        with pytest.raises(redis.ConnectionError, match="closed"):
            channel._connparams()


@pytest.mark.parametrize(
    ("query", "requires", "checks_name"),
    [
        ("", "required", True),
        ("?ssl_check_hostname=false", "required", False),
        ("?ssl_cert_reqs=required&ssl_check_hostname=true", "required", True),
        ("?ssl_cert_reqs=none", "none", True),
    ],
)
def test_certificates_are_checked_by_each_client_unless_the_address_says_no(
    query: str, requires: str, checks_name: bool, monkeypatch: pytest.MonkeyPatch
):
    for taken in as_each_takes_it(f"rediss://example.org/1{query}", monkeypatch):
        made = taken["connection_class"](**{name: taken[name] for name in TLS if name in taken})
        assert isinstance(made, redis.SSLConnection)
        assert made.cert_reqs == REQUIREMENTS[requires]
        assert made.check_hostname == (checks_name and requires != "none")
        assert taken["db"] == 1


def test_each_client_gets_the_files_of_the_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    files = {
        name: str(tmp_path / f"a {name}+&.pem") for name in ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
    }
    for file in files.values():
        Path(file).touch()
    query = "&".join(f"{name}={file.replace('+', '%2B').replace('&', '%26')}" for name, file in files.items())

    for taken in as_each_takes_it(f"rediss://example.org?{query}", monkeypatch):
        assert {name: taken[name] for name in files} == files


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://example.org", "is no Redis address"),
        ("redis://:pa/ss@example.org", r"redis://:\*\*\*@example.org is no Redis address"),
        ("redis://:pa#ss@example.org", r"redis://:\*\*\*@example.org is no Redis address"),
        ("redis://example.org:port", "is no Redis address"),
        ("redis://example.org:99999/0", "port from 1 to 65535"),
        ("redis://example.org:0", "port from 1 to 65535"),
        ("redis://example.org/first", "'first' is no database"),
        ("redis://example.org?db=-1", "'-1' is no database"),
        ("redis://example.org?ssl_cert_reqs=none", "unknown parameter 'ssl_cert_reqs'"),
        ("rediss://example.org?ssl_ca_cert=/x", "unknown parameter 'ssl_ca_cert'"),
        ("rediss://example.org?ssl_ca_certs=/no/such.pem", "there is no readable file /no/such.pem"),
        ("rediss://example.org?ssl_cert_reqs=CERT_NONE", "ssl_cert_reqs is 'CERT_NONE'"),
        ("rediss://example.org?ssl_check_hostname=perhaps", "ssl_check_hostname is 'perhaps'"),
        ("unix://run/redis.sock", "is no Redis address"),
        ("unix://", "is no Redis address"),
    ],
)
def test_an_address_that_could_be_misread_is_refused(url: str, words: str):
    with pytest.raises(UsageError, match=words):
        connect(url, Profile.COMMAND)


SECRETS = (
    *("redis://:s3cret@h", "redis://u:s3cret@h/0", "rediss://u:s3cret@h?ssl_cert_reqs=none"),
    *("redis://:s3/cr@e:s3cret@h", "redis://h?db=1&password=s3cret", "redis://h?password=s3cret&db=1"),
    "unix://:s3cret@/run/x",
)
WITHOUT = ("redis://h:6379/0", "unix:///run/x", "redis://u@h", "rediss://h?ssl_cert_reqs=none")


@pytest.mark.parametrize("url", [*SECRETS, *WITHOUT])
def test_a_password_is_never_shown_and_nothing_else_is_hidden(url: str):
    shown = hide_password(url)

    assert "s3cret" not in shown
    assert ("***" in shown, shown == url) == (url in SECRETS, url in WITHOUT)
