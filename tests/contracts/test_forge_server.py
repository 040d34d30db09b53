"""The test forge itself: git by HTTP with a token, the words of both dialects, and its own checks."""

from __future__ import annotations

import hashlib
import hmac
import json
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.forge.contract import Contract
from tests.forge.records import Project
from tests.forge.server import TestForge
from tests.testbed import git

GITHUB, GITLAB = "/api/v3/repos/acme/api", "/api/v4/projects/acme%2Fapi"


@dataclass
class Web:
    """People's plain HTTP calls."""

    forge: TestForge
    project: Project

    def call(self, method: str, path: str, by: str = "coord", **more: Any) -> httpx2.Response:
        token = next((t.value for t in self.forge.core.tokens.values() if t.person.login == by), None)
        headers = {"Authorization": f"Bearer {token or self.forge.token(by)}"} | more.pop("headers", {})
        return httpx2.request(method, self.forge.site + path, headers=headers, timeout=60, **more)


@pytest.fixture
def web(forge: TestForge) -> Web:
    return Web(forge, forge.create_project("acme/api"))


@pytest.fixture
def clone(web: Web, tmp_path: Path) -> Path:
    git(tmp_path, "clone", "-q", web.forge.url("acme/api", f"x:{web.forge.token()}"), "clone")
    git(tmp_path / "clone", "checkout", "-q", "-b", "work/one")
    (tmp_path / "clone" / "one").write_text("1\n")
    git(tmp_path / "clone", "add", ".")
    git(tmp_path / "clone", "commit", "-q", "-m", "One")
    return tmp_path / "clone"


def push_fails(clone: Path, ref: str = "HEAD:work/one") -> str:
    with pytest.raises(subprocess.CalledProcessError) as caught:
        git(clone, "-c", "core.askPass=", "-c", "credential.helper=", "push", "-q", "origin", ref)
    return str(caught.value.stderr)


def test_a_push_needs_a_token_that_may_write(web: Web, clone: Path, tmp_path: Path):
    git(clone, "push", "-q", "origin", "HEAD:work/one")
    assert web.forge.tip("acme/api", "work/one") == git(clone, "rev-parse", "HEAD")

    git(clone, "remote", "set-url", "origin", web.forge.url("acme/api", f"x:{web.forge.token('eve')}"))
    git(clone, "fetch", "-q", "origin")
    assert "403" in push_fails(clone, "HEAD:work/two")
    token = web.forge.token("ann")
    git(clone, "remote", "set-url", "origin", web.forge.url("acme/api", f"x:{token}"))
    web.project.archived = True
    assert "403" in push_fails(clone, "HEAD:work/two")
    web.project.archived = False
    web.forge.protect(web.project)
    assert "protected branch" in push_fails(clone, "HEAD:main")
    web.forge.revoke(token)
    assert push_fails(clone, "HEAD:work/two")
    assert web.project.bare.branches().keys() == {"main", "work/one"}


def test_a_push_moves_the_head_of_an_open_request(web: Web, clone: Path):
    git(clone, "push", "-q", "origin", "HEAD:work/one")
    body = {"head": "work/one", "base": "main", "title": "One"}
    assert web.call("POST", f"{GITHUB}/pulls", json=body).json()["number"] == 1
    git(clone, "commit", "-q", "--allow-empty", "-m", "Two")
    git(clone, "push", "-q", "origin", "HEAD:work/one")
    head = git(clone, "rev-parse", "HEAD")

    assert web.call("GET", f"{GITHUB}/pulls/1").json()["head"]["sha"] == head
    assert web.call("GET", f"{GITLAB}/merge_requests/1").json()["sha"] == head
    assert head in git(clone, "ls-remote", "origin", "refs/pull/1/head")
    git(clone, "push", "-q", "origin", "HEAD:main")
    assert web.call("GET", f"{GITHUB}/pulls/1").json()["merged"] is True


