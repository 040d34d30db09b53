"""Issues of the file and of forges, synchronised: both ways, conflicts, crashes, refusals, hostile texts."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from coordination import Coord
from coordination.api import IssueAction, IssueResult, IssueSyncOptions, Side
from coordination.cli import app
from coordination.credentials.records import Purpose
from coordination.errors import CoordinationError, NotAllowed, NotFound, PlanRefused
from coordination.forges.issues import GitHubIssues
from coordination.locks.request import ISSUES
from coordination.models import Issue, IssueStatus
from coordination.tracker.manager import CoordinationManager
from tests.agent import agent_of
from tests.forge.records import Issue as TheirIssue
from tests.forge.server import TestForge

HEAD = "# Our issues.   Keep this line.\n"


class Site(SimpleNamespace):
    """A file with issues of one repository, at a forge."""

    coord: Coord
    forge: TestForge

    def sync(self, **options: Any) -> dict[str, IssueResult]:
        """Synchronise; return the results by the id in the file, else by that at the forge."""
        self.report = self.coord.issues.sync(IssueSyncOptions(**options))
        return {one.issue or one.forge: one for one in self.report.results}

    def actions(self, **options: Any) -> dict[str, str]:
        return {name: one.action.value for name, one in self.sync(**options).items()}

    def issue(self, name: str) -> Issue:
        return self.coord.manager.get_issue(name)

    def set(self, name: str, **fields: Any) -> None:
        self.coord.manager.update_issue(name, fields)

    @property
    def theirs(self) -> list[TheirIssue]:
        return self.project.issues

    def open(self, title: str, body: str = "", **more: Any) -> TheirIssue:
        core = self.forge.core
        shared = self.forge.dialect.name != "gitlab"
        return core.open_issue(
            self.project, core.person("ann"), title=title, body=body, shared=shared, **more
        )


@pytest.fixture
def site(forge: TestForge, redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    token, project = forge.token("coord"), forge.create_project("acme/api")
    address = {"type": forge.dialect.name, "api": forge.api}
    url = forge.url("acme/api", "coord:x")
    issues = [
        {"id": "I-1", "title": "It breaks", "description": "Often", "repos": ["api"], "labels": ["bug"]},
        {"id": "I-2", "title": "It is slow", "repos": ["api"], "assignee": "ann"},
        {"id": "I-3", "title": "Done before", "status": "closed", "repos": ["api"]},
        {"id": "I-4", "title": "Of no repository"},
        {"id": "I-5", "title": "Without a forge", "repos": ["local"]},
    ]
    file = {
        "settings": {"namespace": "test"},
        "repos": [{"name": "api", "url": url, "forge": address}, {"name": "local"}],
        "coordination": {"issues": issues},
    }
    path = tmp_path / "ecosystem.yaml"
    path.write_text(HEAD + yaml.safe_dump(file, sort_keys=False))
    secret = tmp_path / "token"
    secret.write_text(token)
    secret.chmod(0o600)
    with Coord(tmp_path, redis_url) as coord:
        coord.credentials.add("forge", f"file:{secret}", purposes=[Purpose.PR], hosts=["127.0.0.1"])
        yield Site(coord=coord, forge=forge, project=project, path=path, token=token, report=None)
    assert token not in path.read_text()


@pytest.mark.parametrize("forge", ["github", "gitlab", "gitea"], indirect=True)
def test_both_sides_get_what_the_other_has_changed(site: Site):
    before = site.path.read_bytes()
    assert site.actions(dry_run=True) == {"I-1": "would_create", "I-2": "would_create"}
    assert (site.path.read_bytes(), site.theirs) == (before, [])

    assert site.actions() == {"I-1": "created", "I-2": "created"}
    first, second = site.theirs
    assert (first.title, first.labels, [one.login for one in second.assignees]) == (
        "It breaks", ["bug"], ["ann"],
    )  # fmt: skip
    assert site.path.read_text().startswith(HEAD)
    link = site.issue("I-1").forge
    assert link is not None
    assert link.id == f"{site.forge.dialect.name}:127.0.0.1/acme/api#{first.number}"
    assert link.marker is None
    written = site.path.read_bytes()
    assert set(site.actions().values()) == {"unchanged"}
    assert site.path.read_bytes() == written, "nothing is written where nothing has changed"

    site.set("I-1", title="It breaks often", status="resolved")
    first.labels = ["bug", "coord"]
    second.title, second.is_open, second.body = "Slow", False, "Because"
    other = site.open("From a person", labels=["coord"])
    results = site.sync()
    assert (results["I-1"].to_forge, results["I-1"].to_file) == (("title", "status"), ("labels",))
    assert (first.title, first.is_open, site.issue("I-1").labels) == (
        "It breaks often", False, ("bug", "coord"),
    )  # fmt: skip
    assert site.issue("I-1").status is IssueStatus.RESOLVED
    slow = site.issue("I-2")
    assert (slow.title, slow.status, slow.description) == ("Slow", IssueStatus.CLOSED, "Because")
    assert site.report.not_pulled == 1

    pulled = site.sync(pull=True)
    (name,) = [one for one, found in pulled.items() if found.action is IssueAction.PULLED]
    assert (site.issue(name).title, site.issue(name).repos) == ("From a person", ("api",))
    other.is_open = False
    second.is_open = True
    assert set(site.actions(pull=True).values()) == {"updated", "unchanged"}
    assert (site.issue(name).status, site.issue("I-2").status) == (
        IssueStatus.CLOSED, IssueStatus.PENDING,
    )  # fmt: skip
    assert len(site.theirs) == 3


@pytest.mark.parametrize("prefer", list(Side))
def test_where_both_have_changed_a_field_the_preferred_side_wins_and_both_values_are_told(
    site: Site, prefer: Side
):
    site.sync()
    site.set("I-1", title="Mine")
    site.theirs[0].title = "Theirs"
    (conflict,) = site.sync(prefer=prefer)["I-1"].conflicts
    assert (conflict.field, conflict.file, conflict.forge, conflict.kept) == (
        "title", "Mine", "Theirs", prefer,
    )  # fmt: skip
    won = "Mine" if prefer is Side.FILE else "Theirs"
    assert (site.issue("I-1").title, site.theirs[0].title) == (won, won)
    assert site.actions()["I-1"] == "unchanged"


def test_a_crash_after_the_creation_leads_to_no_second_issue(site: Site, monkeypatch: pytest.MonkeyPatch):
    def dies(*given: Any) -> Any:
        original(*given)
        raise KeyboardInterrupt

    original = GitHubIssues.create_issue
    with monkeypatch.context() as patch:
        patch.setattr(GitHubIssues, "create_issue", dies)
        patch.setattr("coordination.changes.issues.sync.RepoIssues._write", lambda _: None)
        with pytest.raises(KeyboardInterrupt):
            site.sync()
    assert (len(site.theirs), site.issue("I-1").forge.id) == (1, None)  # type: ignore[union-attr]
    site.theirs[0].title = "Renamed meanwhile"
    results = site.sync()
    assert results["I-1"].action is IssueAction.LINKED
    assert [one.forge for one in results["I-1"].conflicts] == ["Renamed meanwhile"]
    assert len(site.theirs) == 2
    site.forge.fail("lost", only="POST .*/issues")
    site.coord.manager.create_issue(id="I-9", title="Lost answer", repos=["api"])
    assert site.actions()["I-9"] == "failed"
    assert site.actions()["I-9"] == "linked"
    assert [one.title for one in site.theirs].count("Lost answer") == 1


def test_an_edit_of_the_file_in_the_middle_is_not_overwritten(site: Site, monkeypatch: pytest.MonkeyPatch):
    site.sync()
    site.theirs[0].title = "Theirs"
    writes = CoordinationManager.write_issues

    def meanwhile(self: CoordinationManager, *given: Any) -> Any:
        CoordinationManager(self.document).update_issue("I-1", {"title": "A person's"})
        return writes(self, *given)

    with monkeypatch.context() as patch:
        patch.setattr(CoordinationManager, "write_issues", meanwhile)
        site.sync()
    assert site.issue("I-1").title == "A person's"
    assert len(site.sync()["I-1"].conflicts) == 1
    assert site.theirs[0].title == "A person's"


def test_one_synchronisation_works_at_a_time(site: Site):
    with site.coord.locks.acquire(ISSUES, wait=timedelta(0)), pytest.raises(CoordinationError) as refused:
        site.sync()
    assert refused.value.exit_code == 6
    assert site.theirs == []


def test_a_deleted_issue_is_told_and_the_others_go_on(site: Site):
    site.sync()
    site.forge.core.delete_issue(site.project, site.theirs[0].number)
    site.theirs[0].title = "Slower"
    results = site.sync()
    assert (results["I-1"].action, results["I-1"].code) == (IssueAction.FAILED, NotFound.exit_code)
    assert site.issue("I-2").title == "Slower"
    site.set("I-1", forge=None)
    assert site.actions()["I-1"] == "created"


def test_trouble_of_the_forge_loses_nothing(site: Site):
    def code(trouble: Callable[[], object], mend: Callable[[], object]) -> int:
        trouble()
        before = site.path.read_bytes()
        (failed,) = {one.code for one in site.sync(pull=True).values()}
        mend()
        assert site.path.read_bytes() == before
        assert all(site.token not in one.error for one in site.report.results)
        return failed

    site.sync()
    faults, project = site.forge.faults, site.project
    secondary = lambda: site.forge.fail("secondary", times=9, retry_after=4000)  # noqa: E731
    assert code(lambda: site.forge.fail("hostile", only="GET"), faults.clear) == 1
    assert code(lambda: site.forge.fail("broken", only="GET"), faults.clear) == 7
    assert (
        code(lambda: setattr(project, "has_issues", False), lambda: setattr(project, "has_issues", True)) == 2
    )
    members = dict(project.members)
    assert code(project.members.clear, lambda: project.members.update(members)) == 2
    token = site.forge.core.tokens[site.token]
    assert code(lambda: setattr(token, "revoked", True), lambda: setattr(token, "revoked", False)) == 4
    assert code(secondary, faults.clear) == 5

    site.set("I-1", title="Changed")
    project.archived = True
    assert site.sync()["I-1"].code == 4
    project.archived = False
    assert site.actions()["I-1"] == "updated"
    assert site.theirs[0].title == "Changed"


def test_hostile_texts_come_into_the_file_as_texts(site: Site):
    site.sync()
    hostile = "x: &a [1\x1b[2J\n- *a\t!!python/object:os.system {{ \u202e # '\"%\n---\n...\n\ud800\x00end"
    site.theirs[0].title, site.theirs[0].body = hostile, hostile
    site.theirs[1].body = "y" * 65_537
    site.open("true", "2026-01-01", labels=["bug"])
    results = site.sync(pull=True)
    assert results["I-2"].code == 2, "a text that is too long is refused, not cut"
    found = yaml.safe_load(site.path.read_text())["coordination"]["issues"]
    assert site.path.read_text().startswith(HEAD)
    assert found[0]["title"].startswith("x: &a [1[2J - *a !!python/object:os.system")
    assert found[0]["description"].endswith("---\n...\nend")
    assert (found[1]["title"], found[-1]["title"], found[-1]["description"]) == (
        "It is slow", "true", "2026-01-01",
    )  # fmt: skip
    site.theirs[1].body = ""
    assert set(site.actions(pull=True).values()) == {"unchanged"}


def test_what_the_forge_does_not_know_is_refused_for_that_issue_only(site: Site):
    site.set("I-1", labels=["not there"])
    site.set("I-2", description="z" * 65_537)
    site.coord.manager.create_issue(id="I-9", title="Good", repos=["api", "local"])
    results = site.sync()
    assert {name: one.code for name, one in results.items()} == {"I-1": 2, "I-2": 2, "I-9": 0}
    site.set("I-1", labels=[])
    site.set("I-2", description="")
    assert site.actions() == {"I-1": "created", "I-2": "created", "I-9": "unchanged"}


def test_a_token_that_may_only_read_says_what_was_left_out(site: Site):
    site.project.members[site.forge.core.person("coord")] = "read"
    found = site.sync()["I-1"]
    assert (found.action, found.code) == (IssueAction.CREATED, 4)
    assert "labels" in found.error
    site.project.members[site.forge.core.person("coord")] = "write"
    assert site.sync()["I-1"].to_forge == ("labels",)
    assert site.issue("I-1").labels == ("bug",)


def test_repositories_are_named_or_refused(site: Site):
    with pytest.raises(NotFound):
        site.sync(repos=("apo",))
    with pytest.raises(PlanRefused):
        site.sync(repos=("local",))
    site.sync(repos=("api",))
    site.set("I-1", repos=["local"])
    assert site.sync()["I-1"].code == 2


def test_without_the_right_to_edit_nothing_is_changed(
    site: Site, redis_url: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("COORD_SIGNATURES", "require")  # and there is no trust file
    with Coord(site.path, redis_url) as coord, pytest.raises(NotAllowed):
        coord.issues.sync()
    assert site.theirs == []


def test_the_command_prints_conflicts_without_control_characters(
    site: Site, redis_url: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    def typed(*words: str) -> tuple[object, str, str]:
        with pytest.raises(SystemExit) as ended:
            app.run(["--redis", redis_url, "--ecosystem", str(site.path), "issue", "sync", *words])
        return ended.value.code, *capfd.readouterr()

    assert typed()[0] == 0
    site.set("I-1", title="Mine \x1b[2J", description="m" * 9000)
    site.theirs[0].title, site.theirs[0].body = "Theirs", "t" * 9000
    code, out, err = typed("--repo", "api", "--dry-run")
    assert (code, "would update" in out, site.theirs[0].title) == (0, True, "Theirs")
    assert "\x1b[2J" not in out + err
    assert "Mine" in err
    assert "Theirs" in err
    assert len(err) < 1000
    assert json.loads(typed("--json")[1])["results"][0]["conflicts"][1]["forge"] == "t" * 9000


def test_an_agent_synchronises_sees_hostile_conflicts_shortened_and_nothing_of_what_is_equal(
    site: Site, redis_url: str
):
    with agent_of(site.path, redis_url) as ai:
        assert [one["action"] for one in ai.call("coord_issue_sync", dry_run=True)["results"]] == [
            "would_create", "would_create",
        ]  # fmt: skip
        assert site.theirs == []
        assert len(ai.call("coord_issue_sync", repos="api")["results"]) == len(site.theirs) == 2
        again = ai.call("coord_issue_sync")
        assert (again["results"], again["unchanged"], again["left_out"]) == ([], 2, {})
        site.set("I-1", title="Mine", description="m" * 9000)
        site.theirs[0].title, site.theirs[0].body = "\x1b[2J\ud800", "t" * 9000
        first = ai.call("coord_issue_sync", prefer="forge", dry_run=True, limit=1)
        (one,) = first["results"]
        assert (one["action"], one["to_file"]) == ("would_update", ["title", "description"])
        assert [len(found["forge"]) for found in one["conflicts"]] == [3, 500]
        assert "is not known" in ai.refused("coord_issue_sync", repos=["local"])
        site.project.archived = True
        assert {one["code"] for one in ai.call("coord_issue_sync")["results"]} == {4}
