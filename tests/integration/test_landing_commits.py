"""The commits of a landing and of its revert, against real git and without a checkout."""

from __future__ import annotations

from pathlib import Path

import pytest

from coordination.models import Method
from tests.landing_checkout import LINES, LandingCheckout
from tests.worktrees import ANN, git, save
from workers.landing.commits import prepare, reopen, revert_commit
from workers.landing.history import has_landed
from workers.landing.records import HasLanded, NoChange, Prepared, Reason, Refused


@pytest.fixture
def landing(checkout: Path) -> LandingCheckout:
    return LandingCheckout(checkout)


def landed(landing: LandingCheckout, base: str, tip: str = "", since: str = "") -> HasLanded:
    return has_landed(landing.at, base=base, tip=tip or landing.tip, since=since or landing.since)


@pytest.mark.parametrize("method", [Method.MERGE, Method.SQUASH])
@pytest.mark.parametrize("moved", [False, True])
def test_a_landing_has_the_work_and_the_base(landing: LandingCheckout, method: Method, moved: bool):
    base = save(landing.path, "later", later="1\n") if moved else landing.since
    before = git("for-each-ref", cwd=landing.path)
    made = landing.made(base, method)

    assert landing.files(made.commit) == landing.files(landing.tip) | ({"later": "1"} if moved else {})
    parents = git("show", "-s", "--format=%P", made.commit, cwd=landing.path).split()
    assert parents == [base] + ([landing.tip] if method is Method.MERGE else [])
    trailers = git("show", "-s", "--format=%(trailers:only)", made.commit, cwd=landing.path).split()
    assert trailers[1::2] == ["PLAN", "r1", base, landing.tip]
    assert git("status", "--porcelain", cwd=landing.path) + git("for-each-ref", cwd=landing.path) == before


def test_a_fast_forward_is_the_tip_and_needs_the_base_in_it(landing: LandingCheckout):
    assert landing.made(landing.since, Method.FF).commit == landing.tip
    base = save(landing.path, "later", later="1\n")
    found = prepare(
        landing.at, base=base, tip=landing.tip, since=landing.since, method=Method.FF, message="m"
    )

    assert isinstance(found, Refused)
    assert (found.reason, found.lasting) == (Reason.NOT_FAST_FORWARD, True)


def test_a_landing_commit_has_the_author_and_signature_that_git_is_configured_for(
    landing: LandingCheckout, tmp_path: Path
):
    program = tmp_path / "sign"
    program.write_text('#!/bin/sh\ncat >/dev/null\necho "[GNUPG:] SIG_CREATED " >&2\necho SIGNED\n')
    program.chmod(0o755)
    for name, value in {
        "user.name": "Bea", "user.email": "b@example.org",
        "commit.gpgSign": "true", "gpg.program": str(program),
    }.items():  # fmt: skip
        git("config", name, value, cwd=landing.path)
    text = git("cat-file", "commit", landing.made(landing.since).commit, cwd=landing.path)

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
def test_a_tip_that_cannot_land_is_refused_for_good(landing: LandingCheckout, case: str, reason: Reason):
    base, tip = landing.since, landing.tip
    if case == "conflict":
        base = save(landing.path, "same", text=LINES.replace("line 3\n", "other\n"), new="mine\n")
    elif case == "rewritten":
        tip = git(
            "commit-tree", "-m", "alone", "-p", "main^", f"{tip}^{{tree}}", cwd=landing.path, settings=ANN
        )
    elif case == "unrelated":
        base = git("commit-tree", "-m", "alone", f"{base}^{{tree}}", cwd=landing.path, settings=ANN)
    else:
        tip = "--help" if case == "an option" else "1" * 40
    found = prepare(landing.at, base=base, tip=tip, since=landing.since, method=Method.MERGE, message="m")

    assert isinstance(found, Refused)
    assert (found.reason, found.lasting) == (reason, True)
    assert sorted(found.files) == (["new", "text"] if case == "conflict" else [])


def test_a_shallow_clone_without_the_history_says_how_to_get_it(landing: LandingCheckout, tmp_path: Path):
    save(landing.path, "later", later="1\n")
    git(
        "clone",
        "-q",
        "--depth=1",
        "--no-single-branch",
        f"file://{landing.path}",
        str(tmp_path / "c"),
        cwd=tmp_path,
    )
    at = landing.at_url("", path=tmp_path / "c")
    found = prepare(
        at, base=landing.tip_of("main"), tip=landing.tip, since=landing.tip, method=Method.MERGE, message="m"
    )

    assert isinstance(found, Refused)
    assert found.reason is Reason.SHALLOW
    assert "fetch --unshallow" in found.error