def test_both_dialects_answer_with_their_own_statuses(web: Web):
    web.forge.push(web.project, "work/one", one="1\n")
    new = {"source_branch": "work/one", "target_branch": "main", "title": "Draft: One"}
    assert web.call("POST", f"{GITLAB}/merge_requests", json=new).status_code == 201
    for method, path, by, body, status in (
        ("POST", f"{GITLAB}/merge_requests", "coord", new, 409),
        ("POST", f"{GITHUB}/pulls", "coord", {"head": "work/one", "base": "main", "title": "One"}, 422),
        ("POST", f"{GITHUB}/pulls", "coord", {"head": "main", "base": "main", "title": "One"}, 422),
        ("PUT", f"{GITHUB}/pulls/1/merge", "coord", {}, 405),
        ("PUT", f"{GITLAB}/merge_requests/1/merge", "coord", {}, 405),
        ("PUT", f"{GITLAB}/merge_requests/1/merge", "eve", {}, 401),
        ("POST", f"{GITHUB}/pulls/1/reviews", "coord", {"event": "APPROVE"}, 422),
        ("POST", f"{GITLAB}/merge_requests/1/approve", "coord", {}, 401),
        ("POST", f"{GITLAB}/merge_requests/1/approve", "ann", {"sha": "0" * 40}, 409),
        ("POST", f"{GITLAB}/merge_requests/1/approve", "ann", {}, 201),
        ("PUT", f"{GITLAB}/merge_requests/1", "coord", {"title": "One"}, 200),
        ("PUT", f"{GITHUB}/pulls/1/merge", "coord", {"sha": "0" * 40}, 409),
        ("PATCH", f"{GITHUB}/pulls/1", "eve", {"state": "closed"}, 403),
        ("PUT", f"{GITLAB}/merge_requests/1/rebase", "coord", {}, 202),
        ("PATCH", f"{GITHUB}/pulls/1", "coord", {"body": "x" * 65_537}, 422),
        ("PUT", f"{GITLAB}/merge_requests/1", "coord", {"description": "x" * 1_048_577}, 400),
        ("GET", f"{GITHUB}/branches/main/protection", "coord", None, 404),
        ("DELETE", f"{GITHUB}/git/refs/heads/work/one", "coord", None, 204),
        ("DELETE", f"{GITHUB}/git/refs/heads/work/one", "coord", None, 422),
        ("PATCH", f"{GITHUB}/pulls/1", "coord", {"state": "open"}, 422),
    ):
        answer = web.call(method, path, by, json=body) if body is not None else web.call(method, path, by)
        assert answer.status_code == status, (method, path, answer.text)
    assert web.call("GET", f"{GITHUB}/pulls/1").json()["state"] == "closed"


def test_gitlab_merges_nothing_that_it_has_not_checked(web: Web):
    head = web.forge.push(web.project, "work/one", one="1\n")
    new = {"source_branch": "work/one", "target_branch": "main", "title": "One"}
    at = f"{GITLAB}/merge_requests/1"
    web.call("POST", f"{GITLAB}/merge_requests", json=new)
    web.project.asked.clear()
    assert web.call("PUT", f"{at}/merge", json={"sha": head}).status_code == 405
    assert web.call("GET", at).json()["detailed_merge_status"] == "mergeable"
    assert web.call("PUT", f"{at}/merge", json={"sha": head}).json()["state"] == "merged"


def test_a_dismissed_approval_is_none_and_a_stale_one_neither(web: Web):
    web.forge.push(web.project, "work/one", one="1\n")
    web.call("POST", f"{GITHUB}/pulls", json={"head": "work/one", "base": "main", "title": "One"})
    web.forge.protect(web.project, approvals=1)
    review = web.call("POST", f"{GITHUB}/pulls/1/reviews", "ann", json={"event": "APPROVE"}).json()
    assert web.call("GET", f"{GITLAB}/merge_requests/1/approvals").json()["approved"] is True
    at = f"{GITHUB}/pulls/1/reviews/{review['id']}/dismissals"
    assert web.call("PUT", at, json={"message": "outdated"}).json()["state"] == "DISMISSED"
    assert web.call("GET", f"{GITLAB}/merge_requests/1/approvals").json()["approved"] is False


