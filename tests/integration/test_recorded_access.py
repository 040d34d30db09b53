"""Access is recorded: operations, refusals and emergencies are events; a second person is told."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from coordination.api.coord import Coord
from coordination.api.landing import LandOptions
from coordination.api.machine import examine
from coordination.backend.client import Profile, connect
from coordination.backend.server_check import Severity
from coordination.environment import acting_for
from coordination.errors import Conflict, MissingRight, NotAllowed, Unreachable, UsageError
from coordination.events.records import Event
from coordination.events.stream import EventStream
from coordination.models import Verdict
from coordination.operations.doctor import findings
from coordination.runs.cleanup_jobs import Artifact, Kind
from coordination.runs.maintenance.cleaning import Survey
from coordination.runs.maintenance.notifier import notice_of
from coordination.trust.administration import TrustEditor
from coordination.trust.keys import new_key
from coordination.trust.rights import RIGHTS, Right, Role
from tests.change_sets import record
from tests.testbed import git

REASON = "api is down \x1b[31m, operators are away"


@pytest.fixture
def editor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TrustEditor:
    """A trust file with anna, whose key this process has."""
    folder = tmp_path / "config" / "coord"
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("COORD_NOTIFY_COMMAND", f"cat >>{tmp_path}/told")
    editor = TrustEditor(folder / "trust.yaml")
    editor.add(new_key(folder / "identity", "anna").public_key)
    return editor


@pytest.fixture
def coord(tmp_path: Path, redis_url: str, editor: TrustEditor) -> Iterator[Coord]:
    git(tmp_path, "init", "-q", "-b", "main", str(tmp_path / "api"))
    git(tmp_path / "api", "commit", "-q", "--allow-empty", "-m", "first")
    todos = [
        {"id": "TODO-001", "task": "Wait", "repo": "api", "plan": "PLAN-001", "action": "true", "gate": True}
    ]
    plans = [{"id": "PLAN-001", "title": "Plan", "status": "active"}]
    file = tmp_path / "ecosystem.yaml"
    repos = [{"name": "api", "path": "api", "qa": "true"}]
    file.write_text(yaml.safe_dump({"repos": repos, "coordination": {"plans": plans, "todos": todos}}))
    with Coord(file, redis_url) as opened:
        yield opened


def recorded(coord: Coord) -> list[Event]:
    with connect(coord.redis_url, Profile.COMMAND) as client:
        found = EventStream(client, coord.settings.namespace).latest(100)
    return [event for event in found if event.kind.startswith("access.")]


def test_orders_approvals_and_refusals_are_in_the_events_with_their_person(coord: Coord, editor: TrustEditor):
    editor.grant("anna", Role.SUBMITTER, ["api"])
    run = coord.runs.sweep("PLAN-001")
    with pytest.raises(MissingRight, match="approve for api"):
        coord.runs.approve("TODO-001", run=run.id)
    with pytest.raises(MissingRight, match="approve for api"):
        coord.runs.reject("TODO-001")
    editor.grant("anna", Role.APPROVER, ["api"])
    coord.runs.reject("TODO-001", run=run.id)

    sweep, refused, again, reject = recorded(coord)
    key = coord.trust.identity().fingerprint
    assert (sweep.kind, sweep.actor, sweep.run, sweep.repos) == ("access.granted", "anna", run.id, ("api",))
    assert (
        sweep.data.items()
        >= {"operation": "sweep", "right": "sweep", "principal": "person", "key": key}.items()
    )
    assert "break_glass" not in sweep.data
    assert (refused.kind, refused.actor, refused.data["operation"]) == ("access.refused", "anna", "approve")
    assert (again.kind, again.data["right"]) == ("access.refused", "approve")
    assert (reject.kind, reject.data["operation"]) == ("access.granted", "reject")


def test_what_goes_on_without_a_safeguard_needs_the_right_to_override(
    coord: Coord, editor: TrustEditor, monkeypatch: pytest.MonkeyPatch
):
    def complete() -> None:
        coord.manager.update_plan("PLAN-001", {"status": "completed"}, force=True, reason="agreed")

    def land() -> None:
        coord.landings.land("PLAN-001", no_qa=True)

    def clean() -> None:
        coord.runs.clean(survey)

    def accept() -> None:
        coord.landings.land("PLAN-001", accept=["TODO-001"])

    def accept_where_nothing_lands() -> None:
        prepared = coord.landings.prepare("PLAN-001", LandOptions(accept=("TODO-001",)))
        coord.landings.check_completed(replace(prepared, graph=None))

    def stranger() -> None:
        coord.landings.land("PLAN-002", repos=["api"])

    def sweep() -> None:
        coord.runs.sweep("PLAN-002", accept=["PLAN-002"])

    copy = Artifact(run="20260101-000000-aaaa", kind=Kind.BRANCH, repo="api", path="api", unmerged=True)
    survey = Survey(found=(copy,), runs={}, silent=(), absent=())
    commit = git(coord.path.parent / "api", "rev-parse", "HEAD")
    editor.grant("anna", Role.OPERATOR)
    other = {"id": "TODO-002", "task": "Wait", "repo": "web", "plan": "PLAN-002", "action": "true"}
    document = yaml.safe_load(coord.path.read_text())
    document["repos"].append({"name": "web", "path": "web"})
    document["coordination"]["plans"].append({"id": "PLAN-002", "title": "Another"})
    document["coordination"]["todos"].append(other)
    coord.path.write_text(yaml.safe_dump(document))
    coord.manager.complete_todo("TODO-001")
    with coord.reached() as connection:
        facts = {"tip": commit, "base": commit, "host": ""}
        for plan in ("PLAN-001", "PLAN-002"):
            record(connection.redis, plan, "api", namespace=coord.settings.namespace, **facts)
    monkeypatch.setitem(RIGHTS, Role.OPERATOR, RIGHTS[Role.OPERATOR] | {Right.ADMINISTER})  # type: ignore[arg-type]
    operations = (complete, land, clean, accept, accept_where_nothing_lands, stranger, sweep)
    for operation in operations:
        with pytest.raises(MissingRight, match="override"):
            operation()
    refused = [event.data["right"] for event in recorded(coord) if event.kind == "access.refused"]
    assert refused == ["override"] * len(operations)
    with coord.reached() as connection:
        assert connection.redis.hgetall(connection.keys.commits) == {}, "nothing is accepted"

    editor.grant("anna", Role.ADMIN)
    complete()
    with pytest.raises(Unreachable):  # no worker is there
        clean()


def test_a_server_that_acts_for_a_person_records_the_person_and_signs_nothing_for_them(
    coord: Coord, editor: TrustEditor
):
    """Else one person could order as the server and approve as themselves, where two persons are required."""
    editor.grant("anna", Role.ADMIN)
    editor.add(new_key(editor.path.parent / "bert", "bert").public_key, roles=[Role.APPROVER])
    signed = coord.runs.sweep("PLAN-001")
    with acting_for("bert"):
        coord.runs.approve("TODO-001", run=signed.id)

    _, approved = recorded(coord)
    assert (approved.kind, approved.actor) == ("access.granted", "bert")
    assert approved.data.items() >= {"operation": "approve", "principal": "person", "key": ""}.items()
    view = signed.with_signatures(signed.view())
    assert (view.signed_by, view.unsigned) == ("anna", ("the approval of TODO-001",))


def test_an_approval_is_refused_if_the_todo_changed_after_it_was_shown(coord: Coord, editor: TrustEditor):
    editor.grant("anna", Role.APPROVER)
    run = coord.runs.sweep("PLAN-001")
    named, subject = coord.runs.review("TODO-001")
    assert subject is not None
    assert named == run.id
    assert next(iter(subject.lines)) == f"TODO-001 of run {run.id}: Wait"
    with pytest.raises(Conflict, match="changed since"):
        coord.runs.decide(Verdict.APPROVE, "TODO-001", reviewed=replace(subject, heads={"api": "1" * 40}))
    assert coord.runs.decide(Verdict.APPROVE, "TODO-001", reviewed=subject).subject == subject


def test_an_emergency_is_told_at_once_and_marks_what_follows(
    coord: Coord, editor: TrustEditor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    with pytest.raises(NotAllowed, match="emergency"):
        coord.trust.break_glass(REASON)
    editor.grant("anna", Role.BREAK_GLASS)
    with pytest.raises(MissingRight):
        coord.runs.sweep("PLAN-001")
    found = coord.trust.break_glass(REASON)

    told = json.loads((tmp_path / "told").read_text())
    declared = recorded(coord)[-1]
    notice = notice_of(declared)
    assert notice is not None
    assert (told["event"], told["id"]) == (notice.event, declared.id) == ("access.break_glass", notice.id)
    assert told["title"].startswith("anna until ")
    assert "\x1b" not in told["title"] + notice.title
    assert (declared.actor, declared.subject) == ("anna", found.id)

    run = coord.runs.sweep("PLAN-001")
    with pytest.raises(MissingRight, match="approve"):
        coord.runs.approve("TODO-001", run=run.id)
    sweep = next(event for event in recorded(coord) if event.data.get("operation") == "sweep" and event.run)
    assert sweep.data["break_glass"] == found.id
    assert coord.trust.end_break_glass()
    with pytest.raises(MissingRight):
        run.cancel()


def test_an_edit_of_the_trust_file_is_an_event(coord: Coord):
    coord.trust.grant("anna", Role.VIEWER)

    (event,) = recorded(coord)
    assert (event.kind, event.subject, event.data["operation"]) == ("access.trust", "anna", "grant")
    assert event.data["host"]


def test_no_emergency_without_somebody_who_is_told(
    coord: Coord, editor: TrustEditor, monkeypatch: pytest.MonkeyPatch
):
    editor.grant("anna", Role.BREAK_GLASS)
    monkeypatch.delenv("COORD_NOTIFY_COMMAND")
    with Coord(coord.path, coord.redis_url) as silent, pytest.raises(UsageError, match="notify_command"):
        silent.trust.break_glass(REASON)

    assert recorded(coord) == []


def test_doctor_reports_identity_trust_file_and_signatures(
    coord: Coord, editor: TrustEditor, monkeypatch: pytest.MonkeyPatch
):
    machine = examine(coord).machine
    assert machine.trust.identity == coord.trust.identity().fingerprint
    assert (machine.trust.name, machine.trust.trust_file, machine.trust.principals) == (
        "anna",
        str(editor.path),
        1,
    )
    assert machine.trust.warnings == (("anna has no role", "coord trust grant anna ROLE"),)
    assert machine.signatures == "off"

    editor.path.chmod(0o666)
    monkeypatch.setenv("COORD_SIGNATURES", "require")
    with Coord(coord.path, coord.redis_url) as again:
        facts = examine(again)
    assert facts.machine.signatures == "require"
    assert any(
        "trust file" in finding.what and finding.severity is Severity.WRONG for finding in findings(facts)
    )
