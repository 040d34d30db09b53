"""The commits of a landing and of its revert, against real git and without a checkout."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.landings import LINES, Ground
from tests.worktrees import ANN, save
from workers.landing.commits import has_landed, prepare, reopen, revert_commit
from workers.landing.records import HasLanded, Method, NoChange, Prepared, Reason, Refused
from workers.workspace.git import git


@pytest.fixture
def ground(checkout: Path) -> Ground:
    return Ground(checkout)


def landed(ground: Ground, base: str, tip: str = "", since: str = "") -> HasLanded:
    return has_landed(ground.at, base=base, tip=tip or ground.tip, since=since or ground.since)


@pytest.mark.parametrize("method", [Method.MERGE, Method.SQUASH])
@pytest.mark.parametrize("moved", [False, True])
def test_a_landing_has_the_work_and_the_base(ground: Ground, method: Method, moved: bool):
    base = save(ground.path, "later", later="1\n") if moved else ground.since
    before = git("for-each-ref", cwd=ground.path)
    made = ground.made(base, method)

    assert ground.files(made.commit) == ground.files(ground.tip) | ({"later": "1"} if moved else {})
    parents = git("show", "-s", "--format=%P", made.commit, cwd=ground.path).split()
    assert parents == [base] + ([ground.tip] if method is Method.MERGE else [])
    trailers = git("show", "-s", "--format=%(trailers:only)", made.commit, cwd=ground.path).split()
    assert trailers[1::2] == ["PLAN", "r1", base, ground.tip]
    assert git("status", "--porcelain", cwd=ground.path) + git("for-each-ref", cwd=ground.path) == before


def test_a_fast_forward_is_the_tip_and_needs_the_base_in_it(ground: Ground):
    assert ground.made(ground.since, Method.FF).commit == ground.tip
    base = save(ground.path, "later", later="1\n")
    found = prepare(ground.at, base=base, tip=ground.tip, since=ground.since, method=Method.FF, message="m")

    assert isinstance(found, Refused)
    assert (found.reason, found.lasting) == (Reason.NOT_FAST_FORWARD, True)


def test_a_landing_commit_has_the_author_and_signature_that_git_is_configured_for(
    ground: Ground, tmp_path: Path
):
    program = tmp_path / "sign"
    program.write_text('#!/bin/sh\ncat >/dev/null\necho "[GNUPG:] SIG_CREATED " >&2\necho SIGNED\n')
    program.chmod(0o755)
    for name, value in {
        "user.name": "Bea", "user.email": "b@example.org",
        "commit.gpgSign": "true", "gpg.program": str(program),
    }.items():  # fmt: skip
        git("config", name, value, cwd=ground.path)
    text = git("cat-file", "commit", ground.made(ground.since).commit, cwd=ground.path)

    assert "committer Bea <b@example.org>" in text
    assert "SIGNED" in text


REFUSED = {
    "conflict": Reason.CONFLICT,
    "rewritten": Reason.REWRITTEN,
    "unrelated": Reason.REWRITTEN,
    "an option": Reason.NO_COMMIT,
    "missing": Reason.NO_COMMIT,
}


@pytest.mark.parametrize(("case", "reason"), REFUSED.items(), ids=REFUSED)
def test_a_tip_that_cannot_land_is_refused_for_good(ground: Ground, case: str, reason: Reason):
    base, tip = ground.since, ground.tip
    if case == "conflict":
        base = save(ground.path, "same", text=LINES.replace("line 3\n", "other\n"), new="mine\n")
    elif case == "rewritten":
        tip = git(
            "commit-tree", "-m", "alone", "-p", "main^", f"{tip}^{{tree}}", cwd=ground.path, settings=ANN
        )
    elif case == "unrelated":
        base = git("commit-tree", "-m", "alone", f"{base}^{{tree}}", cwd=ground.path, settings=ANN)
    else:
        tip = "--help" if case == "an option" else "1" * 40
    found = prepare(ground.at, base=base, tip=tip, since=ground.since, method=Method.MERGE, message="m")

    assert isinstance(found, Refused)
    assert (found.reason, found.lasting) == (reason, True)
    assert sorted(found.files) == (["new", "text"] if case == "conflict" else [])


def test_a_shallow_clone_without_the_history_says_how_to_get_it(ground: Ground, tmp_path: Path):
    save(ground.path, "later", later="1\n")
    git(
        "clone",
        "-q",
        "--depth=1",
        "--no-single-branch",
        f"file://{ground.path}",
        str(tmp_path / "c"),
        cwd=tmp_path,
    )
    at = ground.at_url("", path=tmp_path / "c")
    found = prepare(
        at, base=ground.tip_of("main"), tip=ground.tip, since=ground.tip, method=Method.MERGE, message="m"
    )

    assert isinstance(found, Refused)
    assert found.reason is Reason.SHALLOW
    assert "fetch --unshallow" in found.error


def test_without_a_difference_there_is_nothing_to_land(ground: Ground):
    merged = ground.person("merge", "--no-ff", "--no-edit", "coord/PLAN")
    tips = {ground.tip: merged, ground.since: ground.since}
    for tip, base in tips.items():
        found = prepare(ground.at, base=base, tip=tip, since=ground.since, method=Method.SQUASH, message="m")
        assert found == NoChange(base=base)


BY_PEOPLE = {
    "merge": ["merge --no-ff --no-edit coord/PLAN"],
    "fast-forward": ["merge --ff-only coord/PLAN"],
    "squash": ["merge --squash coord/PLAN", "commit -m all"],
    "rebase": ["cherry-pick main..coord/PLAN"],
}


@pytest.mark.parametrize("commands", BY_PEOPLE.values(), ids=BY_PEOPLE)
@pytest.mark.parametrize("moved", [False, True])
def test_a_change_set_that_people_merged_has_landed_until_it_is_reverted(
    ground: Ground, commands: list[str], moved: bool
):
    if moved and "--ff-only" not in commands[0]:
        save(ground.path, "before", before="1\n")
    before = ground.tip_of("main")
    assert landed(ground, before) is HasLanded.NO
    for command in commands:
        ground.person(*command.split())
    after = save(ground.path, "after", after="2\n") if moved else ground.tip_of("main")
    assert landed(ground, after) is HasLanded.YES
    made = revert_commit(ground.at, base=after, landed=after, before=before, message="m")
    assert isinstance(made, Prepared)

    assert landed(ground, made.commit) is not HasLanded.YES


def test_half_of_the_work_no_work_and_a_conflict_are_not_landed(ground: Ground):
    half = ground.person("merge", "--ff-only", "--quiet", f"{ground.tip}^")
    assert landed(ground, half) is HasLanded.NO
    assert landed(ground, half, ground.since) is HasLanded.NO
    ground.person("reset", "--hard", "--quiet", ground.since)
    over = save(ground.path, "same lines", text=LINES.replace("line 3\n", "other\n"))
    assert landed(ground, over) is HasLanded.UNKNOWN
    assert landed(ground, over, "1" * 40) is HasLanded.UNKNOWN


@pytest.mark.parametrize("method", list(Method))
@pytest.mark.parametrize("moved", [False, True])
def test_land_revert_land_again_has_all_the_work(ground: Ground, method: Method, moved: bool):
    made = ground.made(ground.since, method)
    ground.person("reset", "--hard", "--quiet", made.commit)
    base = save(ground.path, "later", later="1\n") if moved else made.commit
    later = {"later": "1"} if moved else {}
    facts = {"landed": made.commit, "before": git("rev-parse", f"{ground.since}^{{tree}}", cwd=ground.path)}
    back = revert_commit(ground.at, base=base, message="back", **facts)
    assert isinstance(back, Prepared)
    assert ground.files(back.commit) == ground.files(ground.since) | later
    assert git("rev-parse", f"{back.commit}^@", cwd=ground.path) == base
    assert revert_commit(ground.at, base=back.commit, message="again", **facts) == NoChange(base=back.commit)

    again = reopen(ground.at, tip=ground.tip, base=back.commit, message="open", **facts)
    assert isinstance(again, Prepared)
    assert git("rev-parse", f"{again.commit}^@", cwd=ground.path).split() == [ground.tip, back.commit]
    assert landed(ground, back.commit, again.commit, back.commit) is HasLanded.NO
    landing = ground.made(back.commit, method, again.commit, back.commit)
    assert ground.files(landing.commit) == ground.files(ground.tip) | later
    assert landed(ground, landing.commit, again.commit, back.commit) is HasLanded.YES


def test_a_revert_over_later_changes_is_refused_with_their_files(ground: Ground):
    made = ground.made(ground.since)
    ground.person("reset", "--hard", "--quiet", made.commit)
    base = save(ground.path, "on top", new="new\nnewest\n")
    found = revert_commit(ground.at, base=base, landed=made.commit, before=ground.since, message="back")

    assert isinstance(found, Refused)
    assert (found.reason, list(found.files)) == (Reason.CONFLICT, ["new"])


def test_submodules_and_pointers_of_large_files_land_as_they_are(ground: Ground):
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"
    git("switch", "--quiet", "coord/PLAN", cwd=ground.path)
    for words in (
        f"update-index --add --cacheinfo 160000,{'2' * 40},sub",
        "config filter.lfs.required true",
        "config filter.lfs.process /bin/false",
    ):
        git(*words.split(), cwd=ground.path)
    blob = git("hash-object", "-w", "--stdin", cwd=ground.path, stdin=pointer)
    git("update-index", "--add", "--cacheinfo", f"100644,{blob},large", cwd=ground.path)
    (ground.path / ".gitattributes").write_text("large filter=lfs\n")
    git("update-index", "--add", ".gitattributes", cwd=ground.path)
    git("commit", "--quiet", "-m", "modules", cwd=ground.path, settings=ANN)
    made = ground.made(ground.since, Method.SQUASH, ground.tip_of("coord/PLAN"))

    listing = git("ls-tree", made.commit, "sub", "large", cwd=ground.path)
    assert f"160000 commit {'2' * 40}\tsub" in listing
    assert f"100644 blob {blob}\tlarge" in listing