def test_without_a_difference_there_is_nothing_to_land(landing: LandingCheckout):
    merged = landing.person("merge", "--no-ff", "--no-edit", "coord/PLAN")
    tips = {landing.tip: merged, landing.since: landing.since}
    for tip, base in tips.items():
        found = prepare(
            landing.at, base=base, tip=tip, since=landing.since, method=Method.SQUASH, message="m"
        )
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
    landing: LandingCheckout, commands: list[str], moved: bool
):
    if moved and "--ff-only" not in commands[0]:
        save(landing.path, "before", before="1\n")
    before = landing.tip_of("main")
    assert landed(landing, before) is HasLanded.NO
    for command in commands:
        landing.person(*command.split())
    after = save(landing.path, "after", after="2\n") if moved else landing.tip_of("main")
    assert landed(landing, after) is HasLanded.YES
    made = revert_commit(landing.at, base=after, landed=after, before=before, message="m")
    assert isinstance(made, Prepared)

    assert landed(landing, made.commit) is not HasLanded.YES


def test_half_of_the_work_no_work_and_a_conflict_are_not_landed(landing: LandingCheckout):
    half = landing.person("merge", "--ff-only", "--quiet", f"{landing.tip}^")
    assert landed(landing, half) is HasLanded.NO
    assert landed(landing, half, landing.since) is HasLanded.NO
    landing.person("reset", "--hard", "--quiet", landing.since)
    over = save(landing.path, "same lines", text=LINES.replace("line 3\n", "other\n"))
    assert landed(landing, over) is HasLanded.UNKNOWN
    assert landed(landing, over, "1" * 40) is HasLanded.UNKNOWN


@pytest.mark.parametrize("method", [Method.MERGE, Method.SQUASH, Method.FF])
@pytest.mark.parametrize("moved", [False, True])
def test_land_revert_land_again_has_all_the_work(landing: LandingCheckout, method: Method, moved: bool):
    made = landing.made(landing.since, method)
    landing.person("reset", "--hard", "--quiet", made.commit)
    base = save(landing.path, "later", later="1\n") if moved else made.commit
    later = {"later": "1"} if moved else {}
    facts = {"landed": made.commit, "before": git("rev-parse", f"{landing.since}^{{tree}}", cwd=landing.path)}
    back = revert_commit(landing.at, base=base, message="back", **facts)
    assert isinstance(back, Prepared)
    assert landing.files(back.commit) == landing.files(landing.since) | later
    assert git("rev-parse", f"{back.commit}^@", cwd=landing.path) == base
    assert revert_commit(landing.at, base=back.commit, message="again", **facts) == NoChange(base=back.commit)

    again = reopen(landing.at, tip=landing.tip, base=back.commit, message="open", **facts)
    assert isinstance(again, Prepared)
    assert git("rev-parse", f"{again.commit}^@", cwd=landing.path).split() == [landing.tip, back.commit]
    assert landed(landing, back.commit, again.commit, back.commit) is HasLanded.NO
    third = landing.made(back.commit, method, again.commit, back.commit)
    assert landing.files(third.commit) == landing.files(landing.tip) | later
    assert landed(landing, third.commit, again.commit, back.commit) is HasLanded.YES


def test_a_revert_over_later_changes_is_refused_with_their_files(landing: LandingCheckout):
    made = landing.made(landing.since)
    landing.person("reset", "--hard", "--quiet", made.commit)
    base = save(landing.path, "on top", new="new\nnewest\n")
    found = revert_commit(landing.at, base=base, landed=made.commit, before=landing.since, message="back")

    assert isinstance(found, Refused)
    assert (found.reason, list(found.files)) == (Reason.CONFLICT, ["new"])


def test_submodules_and_pointers_of_large_files_land_as_they_are(landing: LandingCheckout):
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"
    git("switch", "--quiet", "coord/PLAN", cwd=landing.path)
    for words in (
        f"update-index --add --cacheinfo 160000,{'2' * 40},sub",
        "config filter.lfs.required true",
        "config filter.lfs.process /bin/false",
    ):
        git(*words.split(), cwd=landing.path)
    blob = git("hash-object", "-w", "--stdin", cwd=landing.path, stdin=pointer)
    git("update-index", "--add", "--cacheinfo", f"100644,{blob},large", cwd=landing.path)
    (landing.path / ".gitattributes").write_text("large filter=lfs\n")
    git("update-index", "--add", ".gitattributes", cwd=landing.path)
    git("commit", "--quiet", "-m", "modules", cwd=landing.path, settings=ANN)
    made = landing.made(landing.since, Method.SQUASH, landing.tip_of("coord/PLAN"))

    listing = git("ls-tree", made.commit, "sub", "large", cwd=landing.path)
    assert f"160000 commit {'2' * 40}\tsub" in listing
    assert f"100644 blob {blob}\tlarge" in listing
