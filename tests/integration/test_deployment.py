"""The files for many machines: read by the programs they are for where those are here, and held against coord
itself.
"""

from __future__ import annotations

import configparser
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import pytest
import redis
import yaml
from redis.backoff import NoBackoff
from redis.retry import Retry

from coordination.backend.client import Profile, connect
from coordination.backend.embedded import server_binary
from coordination.cli.app import coord
from coordination.environment import ENV_PREFIX
from coordination.settings import Settings
from tests import ports
from tests.endpoints import Certificates
from tests.waiting import until

ROOT = Path(__file__).parents[2]
COMPOSE = ROOT / "docker-compose.yml"
UNIT = ROOT / "deploy" / "coord-worker.service"
PASSWORD = "0123456789abcdef"
KNOWN = {ENV_PREFIX + name.upper() for name in Settings.model_fields}


def compose_command() -> list[str] | None:
    """The program that reads such files here: the plugin of today, or the one it replaced."""
    for command in (["docker", "compose"], ["docker-compose"]):
        if shutil.which(command[0]):
            answer = subprocess.run([*command, "version"], capture_output=True, check=False)
            if answer.returncode == 0:
                return command
    return None


def services() -> Mapping[str, Any]:
    """The services with the environment of somebody who has set the password alone."""
    text = re.sub(r"\$\{COORD_REDIS_PASSWORD:\?[^}]*\}", PASSWORD, COMPOSE.read_text())
    text = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text)
    return yaml.safe_load(text)["services"]


OURS = [name for name, service in services().items() if service["image"] == "coord"]


def parse(words: list[str]) -> None:
    """As `coord WORDS` would; raises click.UsageError for what coord does not know."""
    with click.Context(coord, info_name="coord") as context:
        name, command, rest = coord.resolve_command(context, words)
        command.make_context(name, rest, parent=context)


@pytest.mark.skipif(compose_command() is None, reason="no compose here")
def test_compose_accepts_its_file_and_asks_for_the_password():
    plain = {name: value for name, value in os.environ.items() if not name.startswith("COORD_")}
    config = [*compose_command(), "--file", COMPOSE, "config"]

    accepted = subprocess.run(
        config, env={**plain, "COORD_REDIS_PASSWORD": PASSWORD}, capture_output=True, text=True, check=False
    )
    refused = subprocess.run(config, env=plain, cwd=UNIT.parent, capture_output=True, text=True, check=False)

    assert accepted.returncode == 0, accepted.stderr
    assert f"redis://:{PASSWORD}@redis:6379/0" in accepted.stdout
    assert refused.returncode != 0
    assert "COORD_REDIS_PASSWORD" in refused.stderr


@pytest.mark.parametrize("name", OURS)
def test_what_a_service_runs_and_is_told_is_known_to_coord(name: str):
    service = services()[name]

    parse(shlex.split(service["command"]))
    assert set(service["environment"]) <= KNOWN


def test_only_this_machine_reaches_a_port_by_default():
    ports = [port for service in services().values() for port in service.get("ports", ())]

    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


@pytest.fixture
def another_port() -> int:
    return ports.free_port()


@contextmanager
def composed_redis(
    folder: Path, port: int, password: str, *, tls_port: int = 0, binary: str = ""
) -> Iterator[subprocess.Popen[bytes]]:
    """The command of the redis service, with the server that is here and at free ports; it ends with the
    test.
    """
    shell, option, script = services()["redis"]["command"]
    script = script.replace("$$", "$").replace(
        "redis-server", f"{shlex.quote(binary or server_binary())} --port {port}"
    )
    script = script.replace("/tls/", "tls/").replace("--tls-port 6380", f"--tls-port {tls_port}")
    env = {"PATH": os.environ["PATH"], **services()["redis"]["environment"], "REDISCLI_AUTH": password}
    process = subprocess.Popen([shell, option, script], cwd=folder, env=env, stdout=subprocess.DEVNULL)
    try:
        until(lambda: pings(port, password=password))
        yield process
        process.terminate()
        assert process.wait(60) == 0  # the signal reached the server itself
    finally:
        process.kill()
        process.wait()


