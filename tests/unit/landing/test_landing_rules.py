"""The rules of a landing, and the refusals of forges that are final."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest

from coordination.errors import Conflict, CoordinationError, NotFound, PlanRefused, Unreadable
from coordination.landing.graph import landing_graph, revert_graph, todo_id
from coordination.landing.records import LandOptions
from coordination.landing.revert import decide_revert
from coordination.landing.rules import decide_landing
from coordination.models import Ecosystem, LandAction, Method, OnFailure, RevertAction, Via
from coordination.runs.change_sets.records import ChangeSet, Landed, RepoChange
from coordination.runs.records import TodoSpec
from workers.landing.records import BaseBranch, Reason
from workers.landing.refusals import refused_by

TIP, OTHER = "a" * 40, "b" * 40


ROLES: dict[str, dict[str, Any]] = {
    "a": {"role": "library", "tags": ["core"]},
    "b": {"role": "service", "tags": ["core", "edge"]},
    "c": {"role": "service"},
    "d": {"role": "tool"},
}
EDGES = {"b": ("a",), "c": ("b",)}


def file(*, land: object = None, pending: str = "", qa: str | None = None, **urls: str) -> Ecosystem:
    """Plan P over a → b → c (by its todos) and d (by nothing); `pending`: repositories whose todo is open."""
    return Ecosystem.model_validate(
        {
            "repos": [{"name": name, "url": urls.get(name), "qa": qa, **ROLES[name]} for name in "abcd"],
            "coordination": {
                "plans": [{"id": "P", "title": "a plan", "land": land}],
                "todos": [
                    {
                        "id": f"T-{name}", "task": "x", "repo": name, "plan": "P",
                        "status": "pending" if name in pending else "completed",
                        "blocked_by": [f"T-{one}" for one in EDGES.get(name, ())],
                    }
                    for name in "abcd"
                ],
            },
        }
    )  # fmt: skip


def changes(
    repos: str, *, tip: str = TIP, landed: str = "", writers: dict[str, str] | None = None
) -> ChangeSet:
    how = Landed(
        commit=OTHER, tree_before=TIP, method="merge", via="local", at="2026-01-01T00:00:00Z", run="R9"
    )
    return ChangeSet(
        id="P",
        repos={
            name: RepoChange(
                repo=name,
                branch="coord/P",
                tip=tip,
                run="R1",
                host="h",
                landed=how if name in landed else None,
            )
            for name in repos
        },
        writers=writers or {},
    )


def decided(
    ecosystem: Ecosystem, found: ChangeSet | None, hosts: dict[str, list[str]] | None = None, **options
):
    return decide_landing(
        ecosystem, found, "P", LandOptions(**options), patience=timedelta(hours=1), hosts=hosts or {}
    )


def test_repositories_land_behind_those_that_their_todos_build_on():
    landing = decided(file(), changes("dcba"))

    assert landing.names == ("a", "b", "c", "d")
    assert {one.repo: one.after for one in landing.repos} == {"a": (), "b": ("a",), "c": ("b",), "d": ()}
    _, graph = landing_graph(file(), landing)
    assert graph.predecessors["P.land.b"] == ("P.locks", "P.land.a")
    assert set(graph.predecessors["P.locks"]) == {f"P.check.{name}" for name in "abcd"}
    assert graph.plan.on_failure is OnFailure.ROLLBACK


def test_the_way_is_the_option_else_the_rule_of_the_plan_else_push_where_there_is_a_url():
    urls = {"a": "/srv/a.git"}
    ways = lambda **how: [one.via for one in decided(file(**urls), changes("ad"), **how).repos]  # noqa: E731
    ruled = decided(file(land={"via": "local", "method": "squash"}, **urls), changes("a"))

    assert ways() == [Via.PUSH, Via.LOCAL]
    assert ways(via=Via.LOCAL) == [Via.LOCAL, Via.LOCAL]
    assert (ruled.repos[0].via, ruled.method) == (Via.LOCAL, Method.SQUASH)
    assert decided(file(land={"method": "squash"}), changes("a"), method=Method.FF).method is Method.FF


@pytest.mark.parametrize(
    ("ecosystem", "found", "options", "hosts", "error"),
    [
        (file(), None, {}, {}, NotFound),
        (file(), changes("a", writers={"a": "R2"}), {}, {}, Conflict),
        (file(pending="abcd"), changes("a"), {}, {}, PlanRefused),
        (file(pending="b"), changes("a"), {}, {}, PlanRefused),
        (file(pending="b"), changes("a", landed="a"), {}, {}, PlanRefused),
        (file(pending="b"), changes("ab"), {"repos": ("b",)}, {}, PlanRefused),
        (file(), changes("ab"), {"repos": ("b",)}, {}, PlanRefused),
        (file(), changes("ab"), {"repos": ("c",)}, {}, NotFound),
        (file(), changes("a"), {}, {"a": ["h1", "h2"]}, PlanRefused),
    ],
    ids=[
        *("no change set", "written", "open todos", "open todo that changed nothing"),
        *("open todo behind a landing", "open todo in a chosen repository", "not closed", "unknown repo"),
        "two checkouts",
    ],
)
def test_what_must_not_land_is_refused_with_the_next_command(ecosystem, found, options, hosts, error):
    with pytest.raises(error) as refused:
        decided(ecosystem, found, hosts, **options)
    assert isinstance(refused.value, CoordinationError)
    assert refused.value.hint


def test_a_closed_selection_lands_and_what_has_landed_is_left_out():
    assert decided(file(), changes("abcd"), repos=("a", "b")).names == ("a", "b")
    assert decided(file(), changes("abcd", landed="a"), repos=("b",)).names == ("b",)
    assert decided(file(), changes("ab", landed="ab")).repos == ()
    assert decided(file(pending="b"), changes("ab"), repos=("a",)).names == ("a",)


def test_a_revert_goes_backwards_over_what_has_landed():
    revert = decide_revert(file(), changes("abc", landed="ab"), "P", patience=timedelta(hours=1))
    _, graph = revert_graph(file(), revert)

    assert revert.names == ("b", "a")
    assert graph.predecessors["P.revert.a"] == ("P.locks", "P.revert.b")
    action = graph.todos["P.revert.a"].action
    assert isinstance(action, RevertAction)
    assert (action.commit, action.before) == (OTHER, TIP)
    with pytest.raises(NotFound):
        decide_revert(file(), changes("a", landed="a"), "P", run="R8", patience=timedelta(hours=1))


def test_a_revert_by_requests_opens_all_of_them_at_once_and_takes_no_lock_while_it_waits():
    found = changes("abc", landed="abc")
    by_request = {
        name: change.model_copy(update={"landed": change.landed.model_copy(update={"via": "pr"})})
        for name, change in found.repos.items()
        if change.landed
    }
    revert = decide_revert(
        file(), found.model_copy(update={"repos": by_request}), "P", patience=timedelta(hours=1)
    )
    _, graph = revert_graph(file(), revert)
    opens = {name for name in graph.todos if ".open." in name}
    assert opens == {"P.open.a", "P.open.b", "P.open.c"}
    assert {graph.predecessors[name] for name in opens} == {()}
    assert graph.predecessors["P.revert.a"] == ("P.locks", "P.open.a", "P.revert.b")

    _, graph = revert_graph(file(), replace(revert, when_ready=True))
    assert graph.predecessors["P.revert.a"] == ("P.open.a", "P.revert.b")
    assert "P.locks" not in graph.todos


def test_a_worker_reads_the_todos_of_a_landing_and_long_names_stay_different():
    _, graph = landing_graph(file(), decided(file(), changes("a")))
    todo = graph.todos["P.land.a"]
    spec = TodoSpec(todo=todo, repo=file().repos[0], timeout=timedelta(1), retry=todo.retry)
    read = TodoSpec.model_validate_json(spec.model_dump_json(exclude_defaults=True)).todo

    assert isinstance(read.action, LandAction)
    assert (read.action.tip, read.compensate) == (TIP, todo.compensate)
    names = {todo_id("P" * 100, "land", repo) for repo in ("a" * 99 + "x", "a" * 99 + "y")}
    assert len(names) == 2
    assert all(len(name) <= 100 for name in names)


def test_what_an_owner_of_redis_wrote_is_refused_and_a_title_carries_no_control_sequence():
    with pytest.raises(Unreadable):
        decided(file(), changes("a", tip="--upload-pack=sh"))
    hostile = changes("a", landed="a")
    how = hostile.repos["a"].landed
    assert how is not None
    for wrong in ({"via": "rsync"}, {"commit": "HEAD"}, {"tree_before": ""}):
        change = hostile.repos["a"].model_copy(update={"landed": how.model_copy(update=wrong)})
        with pytest.raises(Unreadable):
            decide_revert(file(), ChangeSet(id="P", repos={"a": change}), "P", patience=timedelta(hours=1))
    landing = replace(decided(file(), changes("a")), title="a\x1b[31m\nplan " + "x" * 10_000)
    _, graph = landing_graph(file(), landing)
    action = graph.todos["P.land.a"].action
    assert isinstance(action, LandAction)
    assert action.title.isprintable()
    assert len(action.title) <= 72


AT = BaseBranch(repo="r", path=Path(), branch="main", url="https://ann:s3cret@forge.test/r.git")


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (
            "protected branch hook declined",
            "error: GH006: Protected branch update failed for refs/heads/main.",
        ),
        ("push declined due to repository rule violations", "error: GH013: Repository rule violations found"),
        ("pre-receive hook declined", "GitLab: You are not allowed to push code to protected branches"),
        ("pre-receive hook declined", "Gitea: Not allowed to push to protected branch main"),
        ("branch is currently checked out", "error: refusing to update checked out branch: refs/heads/main"),
    ],
)
def test_a_protected_branch_is_refused_for_good_and_the_remote_is_quoted(status: str, said: str):
    stdout = f"To {AT.url}\n!\tabc:refs/heads/main\t[remote rejected] ({status})\nDone\n"
    found = refused_by(AT, CompletedProcess([], 1, stdout, f"remote: {said} {AT.url}\nerror: failed to push"))
    assert (found.reason, found.lasting) == (Reason.DECLINED, True)
    assert status in found.error
    assert said in found.error
    assert "s3cret" not in found.error