def test_an_unchanged_answer_costs_nothing_at_github_and_one_call_at_gitlab(web: Web):
    for path, left, cost in (
        (f"{GITHUB}/labels", "X-RateLimit-Remaining", 0),
        (f"{GITLAB}/labels", "RateLimit-Remaining", 1),
    ):
        first = web.call("GET", path)
        again = web.call("GET", path, headers={"If-None-Match": first.headers["ETag"]})
        assert (again.status_code, again.content) == (304, b"")
        assert int(first.headers[left]) - int(again.headers[left]) == cost
        web.project.labels.append(f"new-{cost}")
        changed = web.call("GET", path, headers={"If-None-Match": first.headers["ETag"]})
        assert changed.status_code == 200


def test_pages_are_linked(web: Web):
    web.project.labels = [f"label-{n}" for n in range(7)]
    first = web.call("GET", f"{GITHUB}/labels?per_page=3")
    assert [one["name"] for one in first.json()] == ["label-0", "label-1", "label-2"]
    third = web.call("GET", f"{GITLAB}/labels?per_page=3&page=3")
    assert [one["name"] for one in third.json()] == ["label-6"]
    assert 'page=2>; rel="next"' in first.headers["Link"]
    assert (third.headers["X-Next-Page"], third.headers["X-Total"]) == ("", "7")


@pytest.fixture
def receiver() -> Iterator[tuple[str, list[tuple[Any, bytes]]]]:
    heard: list[tuple[Any, bytes]] = []

    class Receive(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            heard.append((self.headers, self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Print nothing."""

    server = HTTPServer(("127.0.0.1", 0), Receive)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/hook", heard
    server.shutdown()
    server.server_close()


def test_webhooks_are_signed_and_can_be_sent_again(web: Web, receiver: tuple[str, list[tuple[Any, bytes]]]):
    url, heard = receiver
    config = {"url": url, "secret": "word", "content_type": "json"}
    web.call("POST", f"{GITHUB}/hooks", "bob", json={"config": config, "events": ["pull_request"]})
    web.call("POST", f"{GITLAB}/hooks", "bob", json={"url": url, "token": "word"})
    web.forge.push(web.project, "work/one", one="1\n")
    web.call("POST", f"{GITHUB}/pulls", json={"head": "work/one", "base": "main", "title": "One"})
    made = web.forge.deliveries.flush()
    (head, body), (other, text) = heard

    assert [one.status for one in made] == [204, 204]
    expected = hmac.new(b"word", body, hashlib.sha256).hexdigest()
    assert head["X-Hub-Signature-256"] == f"sha256={expected}"
    assert head["X-GitHub-Event"] == "pull_request"
    assert (json.loads(body)["action"], json.loads(body)["pull_request"]["number"]) == ("opened", 1)
    assert (other["X-Gitlab-Token"], other["X-Gitlab-Event"]) == ("word", "Merge Request Hook")
    assert json.loads(text)["object_attributes"]["action"] == "open"
    web.forge.deliveries.send(made[0])
    web.forge.deliveries.flush()
    assert heard[2][0]["X-GitHub-Delivery"] == head["X-GitHub-Delivery"]


def test_requests_and_answers_that_no_description_has_are_violations(web: Web):
    web.call("POST", f"{GITHUB}/pulls?draft=true", json={"head": "x", "base": "main", "tittle": "One"})
    web.call("GET", f"{GITHUB}/pulls/absent/operation")
    web.call("PUT", f"{GITLAB}/merge_requests/1/merge", json={"sha": 7})
    found, web.forge.violations = web.forge.violations, []
    assert len([one for one in found if "draft" in one or "tittle" in one or "no operation" in one]) == 3
    assert any("$.sha: 7 is not of type 'string'" in one for one in found)

    contract = Contract("github")
    pull = "GET /repos/{owner}/{repo}/pulls/{pull_number}"
    whole = contract.complete(pull, 200, {"number": 1, "state": "open"})
    assert contract.check_answer(pull, 200, whole) == []
    for wrong in ({"state": "merged"}, {"number": "1"}, {"surprise": 1}, {"merged_at": "yesterday"}):
        assert contract.check_answer(pull, 200, whole | wrong), wrong
    assert contract.check_answer(pull, 200, {k: v for k, v in whole.items() if k != "mergeable"})
    assert contract.check_answer(pull, 418, {})
