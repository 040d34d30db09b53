"""The client of GitHub against `emulate`, a server that others wrote after GitHub (npm; `make forge-tools`).

What it gets right is asked of it as of GitHub. It has no git transport, GraphQL, commit statuses, rules of
branches, ETags, or issues of requests, and takes any token. The last test lists what it gets wrong otherwise.
"""

from __future__ import annotations

import base64
import subprocess
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import httpx2
import pytest
import yaml

from coordination.forges.connect import ForgeClients
from coordination.forges.errors import ForgeError, ForgeProblem
from coordination.forges.forge import Forge
from coordination.forges.locate import ForgeAddress
from coordination.forges.models import ForgeType, MergeMethod, NewRequest, RequestChanges, RequestState
from tests.forge.tools import EMULATE, NODE
from tests.ports import free_port

TOKEN, PROJECT = "test_token_admin", "admin/api"
SEED = {
    "tokens": {TOKEN: {"login": "admin", "scopes": ["repo"]}},
    "github": {
        "users": [{"login": "admin"}, {"login": "ann"}],
        "repos": [{"owner": "admin", "name": "api", "auto_init": True}],
    },
}
pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(
        NODE is None or not EMULATE.exists(), reason="emulate is not installed: make forge-tools"
    ),
]


@pytest.fixture
def web(tmp_path: Path) -> Iterator[httpx2.Client]:
    seed, port = tmp_path / "seed.yaml", free_port()
    seed.write_text(yaml.safe_dump(SEED))
    options = ("--service", "github", "--port", str(port), "--seed", str(seed))
    headers = {"authorization": f"Bearer {TOKEN}"}
    with (
        subprocess.Popen([str(NODE), str(EMULATE), "start", *options], stdout=subprocess.DEVNULL) as process,
        httpx2.Client(base_url=f"http://127.0.0.1:{port}", headers=headers) as client,
    ):
        try:
            deadline = time.monotonic() + 60
            while not _answers(client):
                assert process.poll() is None, "it has ended"
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
    opened = ForgeClients(spender=lambda _: lambda: None, patience=timedelta(seconds=5)).open(address, TOKEN)
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


def test_what_it_answers_otherwise_than_github(web: httpx2.Client, forge: Forge):
    """A change here means that a newer version can be asked for more above."""
    at = f"/repos/{PROJECT}"
    absent = {"head": "absent", "base": "main", "title": "Absent"}
    assert web.post(f"{at}/pulls", json=absent).status_code == 201, "GitHub: 422, the head is invalid"
    commit(web, "one")
    one, two = (
        web.post(f"{at}/pulls", json={"head": "one", "base": "main", "title": title}) for title in ("1", "2")
    )
    assert (one.status_code, two.status_code) == (201, 201), "GitHub: 422, there is one already"
    own = web.post(f"{at}/pulls/{one.json()['number']}/reviews", json={"event": "APPROVE"})
    assert own.is_success, "GitHub: 422, nobody approves a request of their own"
    wrong = web.put(f"{at}/pulls/{one.json()['number']}/merge", json={"sha": "a" * 40})
    assert wrong.status_code == 422, "GitHub: 409"
    merged = web.put(f"{at}/pulls/{one.json()['number']}/merge", json={})
    assert merged.status_code == 200
    again = web.put(f"{at}/pulls/{one.json()['number']}/merge", json={})
    assert again.status_code == 422, "GitHub: 405"
    assert "etag" not in web.get(at).headers
    for path in ("statuses/" + "a" * 40, "rules/branches/main"):
        assert web.get(f"{at}/{path}").status_code == 404, "GitHub answers"
