"""With a trust file, each operation that changes something refuses a user without its right. Commands,
agents, the dashboard and scripts call the same operations.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
import yaml

from coordination.api.authority import NEEDS, NEEDS_OF_SCRIPTS
from coordination.api.coord import Coord
from coordination.api.fields import (
    DependencyFields,
    IssueFields,
    NewDependency,
    NewIssue,
    NewPlan,
    NewTodo,
    PlanFields,
    TodoFields,
)
from coordination.api.requests import PreparedFix
from coordination.api.texts import PARTS, owner_of
from coordination.backend.client import Profile, connect
from coordination.backend.embedded import EmbeddedServer
from coordination.backend.keys import Keys
from coordination.changes.requests.records import RequestOptions
from coordination.cli import app
from coordination.dashboard import access as dashboard
from coordination.declared import Effect, find
from coordination.errors import MissingRight
from coordination.events.stream import EventStream
from coordination.gateway import app as gateway
from coordination.locks.listing import Held
from coordination.models import ServiceStep, Verdict, Via
from coordination.operation_index import INDEX
from coordination.planner.proposal import proposal_of
from coordination.planner.selection import ALL as ALL_REPOS
from coordination.runs.change_sets.records import Landed, RequestRef
from coordination.runs.cleanup_jobs import Artifact, Kind
from coordination.runs.maintenance.cleaning import Survey
from coordination.tracker.manager import CoordinationManager
from coordination.trust.administration import TrustEditor
from coordination.trust.keys import new_key
from coordination.trust.rights import OPERATIONS, Right, Role, right_of
from coordination.trust.trust_file import trust_path
from tests.testbed import git

READS = {
    "": "announce announce_checks answering append_events ask_live at_once changed_folders close "
    "detach ensure_worker executing live_asking may_have_runs reached refuse_replacing restarted "
    "running_redis start_worker",
    "changes": "plan_adoption plan_discard plan_fresh",
    "checks": "heads prepare write_junit",
    "commands": "outputs prepare",
    "context": "__call__",
    "context()": "get list",
    "credentials": "names_for_webhooks",
    "events": "follow position",
    "message": "recipient",
    "topic": "subscribe",
    "landings": "check_completed prepare prepare_revert preview",
    "machine": "acl_line check create_demo create_demo_of_agents examine file_schema flower_page "
    "new_ecosystem_id serve_metrics write_first_file",
    "manager": "chains_of check_paths get_blocking_issues get_dependency get_ecosystem_status get_issue "
    "get_plan get_repo get_repo_status get_todo list_dependencies list_issues list_plans "
    "list_repos list_todos look_again plan_todos unlanded_with validate_plan_completion what_goes",
    "memory": "close completed_by_hand get_coordination_trends learned search_coordination_history "
    "store_dependency_event store_issue_event store_plan_event store_todo_event",
    "planner": "forecast_graph preview progress with_durations with_finished",
    "pr": "prepare_fix refs",
    "proposals": "brief of_run prepare read why_refused",
    "run": "attempts branches commands_to_pull document events follow gantt lands_by_requests "
    "last_event last_lines log_pieces log_tail maintain max_parallel picture prepare_retry "
    "progress redis_is_full restore_preview signed_view status task tasks todo todo_diff "
    "todos_in_hand unserved with_signatures workers write_back",
    "runs": "events export get left_out prepare_execute prepare_sweep preview_sweep review stats survey "
    "workplaces",
    "services": "outcome prepare reserve_workers stop_here",
    "trust": "choose_ssh_key end_break_glass read worker_identity",
}
"""Methods without a declaration that change neither records nor runs nor shared values, and those for which
the permissions of the operating system are enough: files and processes of this machine, the own identity, the
trust file.
"""
STEPS = {
    "changes.discard_planned": "discard",
    "changes.record_adoption": "adopt",
    "checks.make_ready": "qa",
    "checks.start": "qa",
    "commands.make_ready": "execute",
    "commands.start": "execute",
    "landings.make_ready": "land",
    "landings.start": "land",
    "pr.conclude_fix": "pr.fix",
    "pr.start_fix": "pr.fix",
    "run.begin_accept": "accept",
    "run.begin_restore": "restore",
    "run.begin_rollback": "rollback",
    "run.retry": "retry",
    "run.rollback": "rollback",
    "run.start_retry": "retry",
    "run.undo_to": "restore",
    "runs.decide": "approve",
    "runs.make_ready": "sweep",
    "runs.start": "sweep",
    "services.begin": "service",
    **{f"manager.{name}_with_memory": "edit" for name in (
        "check_dependencies", "close_issue", "complete_todo", "create_issue", "create_todo", "update_issue",
    )},
}  # fmt: skip
"""Operations that are a part of another one, or another spelling of it."""
TOKENS = dict.fromkeys(
    ("dashboard.add_token", "dashboard.revoke_token", "gateway.grant_token", "gateway.revoke_token"),
    "credential",
)
"""Operations of the servers of this machine."""
ATTRIBUTES = {place: part for part, place in PARTS.items()}
CALLED = {
    f"{ATTRIBUTES[row.part]}.{find(row.part, name).function.__name__}": row for name, row in INDEX.items()
}
"""The declared operations, as a script calls them."""
DECLARED = {name: row.order for name, row in CALLED.items() if row.right != Right.READ}
GUARDED = {**{name: right for name, right in NEEDS.items() if name not in INDEX}, **DECLARED, **STEPS}
ALL = {**GUARDED, **TOKENS}


def operations_of(part: str) -> set[str]:
    owner = owner_of(part)
    found = inspect.getmembers(owner, inspect.isfunction)
    if inspect.ismodule(owner):
        found = [(name, one) for name, one in found if one.__module__ == owner.__name__]
    return {name for name, _ in found if not name.startswith("_") or name == "__call__"}


@pytest.mark.parametrize("part", PARTS)
def test_each_operation_needs_a_right_or_is_known_to_need_none(part: str):
    guarded = {name.rpartition(".")[2] for name in GUARDED if name.rpartition(".")[0] == part}
    declared = {name.rpartition(".")[2] for name in CALLED if name.rpartition(".")[0] == part} - guarded
    free = set(READS.get(part, "").split())

    assert operations_of(part) == guarded | free | declared, "declare it, or name it in NEEDS or READS"
    assert not guarded & free
    assert not declared & free, "its declaration says what it does"


def test_a_declared_operation_that_needs_no_right_changes_nothing_of_others():
    reading = {name: find(row.part, name).effect for name, row in INDEX.items() if row.right == Right.READ}
    assert not {name for name, effect in reading.items() if effect.writes and effect is not Effect.PRIVATE}


def test_each_right_is_one_that_roles_know():
    assert set(ALL.values()) <= OPERATIONS.keys()


EXECUTED = 'touch "$MARK"'
FILE = {
    "settings": {"agent_command": "true"},
    "repos": [
        {"name": "api", "path": "api", "url": "https://github.com/acme/api", "qa": "true"},
        {"name": "web", "path": "web"},
    ],
    "coordination": {
        "issues": [{"id": "ISSUE-001", "title": "It breaks", "repos": ["api"]}],
        "plans": [
            {"id": "PLAN-001", "title": "Now", "status": "active",
             "milestones": [{"id": "M1", "name": "Half"}]},
            {"id": "PLAN-002", "title": "Before", "status": "active"},
            {"id": "PLAN-003", "title": "Landed", "status": "active"},
            {"id": "PLAN-004", "title": "Judged", "status": "active", "repos": ["web"],
             "milestones": [{"id": "M4", "name": "All",
                             "completion_criteria": [{"text": "t", "check": EXECUTED}]}]},
        ],
        "todos": [
            {"id": "TODO-001", "task": "Wait", "repo": "api", "plan": "PLAN-001", "action": "true",
             "gate": True},
            {"id": "TODO-002", "task": "Do", "repo": "api", "plan": "PLAN-002", "status": "completed"},
            {"id": "TODO-005", "task": "Do too", "repo": "web", "plan": "PLAN-002", "status": "completed"},
            {"id": "TODO-003", "task": "Alone", "repo": "api", "action": "true"},
            {"id": "TODO-006", "task": "Done", "repo": "api", "plan": "PLAN-003", "status": "completed"},
        ],
        "dependencies": [
            {"id": "DEP-001", "consumer": "web", "provider": "api", "validation": {"command": EXECUTED}}
        ],
        "services": [{"name": "s", "repo": "api", "command": "sleep 1"}],
    },
}  # fmt: skip


FIX = PreparedFix(plan="PLAN-002", lacks=(), prompts={"api": "Repair it."}, records=None, graph=None)


class Place:
    """An ecosystem with a live run, an ended one and change sets, made before anybody was restricted."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder, self.file = folder, folder / "ecosystem.yaml"
        self.file.write_text(yaml.safe_dump(FILE))
        tips = {repo: self._checkout(folder / repo) for repo in ("api", "web")}
        self.coord = Coord(self.file, url)
        self.live = self.coord.runs.sweep("PLAN-001")
        self.live.create_checkpoint("c")
        self.ended = self.coord.runs.execute("TODO-003")
        self.ended.cancel()
        self._record_change_set(tips)
        self.coord.credentials.add("known", "env:HOME", repos=["api"])
        self.report = self.coord.manager.check_dependencies(write=False)
        self.adoption = self.coord.changes.plan_adoption("PLAN-002", "web", "coord/PLAN-002")
        self.discard = self.coord.changes.plan_discard("PLAN-002")
        self.landing = self.coord.landings.prepare("PLAN-002")

    @staticmethod
    def _checkout(path: Path) -> tuple[str, str]:
        """Make a checkout whose branch of the change set conflicts with its base; return tip and base."""
        git(path.parent, "init", "-q", "-b", "main", str(path))
        git(path, "commit", "-q", "--allow-empty", "-m", "first")
        base = git(path, "rev-parse", "HEAD")
        for branch in ("coord/PLAN-002", "main"):
            git(path, "checkout", "-q", *(() if branch == "main" else ("-b",)), branch)
            (path / "x").write_text(branch)
            git(path, "add", "x")
            git(path, "commit", "-q", "-m", branch)
        return git(path, "rev-parse", "coord/PLAN-002"), base

    def _record_change_set(self, tips: Mapping[str, tuple[str, str]]) -> None:
        keys, at = Keys(self.coord.settings.namespace), "2026-01-01"
        opened = {
            f"{name} {repo}": fact
            for repo, (tip, base) in tips.items()
            for name, fact in {"branch": "coord/PLAN-002", "tip": tip, "base": base, "run": "R"}.items()
        }
        tip, base = tips["api"]
        request = RequestRef(number=1, url="https://x/1", name="o/r#1", head=tip, by="ann", at=at)
        done = Landed(commit=tip, tree_before=base, method="merge", via="local", at=at, run="R")
        landed = {**opened, "request api": request.model_dump_json(), "landed api": done.model_dump_json()}
        with connect(self.coord.redis_url, Profile.COMMAND) as client:
            for plan, facts in (("PLAN-002", opened), ("PLAN-003", landed)):
                client.hset(keys.changes(plan), mapping={**facts, "todo TODO-002": "R api"})
                client.sadd(keys.change_sets, plan)

    def call(self, operation: str) -> object:
        coord, run, context = self.coord, self.live, self.coord.context
        manager, runs, sweep = coord.manager, coord.runs, coord.runs.prepare_sweep
        checks, commands, landings = coord.checks, coord.commands, coord.landings
        qa = lambda: checks.prepare(coord.checks.heads(["api"]))  # noqa: E731
        template = coord.template.show("review")
        proposal = proposal_of({"title": "x", "todos": [{"key": "a", "repo": "api", "task": "x"}]})
        left = Artifact(run=self.ended.id, kind=Kind.BRANCH, repo="api", path="api")
        survey = Survey(found=(left,), runs={}, silent=(), absent=())
        calls: Mapping[str, Callable[[], object]] = {
            "manager.create_issue": lambda: manager.create_issue(title="x"),
            "manager.update_issue": lambda: manager.update_issue("ISSUE-001", {"title": "x"}),
            "manager.write_issues": lambda: manager.write_issues({"ISSUE-001": {"title": "x"}}),
            "manager.close_issue": lambda: manager.close_issue("ISSUE-001"),
            "manager.delete_issue": lambda: manager.delete_issue("ISSUE-001"),
            "manager.create_todo": lambda: manager.create_todo(task="x", repo="api"),
            "manager.update_todo": lambda: manager.update_todo("TODO-003", {"task": "x"}),
            "manager.complete_todo": lambda: manager.complete_todo("TODO-003"),
            "manager.reopen_todos": lambda: manager.reopen_todos(["TODO-002"]),
            "manager.delete_todo": lambda: manager.delete_todo("TODO-003"),
            "manager.create_plan": lambda: manager.create_plan(title="x"),
            "manager.update_plan": lambda: manager.update_plan("PLAN-001", {"title": "x"}),
            "manager.add_milestone": lambda: manager.add_milestone("PLAN-001", name="x"),
            "manager.complete_milestone": lambda: manager.complete_milestone("PLAN-001", "M1"),
            "manager.delete_plan": lambda: manager.delete_plan("PLAN-001", cascade=True),
            "manager.create_dependency": lambda: manager.create_dependency(consumer="api", provider="web"),
            "manager.update_dependency": lambda: manager.update_dependency("DEP-001", {"type": "test"}),
            "manager.delete_dependency": lambda: manager.delete_dependency("DEP-001"),
            "manager.check_dependencies": manager.check_dependencies,
            "manager.write_outcomes": lambda: manager.write_outcomes(self.report),
            "manager.create_all": lambda: manager.create_all("issue", [{"title": "x"}]),
            "manager.generate_plan": lambda: manager.generate_plan(
                template, {"question": "x"}, all_repos=True
            ),
            "manager.create_proposed": lambda: manager.create_proposed(proposal, all_repos=True),
            "proposals.apply": lambda: coord.proposals.apply(proposal),
            "proposals.request": lambda: coord.proposals.request("x"),
            "manager.check_dependencies_with_memory": manager.check_dependencies_with_memory,
            "manager.close_issue_with_memory": lambda: manager.close_issue_with_memory("ISSUE-001"),
            "manager.complete_todo_with_memory": lambda: manager.complete_todo_with_memory("TODO-003"),
            "manager.create_issue_with_memory": lambda: manager.create_issue_with_memory(title="x"),
            "manager.create_todo_with_memory": lambda: manager.create_todo_with_memory(task="x", repo="api"),
            "manager.update_issue_with_memory": lambda: manager.update_issue_with_memory(
                "ISSUE-001", {"title": "x"}
            ),
            "generators.campaign": lambda: coord.generators.campaign("x", all_repos=True, run="true"),
            "generators.create_plan_from_template": lambda: coord.generators.create_plan_from_template(
                template.name, {"question": "x"}, all_repos=True
            ),
            "issue.create": lambda: coord.issue.create(NewIssue(title="x")),
            "issue.update": lambda: coord.issue.update("ISSUE-001", IssueFields(title="x")),
            "issue.close": lambda: coord.issue.close("ISSUE-001"),
            "issue.delete": lambda: coord.issue.delete("ISSUE-001"),
            "todo.create": lambda: coord.todo.create(NewTodo(task="x", repo="api")),
            "todo.update": lambda: coord.todo.update("TODO-003", TodoFields(task="x")),
            "todo.complete": lambda: coord.todo.complete("TODO-003"),
            "todo.delete": lambda: coord.todo.delete("TODO-003"),
            "plan.create": lambda: coord.plan.create(NewPlan(title="x")),
            "plan.update": lambda: coord.plan.update("PLAN-001", PlanFields(title="x")),
            "plan.complete": lambda: coord.plan.complete("PLAN-001", milestones=("M1",)),
            "plan.validate": lambda: coord.plan.validate("PLAN-004", run_checks=True),
            "plan.delete": lambda: coord.plan.delete("PLAN-001", cascade=True),
            "dep.create": lambda: coord.dep.create(NewDependency(consumer="api", provider="web")),
            "dep.update": lambda: coord.dep.update("DEP-001", DependencyFields(pattern="x")),
            "dep.delete": lambda: coord.dep.delete("DEP-001"),
            "dep.check": coord.dep.check,
            "issues.sync": coord.issues.sync,
            "message.send": lambda: coord.message.send("api", "x"),
            "message.resend": lambda: coord.message.resend("x", "api"),
            "message.register": lambda: coord.message.register("agent:x"),
            "message.ack": lambda: coord.message.ack("api", ["all"]),
            "topic.publish": lambda: coord.topic.publish("a.b", 1),
            "context.set": lambda: context.set("a", 1),
            "context.delete": lambda: context.delete(["a"]),
            "context.import_": lambda: context.import_(self.file),
            "context().set": lambda: context().set("a", 1),
            "context().delete": lambda: context().delete("a"),
            "context().clear": lambda: context(run=run.id).clear(),
            "context().get_or_compute": lambda: context().get_or_compute("a", lambda: 1),
            "clear_cache": coord.clear_cache,
            "clear_checkpoints": coord.clear_checkpoints,
            "runs.forget_results": runs.forget_results,
            "runs.sweep": lambda: runs.sweep("PLAN-001"),
            "runs.make_ready": lambda: runs.make_ready(sweep("PLAN-001")),
            "runs.start": lambda: runs.start(sweep("PLAN-001")),
            "runs.execute": lambda: runs.execute("TODO-003"),
            "runs.retry": lambda: runs.retry(self.ended.id),
            "runs.rollback": lambda: runs.rollback(run.id),
            "runs.accept": lambda: runs.accept(run.id, "TODO-001", "x"),
            "runs.complete": lambda: runs.complete("TODO-001"),
            "runs.approve": lambda: runs.approve("TODO-001"),
            "runs.decide": lambda: runs.decide(Verdict.APPROVE, "TODO-001"),
            "runs.reject": lambda: runs.reject("TODO-001"),
            "runs.answer": lambda: runs.answer("TODO-001", "yes"),
            "runs.import_": lambda: runs.import_(self.file),
            "runs.clean": lambda: runs.clean(survey),
            "run.pause": run.pause,
            "run.resume": run.resume,
            "run.cancel": run.cancel,
            "run.sync": run.sync,
            "run.rollback": run.rollback,
            "run.begin_rollback": run.begin_rollback,
            "run.accept": lambda: run.accept("TODO-001", "x"),
            "run.begin_accept": lambda: run.begin_accept(["TODO-001"], "x"),
            "run.create_checkpoint": lambda: run.create_checkpoint("d"),
            "run.restore": lambda: run.restore("c"),
            "run.begin_restore": lambda: run.begin_restore("c"),
            "run.undo_to": lambda: run.undo_to("c"),
            "run.retry": self.ended.retry,
            "run.start_retry": lambda: self.ended.start_retry(self.ended.prepare_retry()),
            "commands.exec": lambda: commands.exec("true", all_repos=True),
            "commands.make_ready": lambda: commands.make_ready(
                commands.prepare("true", ALL_REPOS, all_repos=True)
            ),
            "commands.start": lambda: commands.start(commands.prepare("true", ALL_REPOS, all_repos=True)),
            "checks.run": lambda: checks.run(["api"]),
            "checks.ci": lambda: checks.ci(repos=["api"]),
            "checks.make_ready": lambda: checks.make_ready(qa()),
            "checks.start": lambda: checks.start(qa()),
            "changes.adopt": lambda: coord.changes.adopt("PLAN-002", "web", "coord/PLAN-002"),
            "changes.record_adoption": lambda: coord.changes.record_adoption("PLAN-002", self.adoption),
            "changes.discard": lambda: coord.changes.discard("PLAN-002"),
            "changes.discard_planned": lambda: self.discard and coord.changes.discard_planned(self.discard),
            "changes.resolve": lambda: coord.changes.resolve("PLAN-002", "web"),
            "landings.land": lambda: landings.land("PLAN-002", via=Via.LOCAL),
            "landings.make_ready": lambda: landings.make_ready(self.landing),
            "landings.start": lambda: landings.start(self.landing),
            "landings.revert": lambda: landings.revert("PLAN-003"),
            "pr.create": lambda: coord.pr.create("PLAN-002", RequestOptions(repos=("api",))),
            "pr.fix": lambda: coord.pr.fix("PLAN-002", ("api",)),
            "pr.start_fix": lambda: coord.pr.start_fix(FIX),
            "pr.conclude_fix": lambda: coord.pr.conclude_fix(FIX),
            "pr.close": lambda: coord.pr.close("PLAN-003"),
            "services.start": coord.services.start,
            "services.stop": coord.services.stop,
            "services.restart": coord.services.restart,
            "services.begin": lambda: coord.services.begin(coord.services.prepare(ServiceStep.START)),
            "services.forget": lambda: coord.services.forget(host="gone"),
            "health.disconnect": lambda: coord.health.disconnect("api"),
            "health.connect": lambda: coord.health.connect("api"),
            "lock.release": lambda: coord.lock.release("x"),
            "breaker.reset": lambda: coord.breaker.reset("repo:api"),
            "steps.load": coord.steps.load,
            "credentials.add": lambda: coord.credentials.add("new", "env:HOME", repos=["api"]),
            "credentials.rotate": lambda: coord.credentials.rotate("known", "env:PATH"),
            "credentials.revoke": lambda: coord.credentials.revoke("known"),
            "dashboard.add_token": lambda: dashboard.add_token(coord, "ann"),
            "dashboard.revoke_token": lambda: dashboard.revoke_token(coord, "ann"),
            "gateway.grant_token": lambda: gateway.grant_token(coord, "person:ann"),
            "gateway.revoke_token": lambda: gateway.revoke_token(coord, "person:ann"),
        }
        assert calls.keys() == ALL.keys()
        return calls[operation]()

    def state(self) -> Mapping[str, object]:
        """Return the content of the file, of the private files of this machine, and of the keys of Redis."""
        with connect(self.coord.redis_url, Profile.COMMAND) as client:
            every = [key for key in client.scan_iter() if client.type(key) != "stream"]
            keys = [key for key in every if ":lock-done:" not in key]  # they expire meanwhile
            found = {key: client.dump(key) for key in keys}
        files = [self.file, *self.folder.rglob("*.json")]
        return {**found, **{str(path): path.read_bytes() for path in files}}

    def refusals(self) -> list[tuple[str, str]]:
        with connect(self.coord.redis_url, Profile.COMMAND) as client:
            found = EventStream(client, self.coord.settings.namespace).latest(1000)
        return [
            (event.data["operation"], event.data["right"])
            for event in found
            if event.kind == "access.refused"
        ]


