"""A base branch at a remote, by `git http-backend` and by path: lost answers, logins, large files.

The suite of all pushes is in test_landing_pushes.py.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from coordination.git import base_tip
from tests.git_server import GitServer
from tests.landing_checkout import POINTER, LandingCheckout, fake_git_lfs
from tests.waiting import until
from tests.worktrees import git, save
from workers.credentials import askpass_variables
from workers.landing.records import BaseBranch, BaseTip, Pushed, Reason, Refused
from workers.landing.remote import look, may_push, push, refused_large_files


@pytest.fixture
def landing(checkout: Path) -> LandingCheckout:
    return LandingCheckout(checkout)


@pytest.fixture
def server(tmp_path: Path, landing: LandingCheckout) -> Iterator[GitServer]:
    with GitServer(tmp_path / "remotes") as server:
        server.create("api", seed=landing.path)
        yield server


BY_EACH = pytest.mark.parametrize("transport", ["http", "path"])


@pytest.fixture
def transport() -> str:
    return "path"


@pytest.fixture
def at(transport: str, server: GitServer, landing: LandingCheckout) -> BaseBranch:
    return landing.at_url(server.url("api") if transport == "http" else str(server.path("api")))


def somebody_pushes(server: GitServer, tmp_path: Path, subject: str = "theirs") -> str:
    """A commit of a person elsewhere, on the remote's main."""
    clone = tmp_path / subject
    git("clone", "-q", str(server.path("api")), str(clone), cwd=tmp_path)
    commit = save(clone, subject, **{subject: "1\n"})
    git("push", "-q", "origin", "HEAD:main", cwd=clone)
    return commit


def has(file: Path, text: str) -> bool:
    try:
        return text.encode() in file.read_bytes()
    except OSError:
        return False


def reason(found: object) -> Reason:
    assert isinstance(found, Refused), found
    assert found.error.isprintable()
    assert len(found.error) <= 1000
    return found.reason


@BY_EACH
def test_look_fetches_the_remotes_tip_and_moves_no_branch(at: BaseBranch, server: GitServer, tmp_path: Path):
    commit = somebody_pushes(server, tmp_path)
    local = git("for-each-ref", "refs/heads", "refs/remotes", cwd=at.path)

    assert look(at) == BaseTip(commit=commit)
    assert may_push(at, commit) is None
    assert git("show", f"{commit}:theirs", cwd=at.path) == "1"
    assert git("rev-parse", "refs/coord/remote/main", cwd=at.path) == commit
    assert git("for-each-ref", "refs/heads", "refs/remotes", cwd=at.path) == local


def test_readers_find_the_tip_of_a_base_branch_with_a_slash(server: GitServer, landing: LandingCheckout):
    remote = server.path("api")
    git("branch", "release/1", "main", cwd=remote)
    git("branch", "release/1", "coord/PLAN", cwd=landing.path)
    at = landing.at_url(str(remote), branch="release/1")
    seen = look(at)

    assert isinstance(seen, BaseTip)
    assert base_tip(at.path, at.branch, remote=True) == seen.commit
    assert base_tip(at.path, at.branch, remote=False) == landing.tip


def test_a_remote_that_prints_a_megabyte_is_cut(at: BaseBranch, server: GitServer, landing: LandingCheckout):
    made = landing.made(landing.since)
    server.hook("api", "pre-receive", "head -c 1000000 /dev/zero | tr '\\0' 'x'; exit 1")

    assert reason(push(at, made.commit, made.base)) is Reason.DECLINED


STATUS = {
    401: Reason.UNAUTHENTICATED, 403: Reason.FORBIDDEN, 404: Reason.NO_REPOSITORY,
    429: Reason.BUSY, 500: Reason.BUSY, 503: Reason.BUSY,
}  # fmt: skip


