"""Every way in which a Redis cannot be used: said in one sentence with its address, and what to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing
from datetime import timedelta
from pathlib import Path
from socket import SO_KEEPALIVE, SOL_SOCKET

import pytest
import redis

from coordination.backend.client import ANSWER_S, BULK_S, Profile, connect, reaching
from coordination.backend.embedded import EmbeddedServer
from coordination.backend.keys import Keys
from coordination.backend.server_check import refuse_unfit
from coordination.broker.celery_app import make_app
from coordination.errors import CoordinationError, Unreachable, Unusable
from coordination.settings import Settings
from tests.endpoints import Certificates, leading_to, listening, old_redis, silent
from tests.hosts import TcpRedis
from tests.waiting import until

SECRET = "s3cret@/#%"
ESCAPED = "s3cret%40%2F%23%25"


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def socket(redis_url: str) -> Path:
    return Path(redis_url.removeprefix("unix://"))


@pytest.fixture
def ann(redis_url: str) -> Iterator[str]:
    """A user who may read keys, and nothing else."""
    with redis.Redis.from_url(redis_url) as admin:
        admin.acl_setuser(
            "ann", enabled=True, passwords=[f"+{SECRET}"], commands=["+get", "+ping"], keys=["*"]
        )
        yield "ann"
        admin.acl_deluser("ann")


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[redis.Redis]:
    """A server that a test may spoil."""
    server = EmbeddedServer(tmp_path / ".coord", Settings())
    with connect(server.start(), Profile.COMMAND) as client:
        yield client
    server.stop()


def ask(url: str, patience_s: float = 10) -> bool:
    with closing(connect(url, Profile.COMMAND, timedelta(seconds=patience_s))) as client, reaching(url):
        return bool(client.ping())


def refusal(url: str, patience_s: float = 10) -> CoordinationError:
    with pytest.raises(Unreachable) as caught:
        ask(url, patience_s)
    assert caught.value.exit_code == 7
    assert "s3cret" not in str(caught.value)
    return caught.value


@pytest.fixture(scope="module")
def tls(server: EmbeddedServer, certificates: Certificates) -> Iterator[dict[str, int]]:
    """Ports of the session's server, by what stands in front of it."""
    socket = Path(server.start().removeprefix("unix://"))
    fronts = {
        "good": certificates.of_server("localhost"),
        "elsewhere": certificates.of_server("elsewhere.test"),
        "expired": certificates.of_server("localhost", expired=True),
        "mutual": certificates.of_server("localhost", asks_for_ours=True),
        "plain": None,
    }
    with ExitStack() as ends:
        yield {name: ends.enter_context(listening(leading_to(socket, tls))) for name, tls in fronts.items()}


@pytest.mark.parametrize(
    ("front", "query"),
    [
        ("good", "ssl_ca_certs={ca}"),
        ("elsewhere", "ssl_cert_reqs=none"),
        ("elsewhere", "ssl_check_hostname=false&ssl_ca_certs={ca}"),
        ("mutual", "ssl_ca_certs={ca}&ssl_certfile={mine}&ssl_keyfile={mine}"),
    ],
)
def test_a_trusted_certificate_is_accepted_and_less_is_checked_only_where_the_address_says_so(
    certificates: Certificates, tls: dict[str, int], front: str, query: str
):
    query = query.format(ca=certificates.ca, mine=certificates.issue("me.test"))
    assert ask(f"rediss://localhost:{tls[front]}?{query}")


@pytest.mark.parametrize(
    ("front", "address", "message", "hint"),
    [
        ("good", "rediss://localhost:{port}", "the certificate of Redis at {address} is not trusted",
        "?ssl_ca_certs="),
        ("good", "rediss://localhost:{port}?ssl_ca_certs={other}", "is not trusted",
        "check that {other} is the CA that signed it"),
        ("elsewhere", "rediss://localhost:{port}?ssl_ca_certs={ca}", "is for another name than localhost",
        ""),
        ("elsewhere", "rediss://127.0.0.1:{port}?ssl_ca_certs={ca}", "is for another name than 127.0.0.1",
        ""),
        ("expired", "rediss://localhost:{port}?ssl_ca_certs={ca}", "has expired", ""),
        ("mutual", "rediss://localhost:{port}?ssl_ca_certs={ca}", "client certificate", "ssl_certfile"),
        ("good", "rediss://localhost:{port}?ssl_ca_certs={wrong}", "{wrong}", ""),
    ],
    ids=["untrusted", "of another CA", "another name", "another address", "expired", "ours is missing",
    "no certificate"],
)  # fmt: skip
def test_tls_that_fails_is_refused_with_its_cause_and_what_to_do(
    certificates: Certificates,
    tls: dict[str, int],
    tmp_path: Path,
    front: str,
    address: str,
    message: str,
    hint: str,
):
    wrong = tmp_path / "wrong.pem"
    wrong.write_text("no certificate")
    names = {"port": tls[front], "ca": certificates.ca, "other": Certificates(tmp_path).ca, "wrong": wrong}
    address = address.format(**names)

    error = refusal(address)

    assert isinstance(error, Unusable)
    assert message.format(address=address, **names) in str(error)
    assert hint.format(**names) in (error.hint or "")


