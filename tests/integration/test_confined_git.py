"""The git directory of a todo in a sandbox: its commits arrive, and all else that it leaves has no effect."""

from __future__ import annotations

import resource
import shutil
import tracemalloc
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from coordination.runs.not_committed import NotCommittedReason
from tests.attempts import RUN, Bench
from tests.sandboxes import needs_bubblewrap
from tests.testbed import git
from workers.outcome import AttemptOutcome, OutcomeKind

pytestmark = needs_bubblewrap

BOUNDED: dict[str, Any] = {"sandbox": {"kind": "bubblewrap"}}
AS = "-c user.name=t -c user.email=t@x"
GIT_DIR = "d=$(git rev-parse --absolute-git-dir); b=$d/refs/heads/coord/$COORD_RUN_ID; "
SUCCEEDED, REFUSED, FAILED = OutcomeKind.SUCCEEDED, OutcomeKind.REFUSED, OutcomeKind.FAILED


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    (tmp_path / "home").mkdir()
    bench = Bench(tmp_path)
    bench.make_repository()
    (bench.checkout / ".gitignore").write_text("ignored/\n*.cache\n")
    git(bench.checkout, "add", ".gitignore")
    git(bench.checkout, "commit", "-q", "-m", "ignore")
    return bench


def confined(bench: Bench, *lines: str, **todo: Any) -> AttemptOutcome:
    return bench.attempt("\n".join(lines), **BOUNDED, **todo)


def refs(bench: Bench) -> dict[str, str]:
    listed = git(bench.checkout, "for-each-ref", "--format=%(refname) %(objectname)").splitlines()
    found = dict(line.split(" ") for line in listed)
    return {ref: commit for ref, commit in found.items() if ref != f"refs/heads/coord/{RUN}"}


def files(bench: Bench, commit: str) -> list[str]:
    return git(bench.checkout, "ls-tree", "-r", "--name-only", commit).split()


HARM = {
    "symbolic branch": 'echo "ref: refs/heads/main" > $b',
    "symbolic head": 'git symbolic-ref HEAD refs/heads/main; git commit --allow-empty -qm x',
    "head is a link": "rm $d/HEAD; ln -s {secret} $d/HEAD",
    "branch is a link": "rm $b; ln -s {secret} $b",
    "branch is a pipe": "rm $b; mkfifo $b",
    "branch is a folder": "rm $b; mkdir $b",
    "branch is endless": "head -c 20000000 /dev/zero > $b",
    "head is a pipe": "rm $d/HEAD; mkfifo $d/HEAD",
    "folder of branches is a link": "rm -rf $d/refs/heads; ln -s {outside} $d/refs/heads",
    "packed refs are a pipe": "git pack-refs --all; rm -f $b $d/packed-refs; mkfifo $d/packed-refs",
    "index is a link": "rm $d/index; ln -s {target} $d/index",
    "index is a pipe": "rm $d/index; mkfifo $d/index",
    "index is rubbish": "printf DIRC > $d/index; head -c 1000 /dev/urandom >> $d/index",
    "message is a link": "ln -sf {target} $d/COMMIT_EDITMSG",
    "log is a link": "rm -rf $d/logs; mkdir -p $d/logs; ln -s {target} $d/logs/HEAD",
    "merge is a pipe": "mkfifo $d/MERGE_HEAD",
    "objects are a link": "mv $d/objects $d/o; ln -s {outside} $d/objects",
    "objects are pipes": "echo x > x; git add x; git commit -qm x; find $d/objects -type f -name '[0-9]*' | "
    "while read f; do rm -f $f; mkfifo $f; done",
    "objects borrowed": "echo {outside}/objects >> $d/objects/info/alternates",
    "another common folder": "echo {outside} > $d/commondir; echo {tree}/.git > $d/gitdir",
    "configuration": "git config core.fsmonitor 'touch {target}'; git config core.worktree {outside}; "
    "git config include.path {target}; git config filter.x.clean 'touch {target}'; "
    "echo '* filter=x' > $d/info/attributes",
    "hooks": "mkdir -p $d/hooks; printf '#!/bin/sh\\ntouch {target}\\n' > $d/hooks/pre-commit; "
    "chmod +x $d/hooks/*; git config core.hooksPath $d/hooks",
    "replaced": "git replace --graft HEAD || true; git update-ref refs/replace/$(git rev-parse HEAD) HEAD",
    "shallow": "git rev-parse HEAD > $d/shallow; mkfifo $d/info/grafts",
    "everything": "rm -rf $d/*",
    "deep": 'p=$d; for i in $(seq 300); do p=$p/d; done; mkdir -p $p; cd $d; '
    "for i in $(seq 1500); do mkdir -p d; cd d; done",
}  # fmt: skip