@pytest.fixture(scope="module")
def place(server: EmbeddedServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """Ann, whose key this process has, may look and do nothing else."""
    folder, url = tmp_path_factory.mktemp("place"), server.start()
    with connect(url, Profile.COMMAND) as client:
        client.flushall()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CONFIG_HOME", str(folder.parent / f"{folder.name}-config"))
        patch.setenv("MARK", str(folder.parent / f"{folder.name}-mark"))
        made = Place(folder, url)
        editor = TrustEditor(trust_path())
        editor.add(new_key(editor.path.parent / "identity", "ann").public_key, roles=[Role.VIEWER])
        yield made
        made.coord.close()


@pytest.mark.parametrize("operation", ALL)
def test_an_operation_is_refused_to_a_viewer_and_changes_nothing(place: Place, operation: str):
    before, refused = place.state(), len(place.refusals())

    with pytest.raises(MissingRight):
        place.call(operation)

    after = place.state()
    assert [name for name in before | after if before.get(name) != after.get(name)] == []
    right = str(right_of(ALL[operation]))
    assert {found for _, found in place.refusals()[refused:]} == {right}


OF_SCRIPTS: Mapping[str, Callable[[Coord], object]] = {
    "locks.break_": lambda coord: coord.locks.break_(Held.model_construct(what="lock:x", holders=()), "ann"),
    "locks.release_all": lambda coord: coord.locks.release_all("bob"),
    "breakers.reset": lambda coord: coord.breakers.reset("repo:a"),
    "messages.send": lambda coord: coord.messages.send("person:bob", "note"),
    "messages.broadcast": lambda coord: coord.messages.broadcast("note"),
    "messages.request": lambda coord: coord.messages.request("person:bob", "note"),
    "messages.reply": lambda coord: coord.messages.reply(coord.messages, "note"),
    "messages.publish": lambda coord: coord.messages.publish("topic", "note"),
    "messages.register": lambda coord: coord.messages.register("person:bob"),
    "messages.forget": lambda coord: coord.messages.forget("person:bob"),
    "messages.subscribe": lambda coord: coord.messages.subscribe("person:bob", "topic"),
    "messages.unsubscribe": lambda coord: coord.messages.unsubscribe("person:bob", "topic"),
    "cache.set": lambda coord: coord.cache.at().set("key", 1),
    "cache.delete": lambda coord: coord.cache.at().delete("key"),
    "cache.get_or_compute": lambda coord: coord.cache.at().get_or_compute("key", dict),
}


@pytest.mark.parametrize("operation", OF_SCRIPTS)
def test_parts_for_scripts_refuse_a_viewer_too(place: Place, operation: str):
    before = place.state()
    with pytest.raises(MissingRight):
        OF_SCRIPTS[operation](place.coord)
    assert place.state() == before


def test_every_method_for_scripts_that_needs_a_right_is_tried():
    needing = {f"{part}.{method}" for part, methods in NEEDS_OF_SCRIPTS.items() for method in methods}
    assert needing == {one for one in OF_SCRIPTS if not one.startswith("cache.")}


@pytest.mark.parametrize(
    "executes",
    [
        lambda manager: manager.check_dependencies(),
        lambda manager: manager.check_dependencies(write=False),
        lambda manager: manager.validate_plan_completion("PLAN-004", run_checks=True),
        lambda manager: manager.complete_milestone("PLAN-004", "M4"),
        lambda manager: manager.update_plan("PLAN-004", {"status": "completed"}),
    ],
)
def test_no_command_of_the_file_is_executed_for_a_viewer(
    place: Place, executes: Callable[[CoordinationManager], object]
):
    mark = Path(os.environ["MARK"])
    assert mark.exists(), "somebody with the right has executed it"
    mark.unlink()
    try:
        with pytest.raises(MissingRight):
            executes(place.coord.manager)
        assert not mark.exists()
    finally:
        mark.touch()


def test_coord_sync_is_refused_to_a_viewer_and_the_end_of_a_run_writes_results_back(place: Place):
    with pytest.raises(SystemExit) as ended:
        app.run(
            ["--ecosystem", str(place.file), "--redis", place.coord.redis_url, "run", "sync", place.live.id]
        )

    assert ended.value.code == MissingRight.exit_code
    assert place.live.write_back().all == ()
