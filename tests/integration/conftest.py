"""Fixtures of tests with several hosts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from coordination.backend.client import Profile, connect
from coordination.backend.embedded import EmbeddedServer
from coordination.settings import Settings
from tests.hosts import Door, World
from tests.ports import free_port


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    port = free_port()
    server = EmbeddedServer(tmp_path_factory.mktemp("server") / ".coord", Settings(server_port=port))
    address = urlsplit(server.start())
    yield Door(port, address.password or "", Path(address.path))
    server.stop()


@pytest.fixture
def tcp(door: Door) -> str:
    url = door.url(door.port)
    with connect(url, Profile.COMMAND) as client:
        client.flushall()
    return url


@pytest.fixture
def world(tmp_path: Path, tcp: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    made = World(tmp_path, tcp)
    yield made
    for host in made.hosts:
        host.parts.close()