@pytest.mark.parametrize("name", HARM)
def test_what_a_todo_does_to_its_git_directory_changes_nothing_outside(bench: Bench, name: str):
    outside, target, secret = bench.folder / "outside", bench.folder / "target", bench.folder / "secret"
    git(bench.folder, "init", "-q", str(outside / "repo"))
    (outside / "objects").mkdir()
    secret.write_text("0" * 40 + "\n")
    before, config = refs(bench), (bench.checkout / ".git" / "config").read_bytes()
    harm = HARM[name].format(outside=outside, target=target, secret=secret, tree=bench.tree)

    done = confined(
        bench, GIT_DIR, "git config user.name t; git config user.email t@x", "echo two > new", harm
    )
    after = confined(bench, "echo three > code", tip=done.tip or None)

    assert done.kind in (SUCCEEDED, REFUSED), bench.log
    assert after.kind is SUCCEEDED, bench.log
    assert refs(bench) == before
    assert (bench.checkout / ".git" / "config").read_bytes() == config
    assert not target.exists()
    assert sorted(path.name for path in outside.iterdir()) == ["objects", "repo"]
    assert list((outside / "objects").iterdir()) == []
    assert git(bench.checkout, "status", "--porcelain") == ""
    assert git(bench.checkout, "fsck", "--strict", "--no-dangling") == ""
    if done.kind is SUCCEEDED:
        assert git(bench.checkout, "show", f"{done.tip}:new") == "two"
    assert not (bench.state / "workspaces" / RUN / "api" / "private").exists()


def test_commits_of_a_todo_arrive_with_what_it_left_uncommitted_on_top(bench: Bench):
    done = confined(
        bench,
        "git branch side; git tag v9; git stash list",
        f"for i in 1 2; do echo $i > f$i; git add f$i; git {AS} commit -qm mine$i; done; echo three > code",
    )

    assert done.kind is SUCCEEDED, bench.log
    subjects = git(bench.checkout, "log", "--format=%s", f"main..{done.tip}").splitlines()
    assert subjects == ["T: Raise the minimum", "mine2", "mine1"]
    assert files(bench, done.tip) == [".gitignore", "code", "f1", "f2"]
    assert [(one.reason, one.paths) for one in done.not_committed] == [
        (NotCommittedReason.REFS, ("refs/heads/side", "refs/tags/v9"))
    ]
    assert "side" not in bench.branches()
    assert bench.standing() == done.tip


@pytest.mark.parametrize("pack", ["", "git gc -q", "git repack -qad; git pack-refs --all", "many"])
def test_packed_commits_arrive(bench: Bench, pack: str):
    many = "mkdir m; for i in $(seq 700); do echo $i > m/$i; done; git add m;"
    done = confined(
        bench, f"echo 1 > a; git add a; {many if pack == 'many' else ''} git {AS} commit -qm mine; "
        f"{pack.replace('many', 'true') or 'true'}; git switch -q -c other; echo b > b"
    )  # fmt: skip

    assert done.kind is SUCCEEDED, bench.log
    assert {"a", "b", "code"} <= set(files(bench, done.tip))


