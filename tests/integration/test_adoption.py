"""A change set adopts commits and pull requests of people."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from coordination import Coord
from coordination.api import RequestOptions
from coordination.credentials.records import Purpose
from coordination.errors import Blocked, Conflict, GitRefused, NotFound, NotTrusted, UsageError
from coordination.forges.errors import ForgeError, ForgeProblem
from coordination.git import commit_of
from coordination.runs.change_sets.store import ChangeSets
from coordination.runs.store import RunStore
from coordination.trust.identity import worker_identity
from coordination.trust.results import ResultRecord, seal_result
from tests.change_sets import record
from tests.forge.server import TestForge
from tests.landing_checkout import POINTER, fake_git_lfs
from tests.trusted_worker import Persons
from tests.worktrees import ANN, git, make_checkout, save

RUNS = ("20260101-000000-aaaa", "20260102-000000-bbbb")


@pytest.fixture
def lib(tmp_path: Path) -> Path:
    return make_checkout(tmp_path / "lib")


@pytest.fixture
def coord(lib: Path, redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Coord]:
    monkeypatch.setenv("COORD_HOST", "here")
    todos = [{"id": name, "task": "t", "repo": "lib", "plan": "P"} for name in ("A", "B")]
    file = {
        "settings": {"namespace": "test"},
        "repos": [{"name": "lib", "path": "lib"}, {"name": "app", "path": "app"}],
        "coordination": {"plans": [{"id": "P", "title": "a plan"}], "todos": todos},
    }
    (tmp_path / "ecosystem.yaml").write_text(yaml.safe_dump(file))
    with Coord(tmp_path, redis_url) as opened:
        yield opened


def head(checkout: Path, ref: str) -> str:
    return git("rev-parse", ref, cwd=checkout)


def work(checkout: Path, branch: str, todo: str, run: str, *, plan: str = "P", begin: str = "main") -> str:
    """A commit of a todo on a branch, as a worker makes it."""
    git("switch", "--quiet", "-C", branch, begin, cwd=checkout)
    (checkout / todo).write_text("1\n")
    git("add", "--all", cwd=checkout)
    trailers = f"Coord-Run: {run}\nCoord-Plan: {plan}\nCoord-Todo: {todo}\nCoord-Fence: 1"
    git("commit", "--quiet", "-m", f"work\n\n{trailers}", cwd=checkout, settings=ANN)
    made = head(checkout, "HEAD")
    git("switch", "--quiet", "main", cwd=checkout)
    return made


@pytest.mark.parametrize("branch", ["coord/P", f"coord/{RUNS[1]}"])
def test_a_change_set_that_redis_has_lost_is_built_from_its_commits(coord, lib, store: RunStore, branch: str):
    base = head(lib, "main")
    work(lib, f"coord/{RUNS[0]}", "A", RUNS[0])
    tip = work(lib, branch, "B", RUNS[1], begin=f"coord/{RUNS[0]}")
    work(lib, "coord/other", "C", RUNS[0], plan="Q")
    (found,) = coord.changes.adopt("P")
    assert (found.branch, dict(found.todos), found.lacks) == (branch, {"A": RUNS[0], "B": RUNS[1]}, ())
    built = ChangeSets(store).read("P")
    assert built is not None
    change = built.repos["lib"]
    assert (change.base, change.tip, change.runs, change.host) == (base, tip, RUNS, "here")
    assert (change.commits, change.files, change.added, change.removed) == (2, 2, 2, 0)
    assert dict(built.source) == {"A": RUNS[0], "B": RUNS[1]}
    assert head(lib, "coord/P") == tip
    with pytest.raises(NotFound):
        coord.changes.adopt("P")


def known_work(lib: Path, store: RunStore, *todos: str) -> str:
    """A change set with a commit of each todo, and a todo that commits nothing; return its tip."""
    begin = "main"
    for todo in todos:
        tip, begin = work(lib, "coord/P", todo, RUNS[0], begin=begin), "coord/P"
    base = head(lib, "main")
    record(store.redis, "P", "lib", todos=" ".join([*todos, "R"]), tip=tip, base=base, run=RUNS[0])
    return tip


def of_a_person(checkout: Path, branch: str, begin: str, **files: str) -> str:
    git("switch", "--quiet", "-c", branch, begin, cwd=checkout)
    made = save(checkout, "by a person", **files)
    git("switch", "--quiet", "main", cwd=checkout)
    return made


def statuses(coord: Coord) -> dict[str, str]:
    return {todo.id: str(todo.status) for todo in coord.manager.list_todos()}


def test_work_that_both_sides_have_added_is_merged(coord, lib, store: RunStore):
    ours = known_work(lib, store, "A", "B")
    theirs = of_a_person(lib, "mine", "coord/P~1", more="2\n")
    (planned,) = coord.changes.plan_adoption("P", "lib", "mine")
    assert head(lib, "coord/P") == ours
    (found,) = coord.changes.adopt("P", "lib", "mine")
    assert (found.before, found.merged, found.lacks) == (ours, theirs, ())
    assert (planned.merged, set(planned.todos)) == (theirs, {"A", "B"})
    assert git("show", "--no-patch", "--format=%P", found.tip, cwd=lib).split() == [ours, theirs]
    assert git("ls-tree", "--name-only", found.tip, cwd=lib).split() == [
        ".gitignore",
        "A",
        "B",
        "code.py",
        "more",
    ]
    built = ChangeSets(store).read("P")
    assert built is not None
    change = built.repos["lib"]
    assert (change.tip, set(change.todos), change.files) == (found.tip, {"A", "B", "R"}, 3)
    assert head(lib, "coord/P") == found.tip


def test_a_branch_that_has_all_of_our_content_takes_its_place(coord, lib, store: RunStore):
    ours = known_work(lib, store, "A")
    theirs = of_a_person(lib, "squashed", "main", A="1\n", more="2\n")
    (found,) = coord.changes.adopt("P", "lib", "squashed")
    assert (found.before, found.tip, found.merged, found.lacks) == (ours, theirs, "", ())
    built = ChangeSets(store).read("P")
    assert built is not None
    assert set(built.repos["lib"].todos) == {"A", "R"}
    assert head(lib, "coord/P") == theirs


@pytest.mark.parametrize("how", ["conflict", "rewritten", "behind", "elsewhere"])
def test_a_branch_drops_work_only_if_that_is_said_and_its_todos_are_open_again(
    coord, lib, store: RunStore, how: str
):
    ours = known_work(lib, store, "A", "B")
    if how == "conflict":
        theirs = of_a_person(lib, "mine", "coord/P~1", B="other\n")
    elif how == "rewritten":  # B is left out, and the commit of A is another one
        work(lib, "mine", "A", "20260103-000000-cccc")
        git("switch", "--quiet", "mine", cwd=lib)
        theirs = save(lib, "amended", A="better\n")
        git("switch", "--quiet", "main", cwd=lib)
    elif how == "behind":
        theirs = head(lib, "coord/P~1")
        git("branch", "--quiet", "mine", theirs, cwd=lib)
    else:
        theirs = of_a_person(lib, "mine", "coord/P~1", more="2\n")
        facts = {"tip lib": "f" * 40, "host lib": "there"}
        store.redis.hset(store.keys.changes("P"), mapping=facts)
        run = store.keys.run(RUNS[0])
        for todo, began, commit in (
            ("A", "main", theirs + "~1"),
            ("B", theirs + "~1", ours),
            ("R", ours, ours),
        ):
            ends = {"began": head(lib, began), "commit": head(lib, commit), "fence": "1"}
            store.redis.hset(run.facts, mapping={f"{todo} {name}": value for name, value in ends.items()})
    for todo in ("A", "B"):
        coord.manager.complete_todo(todo)

    with pytest.raises(GitRefused) as refused:
        coord.changes.adopt("P", "lib", "mine")
    assert "coord plan adopt P lib mine --replace" in refused.value.hint
    assert statuses(coord) == {"A": "completed", "B": "completed"}
    assert head(lib, "coord/P") == ours

    (found,) = coord.changes.adopt("P", "lib", "mine", replace=True)
    assert (found.tip, found.merged, found.lacks) == (theirs, "", ("B",))
    assert statuses(coord) == {"A": "completed", "B": "pending"}
    built = ChangeSets(store).read("P")
    assert built is not None
    assert set(built.repos["lib"].todos) == {"A", "R"}
    (event,) = coord.events.list(kinds=["command.adopt"])
    assert (event.subject, event.data["lacks"], event.data["reopened"]) == ("P", "B", "B")


def test_nothing_changes_while_the_branch_is_checked_out_or_a_run_writes(coord, lib, store: RunStore):
    ours = work(lib, "coord/P", "A", RUNS[0])
    record(store.redis, "P", "lib", todos="A", tip=ours, run=RUNS[0], writer="R1")
    work(lib, "mine", "B", RUNS[1])
    git("switch", "--quiet", "coord/P", cwd=lib)
    with pytest.raises(Conflict, match="checked out"):
        coord.changes.adopt("P", "lib", "mine")
    git("switch", "--quiet", "main", cwd=lib)
    meta = {"plan_id": "P", "status": "running", "strategy": "levels", "on_failure": "halt", "actor": "a"}
    store.redis.hset(store.keys.run("R1").meta, mapping=meta)
    store.redis.zadd(store.keys.live, {"R1": 1})
    with pytest.raises(Conflict, match="R1"):
        coord.changes.adopt("P", "lib", "mine")
    assert head(lib, "coord/P") == ours


@pytest.mark.parametrize(
    ("repo", "branch", "error"),
    [
        ("lib", "main", GitRefused),
        ("lib", "--output=x", NotFound),
        ("lib", "gone", NotFound),
        ("app", "main", GitRefused),
        ("other", "main", NotFound),
        ("lib", None, UsageError),
    ],
)
def test_a_branch_without_work_is_refused(coord, repo, branch, error, store: RunStore):
    with pytest.raises(error):
        coord.changes.adopt("P", repo, branch)
    assert ChangeSets(store).list() == ()


def test_work_on_several_branches_is_not_guessed_at(coord, lib):
    work(lib, f"coord/{RUNS[0]}", "A", RUNS[0])
    work(lib, f"coord/{RUNS[1]}", "B", RUNS[1])
    with pytest.raises(GitRefused, match="several branches"):
        coord.changes.adopt("P")


BRANCH = "coord/P"


@pytest.fixture
def site(
    forge: TestForge, redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[SimpleNamespace]:
    """A change set of two repositories that depend on each other, at a forge."""
    monkeypatch.setenv("COORD_HOST", "here")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    token, projects, repos, heads = forge.token("coord"), {}, [], {}
    for name in ("lib", "app"):
        place = make_checkout(tmp_path / name)
        heads[name] = commit_of(place, "refs/heads/main")
        projects[name] = forge.create_project(f"acme/{name}", seed=place)
        git("switch", "--quiet", "-c", BRANCH, cwd=place)
        heads[f"{name} tip"] = save(place, "work", work="1\n")
        git("switch", "--quiet", "main", cwd=place)
        url = forge.url(f"acme/{name}", f"coord:{token}")
        address = {"type": forge.dialect.name, "api": forge.api}
        repos.append({"name": name, "path": name, "url": url, "forge": address})
    todos = [{"id": f"T-{name}", "task": "t", "repo": name, "plan": "P"} for name in ("lib", "app")]
    todos[1]["blocked_by"] = ["T-lib"]
    file = {
        "settings": {"namespace": "test"},
        "repos": repos,
        "coordination": {"plans": [{"id": "P", "title": "a plan"}], "todos": todos},
    }
    (tmp_path / "ecosystem.yaml").write_text(yaml.safe_dump(file))
    secret = tmp_path / "token"
    secret.write_text(token)
    secret.chmod(0o600)
    with Coord(tmp_path, redis_url) as coord:
        coord.credentials.add("forge", f"file:{secret}", purposes=[Purpose.PR], hosts=["127.0.0.1"])
        with coord.reached() as connection:
            for name in ("lib", "app"):
                facts = {"base": heads[name], "tip": heads[f"{name} tip"], "host": "here"}
                record(connection.redis, "P", name, todos=f"T-{name}", **facts)
        yield SimpleNamespace(coord=coord, forge=forge, projects=projects, folder=tmp_path, heads=heads)


def seen(site: SimpleNamespace) -> dict[str, Any]:
    return {view.repo: view.request.seen for view in site.coord.changes.list("P")}


@pytest.mark.parametrize("forge", ["github", "gitlab"], indirect=True)
def test_what_was_seen_of_a_request_is_shown_without_asking_again(site: SimpleNamespace):
    coord, forge = site.coord, site.forge
    coord.pr.create("P", RequestOptions(draft=True))
    assert {name: one.state for name, one in seen(site).items()} == {"lib": "draft", "app": "draft"}
    assert all("| draft |" in site.projects[name].requests[0].body for name in ("lib", "app"))
    coord.pr.create("P", RequestOptions(draft=False))
    assert not any(site.projects[name].requests[0].draft for name in ("lib", "app"))
    assert not any("| draft |" in site.projects[name].requests[0].body for name in ("lib", "app"))

    (request,) = site.projects["lib"].requests
    forge.check(site.projects["lib"], request.sha, "build", "failure", run=False)
    forge.check(site.projects["lib"], request.sha, "lint", "pending", run=False)
    forge.request_changes(site.projects["lib"], request.number)
    forge.approve(site.projects["app"], 1)
    listed = {view.repo: view for view in coord.pr.list("P")}
    is_github = forge.dialect.name == "github"
    red = ("build",) if is_github else ("build", "pipeline")
    name = "acme/lib#1" if is_github else "acme/lib!1"
    assert (listed["lib"].failing, listed["lib"].name, listed["app"].author) == (red, name, "coord")
    forge.seen.clear()
    found = seen(site)
    assert forge.seen == []
    assert (found["lib"].red, found["lib"].pending, found["lib"].refused_by) == (red, 1, ("ann",))
    assert (found["app"].approvals, found["app"].state) == (1, "open")

    forge.merge(site.projects["app"], 1)
    actions = [one.action for one in coord.pr.create("P", dry_run=True)]
    assert actions == ["would_update", "nothing"]
    coord.pr.create("P")
    assert len(site.projects["app"].requests) == 1, "GitLab would open one without changes"
    assert seen(site)["app"].state == "merged"
    assert "| merged |" in request.body


def test_a_request_of_somebody_else_is_adopted_and_only_added_to(site: SimpleNamespace):
    coord, forge, project = site.coord, site.forge, site.projects["app"]
    coord.pr.create("P")
    theirs = forge.push(project, "agent", theirs="x\n")
    request = forge.open_request(project, "agent", "By an agent")
    (adopted,) = coord.changes.adopt("P", "app", request=request.number)
    assert (adopted.merged, adopted.before, adopted.lacks) == (theirs, site.heads["app tip"], ())
    assert adopted.request_before.endswith("/1")
    (made,) = coord.pr.create("P", RequestOptions(repos=("app",)))
    assert (made.number, made.head, request.title) == (request.number, adopted.tip, "By an agent")
    assert "Depends on acme/lib#1" in request.body

    app = site.folder / "app"
    git("switch", "--quiet", BRANCH, cwd=app)
    more = save(app, "more", more="1\n")
    git("switch", "--quiet", "main", cwd=app)
    coord.changes.adopt("P", "app", BRANCH)
    coord.pr.create("P", RequestOptions(repos=("app",)))
    assert forge.tip("acme/app", "agent") == more

    git("branch", "--quiet", "mine", site.heads["app tip"], cwd=app)
    with pytest.raises(GitRefused):
        coord.changes.adopt("P", "app", "mine")
    coord.changes.adopt("P", "app", "mine", replace=True)
    with pytest.raises(Conflict) as refused:
        coord.pr.create("P", RequestOptions(repos=("app",)))
    assert refused.value.hint.endswith(f"coord plan adopt P app --pr {request.number}")
    assert forge.tip("acme/app", "agent") == more, "also not over what coord has pushed itself"


@pytest.mark.parametrize("other", ["other file", "conflict"])
def test_a_request_to_which_a_person_pushed_keeps_the_completed_todo_that_only_our_side_has(
    site: SimpleNamespace, other: str
):
    """A sweep has completed T-more since the request was made, and a person has pushed to the request."""
    coord, forge, project, app = site.coord, site.forge, site.projects["app"], site.folder / "app"
    (made,) = coord.pr.create("P", RequestOptions(repos=("app",)))
    file = site.folder / "ecosystem.yaml"
    declared = yaml.safe_load(file.read_text())
    todo = {"id": "T-more", "task": "t", "repo": "app", "plan": "P", "status": "completed"}
    declared["coordination"]["todos"].append(todo)
    file.write_text(yaml.safe_dump(declared))
    ours = work(app, BRANCH, "T-more", RUNS[0], begin=BRANCH)
    with coord.reached() as connection:
        facts = {"base": site.heads["app"], "tip": ours, "host": "here"}
        record(connection.redis, "P", "app", todos="T-app T-more", **facts)
    files = {"T-more": "theirs\n"} if other == "conflict" else {"theirs": "x\n"}
    theirs = forge.push(project, BRANCH, **files)

    if other == "conflict":
        with pytest.raises(GitRefused) as refused:
            coord.changes.adopt("P", "app", request=made.number)
        assert f"coord plan adopt P app --pr {made.number} --replace" in refused.value.hint
        assert (head(app, BRANCH), statuses(coord)["T-more"]) == (ours, "completed")
        (dropped,) = coord.changes.adopt("P", "app", request=made.number, replace=True)
        assert (dropped.tip, dropped.lacks, statuses(coord)["T-more"]) == (theirs, ("T-more",), "pending")
        assert git("for-each-ref", "--contains", ours, "refs/coord/discarded", cwd=app)
        return
    (adopted,) = coord.changes.adopt("P", "app", request=made.number)
    assert (adopted.before, adopted.merged, adopted.lacks) == (ours, theirs, ())
    assert git("show", "--no-patch", "--format=%P", adopted.tip, cwd=app).split() == [ours, theirs]
    assert statuses(coord)["T-more"] == "completed"
    coord.pr.create("P", RequestOptions(repos=("app",)))
    assert forge.tip("acme/app", BRANCH) == adopted.tip


def test_where_signatures_are_required_only_signed_tips_are_proposed(
    site: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
):
    """Or the owner of Redis could have any commit of a checkout pushed, with the credential of a person."""
    (site.folder / "config").mkdir(exist_ok=True)
    persons = Persons(site.folder)
    persons.trust(olga="operator")
    monkeypatch.setenv("COORD_TRUST_FILE", str(persons.file))
    monkeypatch.setenv("COORD_IDENTITY", str(persons.key("olga")))
    monkeypatch.setenv("COORD_SIGNATURES", "require")
    worker = worker_identity(site.folder / ".coord", "worker@here")

    def state(repo: str, tip: str) -> None:
        facts = {
            "run": "R",
            "todo": f"T-{repo}",
            "attempt": 1,
            "fence": 1,
            "repo": repo,
            "base": "",
            "tip": tip,
        }
        with site.coord.reached() as connection:
            facts |= connection.here.origin()
            record = ResultRecord(**facts, output="", outcome="succeeded", change_set="P")
            connection.redis.hset(connection.keys.changes("P"), f"result {repo}", seal_result(record, worker))

    with Coord(site.folder, site.coord.redis_url) as coord:
        state("lib", site.heads["lib tip"])
        with pytest.raises(NotTrusted):
            coord.pr.create("P")
        state("app", site.heads["app"])
        with pytest.raises(NotTrusted):
            coord.pr.create("P")
        assert not any(project.requests for project in site.projects.values())
        state("app", site.heads["app tip"])
        assert len(coord.pr.create("P")) == 2


@pytest.mark.parametrize("cause", ["never pushed", "taken out by people", "large files"])
def test_work_that_the_remote_could_not_take_whole_is_proposed_in_no_repository(
    site: SimpleNamespace, cause: str, monkeypatch: pytest.MonkeyPatch
):
    """It began at a commit that the base branch lacks, or names files of Git LFS; there is no `git lfs`."""
    fake_git_lfs(site.folder, monkeypatch, says="git: 'lfs' is not a git command")
    app = site.folder / "app"
    facts = {"base": site.heads["app"], "tip": site.heads["app tip"]}
    git("switch", "--quiet", BRANCH, cwd=app)
    if cause == "large files":
        facts["tip"] = save(app, "a large file", large=POINTER)
    else:
        private = save(app, "private", private="1\n")
        if cause == "never pushed":
            facts["base"] = private
        facts["tip"] = save(app, f"work\n\nCoord-Base: {private}", more="1\n")
    git("switch", "--quiet", "main", cwd=app)
    with site.coord.reached() as connection:
        connection.redis.hset(connection.keys.changes("P"), mapping={f"{k} app": v for k, v in facts.items()})

    with pytest.raises(GitRefused if cause == "large files" else Conflict) as refused:
        site.coord.pr.create("P")
    assert "git lfs" in str(refused.value) or "coord sweep P --fresh" in refused.value.hint
    assert [project.requests for project in site.projects.values()] == [[], []]
    assert all(BRANCH not in project.bare.git("branch") for project in site.projects.values())


def test_still_possible_a_request_that_redis_names_is_closed(site: SimpleNamespace):
    coord, forge, project = site.coord, site.forge, site.projects["app"]
    coord.pr.create("P", RequestOptions(repos=("app",)))
    forge.push(project, "agent", theirs="x\n")
    request = forge.open_request(project, "agent", "By an agent")
    with coord.reached() as connection:
        sets = ChangeSets(connection.store)
        (found,) = (one.request for one in sets.read("P").open.values() if one.repo == "app")
        sets.note_request("P", "app", found.model_copy(update={"number": request.number}), "request.updated")

    coord.pr.close("P")
    assert request.state == "closed"


def test_a_request_that_coord_cannot_go_on_with_is_refused(site: SimpleNamespace):
    coord, forge, project = site.coord, site.forge, site.projects["app"]
    forge.push(project, "agent", theirs="x\n")
    forge.push(project, "release", theirs="y\n")
    elsewhere = forge.open_request(project, "agent", "elsewhere", base="release")
    with pytest.raises(Blocked):
        coord.changes.adopt("P", "app", request=elsewhere.number)
    forge.close(project, elsewhere.number)
    with pytest.raises(ForgeError):
        coord.changes.adopt("P", "app", request=elsewhere.number)
    with pytest.raises(ForgeError):
        coord.changes.adopt("P", "app", request=999)
    with pytest.raises(UsageError):
        coord.changes.adopt("P", "app", "main", request=1)
    assert seen_tip(site) == site.heads["app tip"]


def seen_tip(site: SimpleNamespace) -> str:
    return next(view.tip for view in site.coord.changes.list("P") if view.repo == "app")


@pytest.mark.parametrize("forge", ["github", "gitlab", "gitea"], indirect=True)
def test_a_repository_or_text_that_a_forge_refuses_is_named_and_nothing_is_pushed(site: SimpleNamespace):
    forge, app = site.forge, site.projects["app"]
    coord_person = forge.core.person("coord")

    def refused(problem: ForgeProblem, *words: str, **options: Any) -> None:
        with pytest.raises(ForgeError) as caught:
            site.coord.pr.create("P", RequestOptions(**options))
        assert caught.value.problem is problem
        assert all(word in str(caught.value) for word in words), str(caught.value)

    rights = app.members[coord_person]
    app.members[coord_person] = "read"
    refused(ForgeProblem.FORK_NEEDED, "app: ", "acme/app", "forks")
    app.members[coord_person] = rights
    app.archived = True
    refused(ForgeProblem.ARCHIVED, "app: ", "acme/app", "--repo")
    app.archived = False
    refused(ForgeProblem.TOO_LONG, "lib", body="x" * 1_048_577)
    forge.rename(app, "acme/elsewhere")
    refused(ForgeProblem.RENAMED, "app: ", "acme/elsewhere")

    assert [project.requests for project in site.projects.values()] == [[], []]
    assert all(BRANCH not in project.bare.git("branch") for project in site.projects.values())
    (made,) = site.coord.pr.create("P", RequestOptions(repos=("lib",)))
    assert made.code == 0, made.error