def pings(port: int, **login: str) -> bool:
    try:
        return redis.Redis(port=port, retry=Retry(NoBackoff(), 0), **login).ping()
    except (redis.ConnectionError, redis.AuthenticationError):
        return False


def test_redis_takes_its_flags_keeps_its_users_and_takes_a_new_password(tmp_path: Path, free_port: int):
    with composed_redis(tmp_path, free_port, PASSWORD) as server:
        client = redis.Redis(port=free_port, password=PASSWORD, decode_responses=True)
        set_to = client.config_get("appendonly", "appendfsync", "maxmemory-policy")
        assert set_to == {"appendonly": "yes", "appendfsync": "everysec", "maxmemory-policy": "noeviction"}
        assert PASSWORD not in Path(f"/proc/{server.pid}/cmdline").read_text()
        assert (tmp_path / "appendonlydir").is_dir()
        assert not pings(free_port)
        with (tmp_path / "users.acl").open("a") as users:
            users.write("user ops on >hunter2 -@all +ping\n")
        client.acl_load()
        assert pings(free_port, username="ops", password="hunter2")

    with composed_redis(tmp_path, free_port, "another"):
        assert pings(free_port, username="ops", password="hunter2")
        assert not pings(free_port, password=PASSWORD)
    assert PASSWORD not in (tmp_path / "users.acl").read_text()


@pytest.mark.skipif(
    shutil.which("redis-server") is None, reason="no Redis here but the embedded one, which has no TLS"
)
def test_redis_speaks_tls_if_its_folder_has_a_certificate(tmp_path: Path, free_port: int, another_port: int):
    certificates = Certificates(tmp_path)
    issued = certificates.issue("localhost")
    (tmp_path / "tls").mkdir()
    for name in ("server.crt", "server.key"):  # each reader takes its part of the file
        shutil.copy(issued, tmp_path / "tls" / name)
    url = f"rediss://:{PASSWORD}@localhost:{another_port}?ssl_ca_certs={certificates.ca}"

    with composed_redis(tmp_path, free_port, PASSWORD, tls_port=another_port, binary="redis-server"):
        assert connect(url, Profile.COMMAND).ping()


def test_the_image_is_built_of_files_that_its_context_holds_and_runs_as_nobody_special():
    lines = [line.split() for line in (ROOT / "Dockerfile").read_text().splitlines() if line[:1].isalpha()]
    said = {words[0]: words[1:] for words in lines}
    copied = {source for words in lines if words[0] == "COPY" for source in words[1:-1]}
    context = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}

    assert copied == context
    assert all(any(ROOT.glob(source)) for source in copied)
    assert said["USER"] == ["coord"]
    assert said["ENTRYPOINT"] == ['["coord"]']
    mounted = {volume.split(":")[1] for volume in services()["worker"]["volumes"]}
    assert mounted == set(yaml.safe_load(" ".join(said["VOLUME"])))
    assert said["WORKDIR"][0] in mounted


def unit() -> configparser.ConfigParser:
    parser = configparser.ConfigParser(strict=False, interpolation=None, delimiters=["="])
    parser.optionxform = str  # type: ignore[assignment]
    parser.read(UNIT)
    return parser


def test_the_unit_starts_a_worker_and_stops_it_by_the_workers_own_protocol():
    service = unit()["Service"]

    program, *words = shlex.split(service["ExecStart"])
    assert Path(program).name == "coord"
    assert words == ["worker", "$WORKER_REPOS"]
    example = re.search(r"WORKER_REPOS=(.*)", UNIT.read_text())
    parse(["worker", *shlex.split(example[1])])
    assert service["KillMode"] == "mixed"  # a TERM to the children would end what may finish
    assert service["SuccessExitStatus"] == "143"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd here")
def test_systemd_accepts_the_unit(tmp_path: Path):
    copy = tmp_path / UNIT.name
    copy.write_text(
        UNIT.read_text().replace("/opt/coord/bin/coord", str(Path(sys.executable).with_name("coord")))
    )

    verified = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", copy], capture_output=True, text=True, check=False
    )

    assert (verified.returncode, verified.stderr) == (0, "")
