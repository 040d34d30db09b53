"""Machines of one ecosystem: each a folder with checkouts, state and a name of its own, and one Redis that
all of them reach.

They share this computer's network, or each gets one of its own where we may make that.
"""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from coordination.backend.embedded import server_binary
from tests.ports import free_port
from tests.testbed import Begun, Testbed, git, in_network

PASSWORD = secrets.token_hex(12)


class Machine(Testbed):
    """Where repositories lie. There is no ecosystem.yaml."""

    def clone(self, origin: Path, place: str) -> Path:
        path = self.folder / place
        git(self.folder, "clone", "-q", str(origin), str(path))
        return path

    def worker(self, **places: str) -> Begun:
        """Serves repositories at their places, seen from this folder."""
        repos = [word for repo, place in places.items() for word in ("--repo", f"{repo}={place}")]
        return self.begin("worker", *repos)

    def die(self) -> None:
        """As when the power goes: everything at once."""
        for pid in self.alive():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for process in self.started:
            process.kill()
            process.wait()


class Network(Protocol):
    address: str
    """Where Redis listens."""
    hub: str
    """The network namespace of Redis; empty for ours."""

    def join(self, name: str) -> str:
        """Return the network namespace of a machine; empty for ours."""

    def end(self) -> None: ...


class Loopback:
    address = "127.0.0.1"
    hub = ""

    def join(self, name: str) -> str:
        return ""

    def end(self) -> None:
        pass


class Namespaces:
    """A network namespace for each machine and one with Redis and the bridge between them; nothing of it
    touches ours.
    """

    address = "10.203.0.1"

    def __init__(self) -> None:
        """Raises PermissionError where that is not allowed."""
        self._mark = f"coord-{secrets.token_hex(3)}"
        self._made: list[str] = []
        self.hub = self._namespace("hub")
        try:
            self._ip("hub", "link", "add", "bridge", "type", "bridge")
            self._ip("hub", "addr", "add", f"{self.address}/24", "dev", "bridge")
            self._ip("hub", "link", "set", "bridge", "up")
        except PermissionError:
            self.end()
            raise

    def join(self, name: str) -> str:
        namespace = self._namespace(name)
        peer = ("peer", "name", "eth0", "netns", f"{self._mark}-{name}")
        self._ip("hub", "link", "add", f"to-{name}"[:15], "type", "veth", *peer)
        self._ip("hub", "link", "set", f"to-{name}"[:15], "master", "bridge", "up")
        self._ip(name, "addr", "add", f"10.203.0.{len(self._made)}/24", "dev", "eth0")
        self._ip(name, "link", "set", "eth0", "up")
        return namespace

    def end(self) -> None:
        for name in reversed(self._made):
            _ip("netns", "del", name)

    def _namespace(self, name: str) -> str:
        full = f"{self._mark}-{name}"
        _ip("netns", "add", full)
        self._made.append(full)
        return full

    def _ip(self, where: str, *words: str) -> None:
        _ip("-n", f"{self._mark}-{where}", *words)


def _ip(*words: str) -> None:
    try:
        subprocess.run(["ip", *words], check=True, capture_output=True, text=True)
    except FileNotFoundError as error:
        raise PermissionError("there is no ip command") from error
    except subprocess.CalledProcessError as error:
        raise PermissionError(error.stderr.strip()) from error


class Site:
    """The machines, and a Redis with a password on the network between them."""

    def __init__(self, folder: Path, network: Network) -> None:
        self._folder, self._network = folder, network
        self._testbeds: list[Testbed] = []
        self.socket = folder / "redis.sock"
        port = free_port()
        self.url = f"redis://:{PASSWORD}@{network.address}:{port}/0"
        listen = ("--bind", network.address, "--port", str(port), "--unixsocket", str(self.socket))
        keep = (
            "--appendonly",
            "yes",
            "--save",
            "",
            "--maxmemory-policy",
            "noeviction",
            "--requirepass",
            PASSWORD,
        )
        self._redis = Begun([*in_network(network.hub), server_binary(), *listen, *keep], cwd=folder)
        self._redis.says("Ready to accept connections")

    def submitter(self, **env: str) -> Testbed:
        """Where the file is, and no repository."""
        return self._join(
            Testbed(self._made("laptop"), env=self._env(env), network=self._network.join("laptop"))
        )

    def machine(self, name: str, **env: str) -> Machine:
        return self._join(
            Machine(
                self._made(name), env=self._env({"COORD_HOST": name, **env}), network=self._network.join(name)
            )
        )

    def end(self) -> None:
        try:
            for testbed in self._testbeds:
                testbed.end()
        finally:
            self._redis.kill()
            self._redis.wait()
            self._network.end()

    def _made(self, name: str) -> Path:
        folder = self._folder / name
        folder.mkdir()
        return folder

    def _env(self, more: Mapping[str, str]) -> Mapping[str, str]:
        return {"COORD_REDIS_URL": self.url, **more}

    def _join(self, testbed: Testbed) -> Testbed:
        self._testbeds.append(testbed)
        return testbed


def trusting(site: Site, folder: Path) -> tuple[Testbed, Machine, Machine]:
    """A laptop, and the machines of `up` and `down`; each trusts the laptop and the other worker."""
    laptop = site.submitter(COORD_IDENTITY=str(folder / "person"))
    laptop.coord(
        "identity", "init", "--name", "anna", COORD_IDENTITY="", XDG_CONFIG_HOME=str(folder / "config")
    )
    (folder / "config" / "coord" / "identity").rename(folder / "person")
    (folder / "config" / "coord" / "identity.pub").rename(folder / "person.pub")
    person = (folder / "person.pub").read_text().strip()
    machines = [
        site.machine(name, COORD_SIGNATURES="require", COORD_TRUST_FILE=str(folder / f"trust-{name}.yaml"))
        for name in ("ann", "ben")
    ]
    for machine in machines:
        machine.ok("trust", "add", person, "--role", "admin")
        for other in machines:
            line = other.ok("identity", "show", "--worker", "--state", str(other.state)).out.strip()
            machine.ok("trust", "add", line, "--as", other.folder.name, "--kind", "worker")
    return laptop, *machines