def test_the_other_scheme_is_told_to_plain_text_at_a_tls_port_and_to_tls_at_a_plain_one(tls: dict[str, int]):
    assert "rediss://" in refusal(f"redis://localhost:{tls['good']}", patience_s=1).hint
    assert "TLS" in str(refusal(f"rediss://localhost:{tls['plain']}"))


@pytest.mark.parametrize("scheme", ["redis", "rediss"])
def test_a_server_that_never_answers_is_given_up(scheme: str):
    with listening(silent) as port:
        address = f"{scheme}://127.0.0.1:{port}"
        assert f"Redis at {address} does not answer" in refusal(address, patience_s=0.5).message


@pytest.mark.parametrize("scheme", ["redis", "rediss"])
def test_a_reader_without_a_timeout_has_one_for_the_greeting_of_the_server(scheme: str):
    with listening(silent) as port:
        client = connect(f"{scheme}://127.0.0.1:{port}", Profile.READER, timedelta(milliseconds=100))
        for _ in range(2):  # the second time, a connection is made anew
            with pytest.raises(redis.TimeoutError):
                client.ping()


def test_each_profile_has_its_own_timeout_and_keepalive(certificates: Certificates, tls: dict[str, int]):
    address = f"rediss://localhost:{tls['good']}?ssl_ca_certs={certificates.ca}"
    commands = dict.fromkeys((Profile.COMMAND, Profile.WORKER), ANSWER_S)
    for profile, answer_s in {**commands, Profile.READER: None, Profile.BULK: BULK_S}.items():
        with connect(address, profile) as client:
            line = client.connection_pool.get_connection()._get_socket()
            assert line.gettimeout() == answer_s
            assert line.getsockopt(SOL_SOCKET, SO_KEEPALIVE)


def test_a_server_that_is_no_redis_is_told_so():
    answer = b"HTTP/1.1 400 Bad Request\r\n\r\n"
    with listening(lambda client: client.sendall(answer) or silent(client)) as port:
        address = f"redis://127.0.0.1:{port}"
        assert f"the server at {address} is no Redis" in refusal(address).message


def test_a_port_where_nobody_listens(free_port: int):
    error = refusal(f"redis://:{ESCAPED}@127.0.0.1:{free_port}/0")

    assert not isinstance(error, Unusable)  # somebody may come
    assert f"Redis at redis://:***@127.0.0.1:{free_port}/0 does not answer" in error.message


def test_a_password_with_special_characters_lets_us_in(socket: Path, ann: str):
    assert ask(f"unix://{ann}:{ESCAPED}@{socket}")


@pytest.mark.parametrize("user", ["ann", "nobody"])
def test_a_wrong_password_and_an_unknown_user_are_refused(socket: Path, ann: str, user: str):
    error = refusal(f"unix://{user}:s3cret-not@{socket}")

    assert isinstance(error, Unusable)
    assert f"refuses the login of user {user}" in error.message


def test_a_missing_password_is_asked_for(tcp_redis: TcpRedis):
    error = refusal(f"redis://127.0.0.1:{tcp_redis.port}")

    assert isinstance(error, Unusable)
    assert "requires a password" in error.message


def test_a_user_who_may_not_is_named(socket: Path, ann: str):
    url = f"unix://{ann}:{ESCAPED}@{socket}"
    client = connect(url, Profile.COMMAND)
    with pytest.raises(Unusable, match="does not allow user ann") as caught, reaching(url):
        client.set("a", "b")
    assert "coord acl" in caught.value.hint

    with pytest.raises(Unusable, match=r"does not allow user ann .*'info'"), reaching(url):
        refuse_unfit(client, url)
    client.close()


def test_a_message_that_may_not_be_sent_fails_as_any_other_step(socket: Path, ann: str):
    url = f"unix://{ann}:{ESCAPED}@{socket}"

    with pytest.raises(Unusable, match="does not allow user ann"), reaching(url):
        make_app(url, Keys("coord"), Settings()).send_task("coord.execute")


def test_a_database_that_is_not_there_is_named(socket: Path):
    assert "has no database 99" in refusal(f"unix://{socket}?db=99").message


def test_a_server_of_old_times_is_refused():
    with listening(old_redis) as port:
        url = f"redis://127.0.0.1:{port}"
        with (
            connect(url, Profile.COMMAND) as client,
            pytest.raises(Unusable, match=r"Redis 6\.0\.16, older than 7\.0"),
        ):
            refuse_unfit(client, url)


def test_a_replica_is_refused_and_its_primary_named(own_server: redis.Redis, free_port: int):
    assert refuse_unfit(own_server, "unix:///x") == ()
    own_server.replicaof("127.0.0.1", free_port)
    until(lambda: own_server.info()["role"] == "slave")

    with pytest.raises(Unusable, match="it is a replica") as caught:
        refuse_unfit(own_server, "unix:///x")
    assert f"127.0.0.1:{free_port}" in caught.value.hint