@pytest.mark.parametrize(("status", "wanted"), STATUS.items())
def test_answers_of_a_server_have_reasons(
    server: GitServer, landing: LandingCheckout, status: int, wanted: Reason
):
    at, made = landing.at_url(server.url("api")), landing.made(landing.since)
    server.answer("api", status, only="receive-pack")
    assert isinstance(look(at), BaseTip)
    assert reason(may_push(at, landing.since)) is wanted
    assert reason(push(at, made.commit, made.base)) is wanted
    server.answer("api", status)

    assert reason(look(at)) is wanted
    assert wanted.passes == (status >= 429)


def test_a_login_is_used_and_never_shown(server: GitServer, landing: LandingCheckout):
    made = landing.made(landing.since)
    server.behave("api", login="ann:s3cret")
    assert reason(may_push(landing.at_url(server.url("api")), landing.since)) is Reason.UNAUTHENTICATED
    found = push(landing.at_url(server.url("api", "ann:wr0ng")), made.commit, made.base)
    assert reason(found) is Reason.UNAUTHENTICATED
    assert "wr0ng" not in str(found)
    server.hook("api", "pre-receive", f"echo {server.url('api', 'ann:s3cret')}; exit 1")
    found = push(landing.at_url(server.url("api", "ann:s3cret")), made.commit, made.base)
    assert reason(found) is Reason.DECLINED
    assert "s3cret" not in str(found)


def test_a_credential_that_the_remote_prints_is_masked(
    server: GitServer, landing: LandingCheckout, tmp_path: Path
):
    (tmp_path / "secret").write_text("ghp_0123456789\n")
    variables = askpass_variables(tmp_path, "https://forge.example/api", tmp_path / "secret")
    server.hook("api", "pre-receive", "echo got ghp_0123456789; printf ghp_0123456789 | base64; exit 1")
    made = landing.made(landing.since)
    found = push(landing.at_url(server.url("api"), variables=variables), made.commit, made.base)

    assert reason(found) is Reason.DECLINED
    assert "got" in str(found)
    assert "ghp_0123" not in str(found)
    assert "Z2hwXzAxMjM0" not in str(found)


def test_a_push_whose_answer_was_lost_counts(server: GitServer, landing: LandingCheckout):
    at, made = landing.at_url(server.url("api")), landing.made(landing.since)
    server.behave("api", breaks_off=True)

    assert isinstance(push(at, made.commit, made.base), Pushed)
    assert server.tip("api") == made.commit


def test_a_remote_that_is_away_or_hangs_is_waited_for(server: GitServer, landing: LandingCheckout):
    at, made = landing.at_url(server.url("api"), patience=timedelta(seconds=1)), landing.made(landing.since)
    server.away = True
    assert reason(look(at)) is Reason.NETWORK
    assert reason(push(at, made.commit, made.base)) is Reason.NETWORK
    server.away = False
    server.behave("api", hangs=True)
    began = time.monotonic()
    assert reason(look(at)) is Reason.NETWORK
    assert time.monotonic() - began < 30
    assert server.hanging.is_set()
    until(lambda: not any(has(file, at.url) for file in Path("/proc").glob("[0-9]*/cmdline")))
    server.behave("api")

    assert push(landing.at_url(at.url), made.commit, made.base) == Pushed(base=made.commit)


BAD = {
    "no url": (lambda at, _: {"url": ""}, Reason.NO_URL),
    "a program": (lambda at, _: {"url": "ext::sh -c touch% hacked"}, Reason.FORBIDDEN),
    "no such path": (lambda at, folder: {"url": str(folder / "nowhere")}, Reason.NETWORK),
    "no such branch": (lambda at, _: {"branch": "gone"}, Reason.NO_BRANCH),
    "an option": (lambda at, _: {"branch": "--upload-pack=touch hacked"}, Reason.NO_BRANCH),
    "a dash": (lambda at, _: {"branch": "-d"}, Reason.NO_BRANCH),
    "an url like an option": (lambda at, _: {"url": "--upload-pack=touch hacked"}, Reason.NO_REPOSITORY),
}