def test_commits_that_are_small_only_when_compressed_take_no_memory(bench: Bench):
    many = "print(i, file=open(f'f{i}', 'w')) or os.truncate(f'f{i}', 50_000_000 + i) for i in range(8)"
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    done = confined(
        bench,
        f'python3 -c "import os; [{many}]"',
        f"git add f*; git {AS} commit -qm large",
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss

    assert done.kind is SUCCEEDED, bench.log
    assert len(files(bench, done.tip or "")) == 10
    assert after <= max(before, 250_000)  # kB


def test_a_rewritten_history_is_refused(bench: Bench):
    done = confined(bench, f"git {AS} commit --amend -qm other")

    assert done.kind is REFUSED
    assert "rewritten" in done.error
    assert bench.standing() == bench.standing("main")


FORGED = """
import os, subprocess, zlib, hashlib
run = lambda *a, **k: subprocess.check_output(["git", *a], text=True, **k).strip()
d = run("rev-parse", "--absolute-git-dir")
def put(kind, data, name=None):
    whole = kind.encode() + b" %%d\\0" %% len(data) + data
    name = name or hashlib.sha1(whole).hexdigest()
    path = f"{d}/objects/{name[:2]}/{name[2:]}"
    os.makedirs(os.path.dirname(path), exist_ok=True)
    open(path, "wb").write(zlib.compress(whole))
    return name
def commit(tree):
    head = run("rev-parse", "HEAD")
    text = f"tree {tree}\\nparent {head}\\nauthor a <a@b> 1 +0000\\ncommitter a <a@b> 1 +0000\\n\\nx\\n"
    name = put("commit", text.encode())
    open(f"{d}/refs/heads/coord/{os.environ['COORD_RUN_ID']}", "w").write(name)
blob = put("blob", b"x")
entry = lambda mode, name, sha: mode + b" " + name + b"\\0" + bytes.fromhex(sha)
%s
"""
FORGERIES = {
    "a .git in a tree": 'commit(put("tree", entry(b"100644", b".git", blob)))',
    "a way up": 'commit(put("tree", entry(b"40000", b"..", put("tree", entry(b"100644", b"a", blob)))))',
    "a link as .gitmodules": 'commit(put("tree", entry(b"120000", b".gitmodules", blob)))',
    "an option as address": 'commit(put("tree", entry(b"100644", b".gitmodules", put("blob", '
    'b"[submodule \\"a\\"]\\n\\tpath = a\\n\\turl = --upload-pack=x\\n"))))',
    "a missing file": 'commit(put("tree", entry(b"100644", b"a", "1" * 40)))',
    "another content": 'commit(put("tree", entry(b"100644", b"a", put("blob", b"evil", "1" * 40))))',
    "another parent": 'commit(put("tree", entry(b"100644", b"a", blob), "2" * 40))',
    "a commit that is none": 'open(f"{d}/refs/heads/coord/{os.environ[\'COORD_RUN_ID\']}", "w").write(blob)',
    "a size that is too large": 'p = put("blob", b"y"); open(f"{d}/objects/{p[:2]}/{p[2:]}", "wb").write('
    'zlib.compress(b"tree 99999999999\\0")); commit(p)',
}  # fmt: skip


@pytest.mark.parametrize("name", FORGERIES)
def test_forged_objects_are_refused(bench: Bench, name: str):
    before = refs(bench)
    done = bench.attempt(["python3", "-c", FORGED % FORGERIES[name]], **BOUNDED)

    assert done.kind is REFUSED, bench.log
    assert refs(bench) == before
    assert git(bench.checkout, "fsck", "--strict", "--no-dangling") == ""
    assert confined(bench, "echo two > code").kind is SUCCEEDED, bench.log


def test_an_object_that_the_repository_has_cannot_be_replaced(bench: Bench):
    blob = git(bench.checkout, "rev-parse", "main:code")
    place = bench.checkout / ".git" / "objects" / blob[:2] / blob[2:]
    before = place.read_bytes()

    done = confined(bench, f"rm -f {place}; echo evil > {place}; true")

    assert done.kind is SUCCEEDED
    assert place.read_bytes() == before


def test_the_index_of_a_todo_says_which_ignored_files_count(bench: Bench):
    (bench.checkout / "kept.cache").write_text("kept\n")
    git(bench.checkout, "add", "-f", "kept.cache")
    git(bench.checkout, "commit", "-q", "-m", "kept")

    done = confined(bench, "mkdir ignored; echo x > ignored/x; echo y > ignored/y; git add -f ignored/x",
                    "git rm -q --cached kept.cache")  # fmt: skip

    assert done.kind is SUCCEEDED, bench.log
    assert files(bench, done.tip) == [".gitignore", "code", "ignored/x"]


INFLATED = """
import struct, subprocess
d = subprocess.run(["git", "rev-parse", "--absolute-git-dir"], capture_output=True, text=True).stdout.strip()
def entry(name): return struct.pack(">24xL12x20xH", 0o100644, 0xFFF) + b"\\0" + name + b"\\0"
with open(d + "/index", "wb") as file:
    file.write(struct.pack(">4sLL", b"DIRC", 4, 1001) + entry(b"a" * 1_000_000) + entry(b"b") * 1000)
"""


def test_an_index_whose_paths_are_compressed_takes_no_memory(bench: Bench):
    tracemalloc.start()
    try:
        done = confined(bench, f"python3 -c '{INFLATED}' && echo two > code")
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert done.kind is SUCCEEDED, bench.log
    assert git(bench.checkout, "show", f"{done.tip}:code") == "two"
    assert most < 50_000_000


def test_a_merge_that_a_todo_left_open_has_both_parents_and_one_with_conflicts_is_refused(bench: Bench):
    git(bench.checkout, "switch", "-q", "-c", "side")
    (bench.checkout / "side").write_text("side\n")
    git(bench.checkout, "add", "side")
    git(bench.checkout, "commit", "-q", "-m", "side")
    (bench.checkout / "code").write_text("theirs\n")
    git(bench.checkout, "commit", "-q", "-am", "theirs")
    git(bench.checkout, "switch", "-q", "main")

    merged = confined(bench, f"git {AS} merge -q --no-ff --no-commit side~1")
    refused = confined(bench, f"echo ours > code; git {AS} commit -qam ours; git {AS} merge -q side || true")

    assert merged.kind is SUCCEEDED, bench.log
    assert git(bench.checkout, "rev-parse", f"{merged.tip}^2") == git(bench.checkout, "rev-parse", "side~1")
    assert refused.kind is REFUSED
    assert "conflicts in code" in refused.error


PIPES = (".gitignore", ".gitattributes", ".gitmodules", "sub/.gitignore", "ignored/x", "plain")


@pytest.mark.parametrize("place", PIPES)
@pytest.mark.parametrize("end", ["true", "false"])
def test_a_pipe_in_the_folder_holds_up_nothing(bench: Bench, place: str, end: str):
    done = confined(bench, f"mkdir -p sub ignored; rm -f {place}; mkfifo {place}; echo two > sub/new; {end}")
    after = confined(bench, "echo three > code")

    assert done.kind is (SUCCEEDED if end == "true" else OutcomeKind.FAILED), bench.log
    assert after.kind is SUCCEEDED, bench.log
    if end == "true":
        assert (NotCommittedReason.SPECIAL, (place,)) in [
            (one.reason, one.paths) for one in done.not_committed
        ]
        assert "sub/new" in files(bench, done.tip)


ENDLESS = "name = 'a' * 200 + 'c'; print('two', file=open(name, 'w')); "
STARS = "print('*a' * 20 + '*b{}', file=open('{}', 'w'))"


@pytest.mark.parametrize(
    ("pattern", "end", "kind"),
    [
        (STARS.format("", ".gitignore"), "exit 1", FAILED),
        (STARS.format("", ".gitignore"), "", REFUSED),
        (STARS.format(" text", ".gitattributes"), "", REFUSED),
    ],
)
def test_a_pattern_that_takes_years_is_given_up(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, pattern: str, end: str, kind: OutcomeKind
):
    monkeypatch.setattr("workers.workspace.git_worktree.HOSTILE_PATIENCE", timedelta(seconds=3))

    done = confined(bench, f'python3 -c "{ENDLESS}{pattern}"', end)
    after = confined(bench, "echo three > code")

    assert done.kind is kind, bench.log
    assert done.error
    assert after.kind is SUCCEEDED, bench.log
    assert files(bench, after.tip or "") == [".gitignore", "code"]


def test_a_file_that_says_it_is_huge_takes_no_time(bench: Bench):
    done = confined(bench, "truncate -s 1T huge")

    assert done.kind is REFUSED, bench.log
    assert "1,099,511,627,776 bytes" in done.error
    assert confined(bench, "echo three > code").kind is SUCCEEDED, bench.log


@pytest.mark.parametrize("place", [".gitignore", "sub/.gitignore", ".gitattributes", ".gitmodules"])
@pytest.mark.parametrize("end", ["true", "false"])
def test_a_file_that_git_would_read_into_memory_takes_none(bench: Bench, place: str, end: str):
    done = confined(bench, f"mkdir sub; truncate -s 2T {place}; echo two > code; {end}")
    after = confined(bench, "echo three > code", tip=done.tip or None)

    assert done.kind is (SUCCEEDED if end == "true" else OutcomeKind.FAILED), bench.log
    assert after.kind is SUCCEEDED, bench.log
    if end == "true":
        assert [(one.reason, one.paths) for one in done.not_committed] == [
            (NotCommittedReason.SPECIAL, (place,))
        ]


NESTED = {
    "pipe": "mkdir -p {at}/.git; mkfifo {at}/.git/HEAD",
    "pipe elsewhere": "mkdir -p {at} ignored/g/objects ignored/g/refs; mkfifo ignored/g/HEAD; "
    "echo 'gitdir: ../ignored/g' > {at}/.git",
    "another repository": "mkdir -p {at}; echo 'gitdir: {other}/.git' > {at}/.git",
    "link": "mkdir -p {at}; ln -s {other}/.git {at}/.git",
    "program": "git init -q {at}; git -C {at} config core.fsmonitor 'touch {mark}'; echo x > {at}/x",
}  # fmt: skip


@pytest.mark.parametrize("name", NESTED)
@pytest.mark.parametrize("at", ["sub", "ignored/sub"])
def test_no_git_of_the_worker_enters_a_nested_repository(bench: Bench, name: str, at: str):
    other, mark = bench.make_repository(bench.folder / "other"), bench.folder / "mark"
    harm = NESTED[name].format(at=at, other=other, mark=mark)

    done = confined(bench, harm, "echo two > code")
    after = confined(bench, "echo three > code")

    if at == "sub":
        assert done.kind is REFUSED, bench.log
        assert [(one.reason, one.paths) for one in done.not_committed] == [
            (NotCommittedReason.REPOSITORY, ("sub",))
        ]
    else:
        assert done.kind is SUCCEEDED, bench.log
        assert (bench.tree / at / ".git").is_symlink() or (bench.tree / at / ".git").exists()
    assert after.kind is SUCCEEDED, bench.log
    assert not mark.exists()
    assert git(other, "status", "--porcelain") == ""


def test_a_folder_that_became_a_link_of_a_commit_gets_no_repository_back(bench: Bench):
    """The `.git` that was moved away would else arrive in the folder that the link names."""
    elsewhere = bench.folder / "elsewhere"
    elsewhere.mkdir()
    (bench.checkout / "link").symlink_to(elsewhere)
    git(bench.checkout, "add", "link")
    git(bench.checkout, "commit", "-q", "-m", "link")

    confined(bench, "rm link; mkdir link; git init -q link; false")
    after = confined(bench, "echo two > code")

    assert after.kind is SUCCEEDED, bench.log
    assert list(elsewhere.iterdir()) == []


def test_a_hook_runs_in_the_sandbox_and_cannot_write_the_repository(bench: Bench):
    git_dir = bench.checkout / ".git"
    bench.hook(
        "pre-commit",
        f"touch {git_dir}/objects/planted {git_dir}/planted {git_dir}/refs/heads/planted 2>/dev/null",
        "echo formatted > code; git add code; mkfifo pipe .gitattributes; git branch more",
    )
    before = refs(bench)

    done = confined(bench, "echo two > code")

    assert done.kind is SUCCEEDED, bench.log
    assert git(bench.checkout, "show", f"{done.tip}:code") == "formatted"
    assert refs(bench) == before
    assert not [*git_dir.rglob("planted")]
    assert confined(bench, "echo three > new", tip=done.tip).kind is SUCCEEDED, bench.log


def test_a_hook_that_changes_files_and_refuses_is_asked_again(bench: Bench):
    bench.hook("pre-commit", "grep -q formatted code || { echo formatted > code; exit 1; }")

    done = confined(bench, "echo two > code")

    assert done.kind is SUCCEEDED, bench.log
    assert git(bench.checkout, "show", f"{done.tip}:code") == "formatted"


@pytest.mark.parametrize(
    "kind", ["sha256", "shallow", "partial", "alternates", "packed", "split index", "sparse"]
)
def test_every_kind_of_repository_has_confined_todos(bench: Bench, kind: str):
    shutil.rmtree(bench.checkout)
    source = bench.make_repository(bench.folder / "source")
    for number in range(3):
        (source / f"d{number}").mkdir()
        (source / f"d{number}" / "f").write_text(str(number))
        git(source, "add", ".")
        git(source, "commit", "-q", "-m", str(number))
    git(source, "config", "uploadpack.allowFilter", "true")
    clone = {
        "shallow": ("--depth=1",),
        "partial": ("--filter=blob:none",),
        "alternates": ("--shared",),
    }.get(kind, ())
    if kind == "sha256":
        git(bench.folder, "init", "-q", "-b", "main", "--object-format=sha256", str(bench.checkout))
        (bench.checkout / "code").write_text("one\n")
        git(bench.checkout, "add", ".")
        git(bench.checkout, "commit", "-q", "-m", "one")
    else:
        git(bench.folder, "clone", "-q", *clone, f"file://{source}", str(bench.checkout))
    if kind == "packed":
        git(bench.checkout, "gc", "-q")
    if kind == "split index":
        git(bench.checkout, "config", "core.splitIndex", "true")
    if kind == "sparse":
        git(bench.checkout, "sparse-checkout", "set", "d0")

    done = confined(
        bench, f"git status --porcelain; git log --oneline; echo two > code; git {AS} commit -qam mine; "
        "git describe --always; echo new > new; git diff --stat"
    )  # fmt: skip

    assert done.kind is SUCCEEDED, bench.log
    assert git(bench.checkout, "show", f"{done.tip}:code") == "two"
    assert git(bench.checkout, "show", f"{done.tip}:new") == "new"
    assert git(bench.checkout, "rev-list", "--count", f"main..{done.tip}") == "2"


@pytest.mark.skipif(shutil.which("git-lfs") is None, reason="needs git-lfs")
@pytest.mark.parametrize("commits", [True, False])
def test_large_files_of_a_confined_todo_arrive(bench: Bench, commits: bool):
    git(bench.checkout, "lfs", "install", "--local", "--skip-smudge")
    git(bench.checkout, "lfs", "install", "--local", "--force")
    shutil.rmtree(bench.checkout / ".git" / "hooks")
    git(bench.checkout, "lfs", "track", "*.bin")
    (bench.checkout / "old.bin").write_text("old\n" * 9)
    git(bench.checkout, "add", ".")
    git(bench.checkout, "commit", "-q", "-m", "large")

    mine = f"git add new.bin; git {AS} commit -qm mine" if commits else "true"
    done = confined(bench, "grep -c old old.bin; echo new > new.bin", mine)

    assert done.kind is SUCCEEDED, bench.log
    for name in ("old.bin", "new.bin"):
        pointer = git(bench.checkout, "show", f"{done.tip}:{name}")
        assert pointer.startswith("version https://git-lfs"), name
        oid = pointer.partition("sha256:")[2].split()[0]
        assert (bench.checkout / ".git" / "lfs" / "objects" / oid[:2] / oid[2:4] / oid).is_file()


def test_a_todo_sees_no_secret_of_the_configuration(bench: Bench):
    git(bench.checkout, "remote", "add", "origin", "https://ann:hidden@example.org/api.git")
    git(bench.checkout, "config", "http.extraHeader", "Authorization: hidden")
    git(bench.checkout, "config", "user.name", 'An "odd" \\ name')

    done = confined(
        bench,
        "git config --list; git remote -v; git config user.name > name; ! git config --list | grep hidden",
    )

    assert done.kind is SUCCEEDED, bench.log
    assert git(bench.checkout, "show", f"{done.tip}:name") == 'An "odd" \\ name'
