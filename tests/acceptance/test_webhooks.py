"""Stories: a forge tells the gateway of news, and landings look; others can tell the gateway nothing."""

from __future__ import annotations

import hashlib
import hmac
import http.client
import json
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

from coordination.messages import MessageBus
from tests.forge.hooks import signed
from tests.forge.records import Hook
from tests.forge.server import TestForge
from tests.forge_sites import site
from tests.gateways import Gateway
from tests.testbed import Testbed
from tests.waiting import until

SECRET = "a-secret-that-forge-and-gateway-know"
PROBE = "worker:probe"
MIB = 1024 * 1024


def gateway_with_secret(testbed: Testbed, *scope: str) -> Gateway:
    secret = testbed.folder / "hook-secret"
    secret.write_text(SECRET)
    secret.chmod(0o600)
    testbed.ok("credential", "add", "hook", f"file:{secret}", "--purpose", "webhook", *(scope or ("--all",)))
    return Gateway(testbed)


def ask(gateway: Gateway, body: Any, headers: dict[str, str], path: str = "/webhooks/hook") -> int:
    with closing(http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=60)) as line:
        with suppress(BrokenPipeError, ConnectionResetError):  # it has answered before it got all
            line.request("POST", path, body, headers, encode_chunked="Transfer-Encoding" in headers)
        return line.getresponse().status


def hook(dialect: str, secret: str = SECRET) -> Hook:
    return Hook(1, "", secret, dialect)


@pytest.fixture(scope="module")
def told(new_testbed: Callable[[], Testbed]) -> Iterator[tuple[Gateway, Callable[[], list[Any]]]]:
    """Yield a gateway with a secret for the repository `api`, and what its workers are told since the last
    call."""
    testbed = new_testbed()
    testbed.write(repos={"api": {}})
    gateway = gateway_with_secret(testbed, "--repo", "api", "--host", "127.0.0.1")
    bus: MessageBus = gateway.bus()
    bus.register(PROBE)
    bus.subscribe(PROBE, "workers")
    seen: list[str] = []

    def new() -> list[Any]:
        found = [one for one in bus.peek(PROBE) if one.id not in seen]
        seen.extend(one.id for one in found)
        return [one.payload for one in found if one.type == "request.news"]

    yield gateway, new
    assert SECRET not in gateway.process.err
    gateway.kill()


@pytest.mark.parametrize("dialect", ["github", "gitlab", "gitea"])
def test_a_webhook_of_each_forge_tells_the_workers_of_its_repository_once(
    told: tuple[Gateway, Callable[[], list[Any]]], tmp_path: Path, dialect: str
):
    gateway, new = told
    with TestForge(tmp_path, dialect) as forge:
        project = forge.create_project("acme/api")
        forge.hook(project, f"http://127.0.0.1:{gateway.port}/webhooks/hook", SECRET)
        forge.push(project, "work", file="1\n")
        forge.open_request(project, "work", "a request")
        (made,) = forge.deliveries.flush()
        assert made.status == 202
        news = {"forge": dialect, "project": "acme/api", "repos": ["api"], "hosts": ["127.0.0.1"]}
        assert new() == [news]
        assert ask(gateway, made.body, made.headers) == 200, "sent again: the same id"
        assert ask(gateway, made.body, signed(hook(dialect), made.body, "other")) == 200, "the same body"
        assert ask(gateway, made.body, signed(hook(dialect, "wrong"), made.body, "2")) == 403
        assert ask(gateway, made.body, {"X-GitHub-Event": "pull_request"}) == 403
        if dialect != "gitlab":  # which sends the secret itself, and signs nothing unless it is set up to
            assert ask(gateway, made.body + b" ", made.headers) == 403
        assert new() == []


def test_what_is_too_large_old_or_elsewhere_is_refused(told: tuple[Gateway, Callable[[], list[Any]]]):
    gateway, new = told
    github = hook("github")

    def say(payload: Any, path: str = "/webhooks/hook") -> int:
        body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        return ask(gateway, body, signed(github, body, str(time.monotonic_ns())), path)

    fresh = {"repository": {"full_name": "acme/api"}}
    assert say(fresh | {"updated_at": "2001-01-01T00:00:00Z"}) == 400
    assert say(b"{") == 400
    assert say({"zen": "no repository"}) == 400
    assert say(b"x" * 10 * MIB) == 413
    chunked = {"Transfer-Encoding": "chunked", "X-Hub-Signature-256": "sha256=0"}
    assert ask(gateway, iter([b"x" * MIB] * 10), chunked) == 413
    for path in ("/webhooks/none", "/webhooks/", "/webhooks/hook/x", "/webhooks/..%2fhook", "/elsewhere"):
        assert say(fresh, path) == 404
    with closing(http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=60)) as line:
        line.request("GET", "/webhooks/hook")
        assert line.getresponse().status == 405
    assert new() == []
    assert say(fresh) == 202, "it still works"
    assert [one["project"] for one in new()] == ["acme/api"]


def test_a_secret_for_webhooks_is_for_nothing_else_and_one_for_requests_is_not_for_webhooks(testbed: Testbed):
    testbed.write()
    both = ("--purpose", "webhook", "--purpose", "pr", "--all")
    refused = testbed.coord("credential", "add", "hook", "env:HOOK_SECRET", *both)
    assert refused.code == 2
    testbed.ok("credential", "add", "hook", "env:HOOK_SECRET", "--purpose", "webhook", "--all")
    testbed.ok("credential", "add", "forge", "env:HOOK_SECRET", "--purpose", "pr", "--all")
    gateway = Gateway(testbed)
    body = b'{"repository": {"full_name": "acme/api"}}'
    digest = hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
    headers = {"X-Hub-Signature-256": f"sha256={digest}"}
    assert ask(gateway, body, headers) == 503, "the variable is not set in its process"
    assert ask(gateway, body, headers, "/webhooks/forge") == 404
    gateway.process.says("HOOK_SECRET is not set")
    testbed.ok("credential", "revoke", "hook")
    assert ask(gateway, body, headers) == 404


@pytest.mark.timeout(240)
def test_a_merge_follows_an_approval_without_the_next_poll(
    new_testbed: Callable[[], Testbed], tmp_path: Path
):
    budget = 400  # a request is looked at every 72 s, two every 144 s
    with site(new_testbed(), tmp_path, "github", "ab", budget=budget, approvals=1) as at:
        gateway = gateway_with_secret(at.testbed)
        for name in at.names:
            url = f"http://127.0.0.1:{gateway.port}/webhooks/hook"
            at.forge.hook(at.projects[name], url, SECRET)
        landing = at.begin()
        for name in at.names:
            at.waits_for(name, "0 of 1 approval")
        at.approve(*at.names)
        done = landing.done(60)
        assert done.code == 0, done.err
        assert at.landed() == [True, True]
        assert {one.status for one in until(at.forge.deliveries.flush)} <= {200, 202}