@pytest.mark.parametrize(("change", "wanted"), BAD.values(), ids=BAD)
def test_a_base_branch_that_cannot_be_is_refused(
    server: GitServer, landing: LandingCheckout, tmp_path: Path, change, wanted: Reason
):
    at = landing.at_url(str(server.path("api")))
    at = landing.at_url(**{"url": at.url, **change(at, tmp_path)})
    made = landing.made(landing.since)

    for found in (look(at), push(at, made.commit, made.base)):
        assert reason(found) is wanted
    if wanted is not Reason.NO_BRANCH or at.branch.startswith("-"):
        assert reason(may_push(at, landing.since)) is wanted
    assert not list(tmp_path.rglob("hacked"))


def test_a_shallow_clone_lands_where_its_history_suffices(
    server: GitServer, landing: LandingCheckout, tmp_path: Path
):
    url = server.url("api")
    git("clone", "-q", "--depth=1", url, str(tmp_path / "shallow"), cwd=tmp_path)
    (tmp_path / "shallow/extra").write_text("1")
    shallow = LandingCheckout(tmp_path / "shallow", url)
    git("push", "-q", url, f"{shallow.since}:main", cwd=shallow.path)
    theirs = somebody_pushes(server, tmp_path)
    assert look(shallow.at) == BaseTip(commit=theirs)
    made = shallow.made(theirs)

    assert push(shallow.at, made.commit, theirs) == Pushed(base=made.commit)


def test_hooks_of_the_checkout_do_not_run(at: BaseBranch, landing: LandingCheckout):
    made = landing.made(landing.since)
    for name in ("pre-push", "reference-transaction", "post-commit"):
        hook = at.path / ".git/hooks" / name
        hook.write_text("#!/bin/sh\ntouch ../hooked hooked\nexit 1\n")
        hook.chmod(0o755)

    assert isinstance(push(at, made.commit, made.base), Pushed)
    assert not list(at.path.parent.rglob("hooked"))


LFS = {
    "uploads": ("", None),
    "missing": ("git: 'lfs' is not a git command. See 'git --help'.", Reason.LARGE_FILES),
    "lacks a file": ("hint: rejected due to missing or corrupt local objects.", Reason.LARGE_FILES),
    "away": ("batch request: dial tcp 127.0.0.1:9: connect: connection refused", Reason.NETWORK),
}


@pytest.mark.parametrize(("said", "wanted"), LFS.values(), ids=LFS)
def test_files_of_git_lfs_are_uploaded_before_a_push_or_nothing_is_pushed(
    at: BaseBranch, landing: LandingCheckout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str,
    wanted: Reason | None,
):  # fmt: skip
    called = fake_git_lfs(tmp_path, monkeypatch, says=said)
    plain = landing.made(landing.since)
    git("switch", "--quiet", "coord/PLAN", cwd=at.path)
    tip = save(at.path, "a large file", large=POINTER)
    git("switch", "--quiet", "main", cwd=at.path)
    made = landing.made(landing.since, tip=tip)

    assert refused_large_files(at, plain.commit, plain.base) is None
    assert not called.exists(), "where there are no large files, nothing is asked"
    for found in (refused_large_files(at, made.commit, made.base), push(at, made.commit, made.base)):
        assert (found.reason if isinstance(found, Refused) else None) is wanted
    assert (look(at) == BaseTip(commit=made.commit)) is (wanted is None)
    url = f"file://{at.url}" if at.url.startswith("/") else at.url
    lines = called.read_text().splitlines()
    assert lines == ["version", f"pre-push {url} {url}", f"{at.ref} {made.commit} {at.ref} {made.base}"]


def test_a_remote_folder_that_may_not_be_written_is_found_beforehand(
    server: GitServer, landing: LandingCheckout, monkeypatch: pytest.MonkeyPatch
):
    at = landing.at_url(str(server.path("api")))
    monkeypatch.setattr("os.access", lambda path, _mode: "objects" not in str(path))

    assert reason(may_push(at, landing.since)) is Reason.FORBIDDEN
